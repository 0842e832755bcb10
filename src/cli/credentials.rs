//! Credentials of the person at the keyboard, where Docker, Podman and skopeo keep them too.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use rustix::process::getuid;
use serde::de::IgnoredAny;

use crate::failure::Failure;
use crate::publish::Credentials;

/// Why a file of credentials is of no use.
#[derive(Debug, thiserror::Error)]
#[error("the credentials in `{}` cannot be used", .file.display())]
struct Unusable {
    file: PathBuf,
    source: Box<dyn Error + Send + Sync>,
}

/// The credentials for `registry`; nobody's where there are none.
///
/// `REGISTRY_AUTH_FILE` names the file, else they are in the first of [`usual_files`] that has some for it.
pub(super) fn for_registry(
    registry: &str,
    environment: &BTreeMap<OsString, OsString>,
) -> Result<Credentials, Failure> {
    if let Some(file) = variable(environment, "REGISTRY_AUTH_FILE") {
        let read = std::fs::read(&file).map_err(|error| {
            let fix = "let `REGISTRY_AUTH_FILE` name a file that can be read, or unset it and log in to the registry";
            Failure::build(Unusable { file: file.clone(), source: error.into() }, fix)
        });
        return Ok(in_file(&file, &read?, registry)?.unwrap_or(Credentials::Anonymous));
    }
    // Folders that cannot be entered are somebody else's.
    for file in usual_files(environment, getuid().as_raw()).into_iter().filter(|file| file.exists()) {
        let text = std::fs::read(&file).map_err(|error| unusable(&file, error.into()))?;
        if let Some(credentials) = in_file(&file, &text, registry)? {
            return Ok(credentials);
        }
    }
    Ok(Credentials::Anonymous)
}

/// Where logins are kept, in the order of containers-auth.json(5).
fn usual_files(environment: &BTreeMap<OsString, OsString>, user: u32) -> Vec<PathBuf> {
    let folder = |name: &str, of_home: &str| {
        variable(environment, name).or_else(|| Some(variable(environment, "HOME")?.join(of_home)))
    };
    let login =
        variable(environment, "XDG_RUNTIME_DIR").map_or_else(|| of_user(user), |run| run.join("containers"));
    let kept = folder("XDG_CONFIG_HOME", ".config").map(|config| config.join("containers/auth.json"));
    let dockers = folder("DOCKER_CONFIG", ".docker").map(|config| config.join("config.json"));
    std::iter::once(login.join("auth.json")).chain(kept).chain(dockers).collect()
}

/// Where Podman and skopeo keep logins where no session has a folder, as in a job's container.
fn of_user(user: u32) -> PathBuf {
    format!("/run/containers/{user}").into()
}

fn variable(environment: &BTreeMap<OsString, OsString>, name: &str) -> Option<PathBuf> {
    environment.get(OsStr::new(name)).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn unusable(file: &Path, source: Box<dyn Error + Send + Sync>) -> Failure {
    let fix = format!("mend `{}`, or log in to the registry again", file.display());
    Failure::build(Unusable { file: file.to_owned(), source }, fix)
}

/// What a file says of `registry`, if anything.
fn in_file(file: &Path, text: &[u8], registry: &str) -> Result<Option<Credentials>, Failure> {
    // The library does not say where it is wrong.
    serde_json::from_slice::<IgnoredAny>(text).map_err(|error| unusable(file, error.into()))?;
    // Docker files its own registry under the address that it had in 2013, Podman and skopeo under its name.
    let names: &[&str] = match registry {
        "docker.io" => &["https://index.docker.io/v1/", registry],
        _ => &[registry],
    };
    for name in names {
        let source = match get_credential_from_reader(text, name) {
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                return Ok(Some(Credentials::Password { user, password: password.as_str().into() }));
            }
            Ok(DockerCredential::IdentityToken(_)) => {
                "those of the registry are an identity token, which only Docker can use".into()
            }
            Err(CredentialRetrievalError::NoCredentialConfigured) => continue,
            Err(CredentialRetrievalError::ConfigReadError) => {
                "it has not the form that `docker login` and `skopeo login` give it".into()
            }
            Err(error) => error.into(),
        };
        return Err(unusable(file, source));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(variables: &[(&str, &str)]) -> Vec<String> {
        let environment = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        usual_files(&environment, 1000).iter().map(|file| file.display().to_string()).collect()
    }

    #[test]
    fn logins_are_looked_for_where_each_program_keeps_them() {
        assert_eq!(
            files(&[("HOME", "/home/ada"), ("XDG_RUNTIME_DIR", "/run/user/1000")]),
            [
                "/run/user/1000/containers/auth.json",
                "/home/ada/.config/containers/auth.json",
                "/home/ada/.docker/config.json",
            ],
        );
        assert_eq!(
            files(&[("HOME", "/home/ada"), ("DOCKER_CONFIG", "/login"), ("XDG_CONFIG_HOME", "")]),
            [
                "/run/containers/1000/auth.json",
                "/home/ada/.config/containers/auth.json",
                "/login/config.json"
            ],
        );
    }

    #[test]
    fn dockers_own_registry_is_known_by_both_of_its_names() {
        for name in ["docker.io", "https://index.docker.io/v1/"] {
            let text = format!(r#"{{"auths":{{"{name}":{{"username":"ada","password":"x"}}}}}}"#);

            let found = in_file(Path::new("auth.json"), text.as_bytes(), "docker.io").unwrap();

            assert!(matches!(found, Some(Credentials::Password { .. })), "{name}");
        }
    }
}
