//! Credentials of the person at the keyboard, where Docker, Podman and skopeo keep them too.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};

use crate::failure::Failure;
use crate::publish::Credentials;

/// The credentials for `registry`; nobody's where there are none.
///
/// `REGISTRY_AUTH_FILE` names the file, else it is `config.json` in `DOCKER_CONFIG` or `~/.docker`.
pub(super) fn for_registry(
    registry: &str,
    environment: &BTreeMap<OsString, OsString>,
) -> Result<Credentials, Failure> {
    let Some(path) = file(environment) else { return Ok(Credentials::Anonymous) };
    let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| {
        Failure::build(error, format!("mend `{}`, or log in to the registry again", path.display()))
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Credentials::Anonymous),
        Err(error) => return Err(unreadable(error.into())),
    };
    // Docker files its own registry under the address that it had in 2013.
    let server = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    match get_credential_from_reader(file, server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Credentials::Password { user, password: password.as_str().into() })
        }
        Ok(DockerCredential::IdentityToken(_)) => Err(unreadable(
            "the registry's credentials are an identity token, which only Docker can use".into(),
        )),
        Err(CredentialRetrievalError::NoCredentialConfigured | CredentialRetrievalError::ConfigNotFound) => {
            Ok(Credentials::Anonymous)
        }
        Err(error) => Err(unreadable(error.into())),
    }
}

fn file(environment: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
    let variable =
        |name: &str| environment.get(OsStr::new(name)).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("REGISTRY_AUTH_FILE")
        .or_else(|| Some(variable("DOCKER_CONFIG")?.join("config.json")))
        .or_else(|| Some(variable("HOME")?.join(".docker/config.json")))
}
