//! What a stage uses of the host and the network, set up as the admin decided.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use super::Driver;
use crate::admin::{AdminConfig, Isolation};
use crate::failure::Failure;
use crate::http::{Http, HttpSettings};
use crate::job::Job;
use crate::pipeline::Effort;
use crate::publish::{Credentials, Registry};
use crate::sandbox::Sandbox;
use crate::secret::Secret;
use crate::source::nix::{Nix, NixSettings};

impl Driver<'_> {
    /// What job scripts and Nix run in.
    pub fn sandbox(&self) -> Result<Sandbox, Failure> {
        let path = &self.config.scripts.path;
        match self.config.sandbox {
            Isolation::None => Ok(Sandbox::None),
            Isolation::Bubblewrap => Sandbox::bubblewrap_in(path).ok_or_else(|| {
                Failure::system(format!("there is no `bwrap` in `{path}`"))
                    .fix("install bubblewrap on the runner's host, or add its folder to `scripts.path`")
            }),
        }
    }

    /// The host's Nix.
    /// `fetched` keeps its downloads, `scratch` is for what is of no use afterwards.
    pub fn nix(&self, sandbox: &Sandbox, fetched: &Path, scratch: &Path) -> Nix {
        let settings = NixSettings {
            programs: self.config.nix.programs.clone(),
            store: self.config.nix.store,
            search_path: self.search_path(),
            options: self.config.nix.options.clone(),
            environment: self.environment_of_children(),
            fetched: fetched.to_owned(),
            scratch: scratch.to_owned(),
        };
        Nix::new(settings, sandbox.clone())
    }

    /// The admin's search path, else that of the admin's environment.
    fn search_path(&self) -> String {
        let configured: Vec<String> =
            self.config.nix.search_path.iter().map(|(name, place)| format!("{name}={place}")).collect();
        let inherited = || Some(self.host.get(OsStr::new("NIX_PATH"))?.to_string_lossy().into_owned());
        if configured.is_empty() { inherited().unwrap_or_default() } else { configured.join(":") }
    }

    /// The registry of the job's GitLab, entered with the job's own credentials.
    pub(super) fn job_registry(&self, job: &Job) -> Result<Registry, Failure> {
        let registry = job.registry()?;
        let credentials =
            Credentials::Password { user: registry.user.clone(), password: registry.password.clone() };
        self.registry(&registry.host, credentials, Some(&job.gitlab_host))
    }

    /// The registry at `host`; `token_host` may give out its tokens, beside those that the admin names.
    pub fn registry(
        &self,
        host: &str,
        credentials: Credentials,
        token_host: Option<&str>,
    ) -> Result<Registry, Failure> {
        let config = self.config.registries.get(host);
        let mut token_hosts = config.map(|config| config.token_hosts.clone()).unwrap_or_default();
        token_hosts.extend(token_host.map(str::to_owned));
        Ok(Registry::new(Arc::new(self.http()?), host, credentials, token_hosts))
    }

    /// How much of the machine a build takes.
    pub fn effort(&self) -> Effort {
        let limits = &self.config.limits;
        Effort { threads: limits.threads, uploads: limits.uploads, chunk: limits.chunk }
    }

    fn http(&self) -> Result<Http, Failure> {
        let variable = |names: [&str; 2]| {
            let value = names.iter().find_map(|name| self.host.get(OsStr::new(name)));
            value.map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
        };
        let settings = HttpSettings {
            plain_http: plain_http_hosts(self.config),
            ca_files: ca_files(self.config)?,
            https_proxy: variable(["HTTPS_PROXY", "https_proxy"]).map(Secret::from),
            no_proxy: variable(["NO_PROXY", "no_proxy"]),
            ..HttpSettings::default()
        };
        Ok(Http::new(settings)?)
    }
}

fn plain_http_hosts(config: &AdminConfig) -> BTreeSet<String> {
    let plain = config.registries.iter().filter(|(_, registry)| registry.plain_http);
    plain.map(|(host, _)| host.clone()).collect()
}

fn ca_files(config: &AdminConfig) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut files = BTreeMap::new();
    for (host, registry) in &config.registries {
        if let Some(file) = &registry.ca_file {
            let bytes = std::fs::read(file).map_err(|error| {
                Failure::system(error).fix(format!(
                    "let the runner's user read `{}`, the `ca_file` of `{host}`",
                    file.display()
                ))
            })?;
            files.insert(host.clone(), bytes);
        }
    }
    Ok(files)
}
