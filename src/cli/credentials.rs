//! Credentials of the person at the keyboard, where Docker, Podman and skopeo keep them too.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use rustix::process::getuid;
use serde_json::Value;

use crate::failure::Failure;
use crate::oci::Repository;
use crate::publish::Credentials;

/// Why a file of credentials is of no use.
#[derive(Debug, thiserror::Error)]
#[error("the credentials in `{}` cannot be used", .file.display())]
struct Unusable {
    file: PathBuf,
    source: Box<dyn Error + Send + Sync>,
}

/// The credentials for `repository`; nobody's where there are none.
///
/// `REGISTRY_AUTH_FILE` names the file, else they are in the first of [`usual_files`] that has some for it.
pub(super) fn for_repository(
    repository: &Repository,
    environment: &BTreeMap<OsString, OsString>,
) -> Result<Credentials, Failure> {
    if let Some(file) = variable(environment, "REGISTRY_AUTH_FILE") {
        let read = std::fs::read(&file).map_err(|error| {
            let fix = "let `REGISTRY_AUTH_FILE` name a file that can be read, or unset it and log in to the registry";
            Failure::build(Unusable { file: file.clone(), source: error.into() }, fix)
        });
        return Ok(in_file(&file, &read?, repository)?.unwrap_or(Credentials::Anonymous));
    }
    // Folders that cannot be entered are somebody else's.
    for file in usual_files(environment, getuid().as_raw()).into_iter().filter(|file| file.exists()) {
        let text = std::fs::read(&file).map_err(|error| unusable(&file, error.into()))?;
        if let Some(credentials) = in_file(&file, &text, repository)? {
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

/// What a file says of `repository`, if anything.
fn in_file(file: &Path, text: &[u8], repository: &Repository) -> Result<Option<Credentials>, Failure> {
    // The library does not say where it is wrong.
    let kept: Value = serde_json::from_slice(text).map_err(|error| unusable(file, error.into()))?;
    let below = namespaces(repository).filter(|name| kept["auths"].get(name).is_some());
    // Docker files its own registry under the address that it had in 2013, Podman and skopeo under its name.
    let registry: &[&str] = match repository.registry() {
        "docker.io" => &["https://index.docker.io/v1/", "docker.io"],
        registry => &[registry],
    };
    for name in below.chain(registry.iter().map(|&name| name.to_owned())) {
        let source = match get_credential_from_reader(text, &name) {
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

/// What a login may be for within a registry, the repository itself first (containers-auth.json(5)).
fn namespaces(repository: &Repository) -> impl Iterator<Item = String> {
    let whole = repository.to_string();
    let ends: Vec<usize> = whole.match_indices('/').map(|(at, _)| at).skip(1).chain([whole.len()]).collect();
    ends.into_iter().rev().map(move |end| whole[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

    /// Who logs in to push to `repository`, of users who are called as what they have logged in to.
    fn user(repository: &str, logins: &[&str]) -> Option<String> {
        let auths =
            logins.iter().map(|name| (name.to_string(), json!({ "username": name, "password": "x" })));
        let text = json!({ "auths": auths.collect::<BTreeMap<_, _>>() }).to_string();
        let found = in_file(Path::new("auth.json"), text.as_bytes(), &repository.parse().unwrap()).unwrap();
        found.map(|credentials| match credentials {
            Credentials::Password { user, .. } => user,
            Credentials::Anonymous => panic!("{text} has a login of nobody"),
        })
    }

    #[test]
    fn dockers_own_registry_is_known_by_both_of_its_names() {
        for name in ["docker.io", "https://index.docker.io/v1/"] {
            assert_eq!(user("docker.io/team/app", &[name]).as_deref(), Some(name));
        }
    }

    /// The order of containers-auth.json(5).
    #[test]
    fn the_login_for_the_most_of_a_repository_counts() {
        let all = ["r.example", "r.example/team", "r.example/team/app", "r.example/team/app/web"];
        for (repository, of) in [
            ("r.example/team/app/web", 3),
            ("r.example/team/app", 2),
            ("r.example/team/other/web", 1),
            ("r.example/teams/app", 0),
        ] {
            assert_eq!(user(repository, &all).as_deref(), Some(all[of]), "{repository}");
        }
        assert_eq!(user("r.example/team/app", &["r.example/team/app/web", "r.example/other"]), None);
    }
}
