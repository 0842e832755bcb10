//! The CNCF distribution registry, as Debian packages it.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{Background, succeed};
use super::token_issuer::{ISSUER, SERVICE, TokenIssuer};

/// Who may use a [`DockerRegistry`].
pub(crate) enum Auth<'a> {
    /// Everyone.
    None,
    /// One user, by HTTP Basic authentication.
    Htpasswd {
        /// Whose password it is.
        user: &'a str,
        /// The password.
        password: &'a str,
    },
    /// Whoever brings a token of this issuer, within what the token grants.
    Token(&'a TokenIssuer),
}

/// A registry on a port of its own, with deletion enabled, that forgets everything when it is dropped.
pub(crate) struct DockerRegistry {
    address: String,
    process: Background,
    _folder: TempDir,
}

impl DockerRegistry {
    /// Starts a registry that speaks plain HTTP.
    pub(crate) fn start(auth: Auth<'_>) -> Self {
        Self::start_in(TempDir::new().unwrap(), auth)
    }

    /// Starts a registry that keeps everything in `folder`.
    pub(crate) fn start_in(folder: TempDir, auth: Auth<'_>) -> Self {
        let file = |name: &str| folder.path().join(name);
        let mut config = json!({
            "version": "0.1",
            "log": { "formatter": "json" },
            "storage": { "filesystem": { "rootdirectory": file("storage") }, "delete": { "enabled": true } },
            "http": { "addr": "127.0.0.1:0", "secret": "shared by the registry's instances, of which there is one" },
        });
        match auth {
            Auth::None => {}
            Auth::Htpasswd { user, password } => {
                // The registry takes bcrypt only, that is `-B`.
                let entry =
                    Command::new("htpasswd").args(["-B", "-b", "-n", user, password]).output().unwrap();
                fs::write(file("htpasswd"), succeed(entry)).unwrap();
                config["auth"] = json!({ "htpasswd": { "realm": "registry", "path": file("htpasswd") } });
            }
            Auth::Token(issuer) => {
                fs::write(file("issuer.pem"), issuer.certificate()).unwrap();
                config["auth"] = json!({ "token": {
                    "realm": issuer.realm(), "service": SERVICE, "issuer": ISSUER, "rootcertbundle": file("issuer.pem"),
                }});
            }
        }
        // JSON is YAML.
        fs::write(file("config.yml"), config.to_string()).unwrap();
        let mut process = Background::start(
            Command::new("docker-registry").arg("serve").arg(file("config.yml")),
            &file("log"),
        );
        let address = process.wait_until(|log| log.lines().find_map(address_in));
        Self { address, process, _folder: folder }
    }

    /// Host and port, as they stand before the first `/` of an image reference.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

/// The address that a line of the registry's log announces: the only place to learn the port the system chose.
fn address_in(line: &str) -> Option<String> {
    let entry: Value = serde_json::from_str(line).ok()?;
    entry["msg"].as_str()?.strip_prefix("listening on ").map(str::to_owned)
}
