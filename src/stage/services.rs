//! What a stage uses of the host and the network, set up as the admin decided.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Driver;
use super::caches::cache_host;
use super::certificates::{ca_files, client_certificates, gitlab_certificates, runner_certificates};
use crate::admin::{AdminConfig, Isolation};
use crate::failure::Failure;
use crate::http::{FoundCertificates, Http, HttpSettings, Patience};
use crate::job::Job;
use crate::pipeline::Effort;
use crate::publish::{Credentials, Registry};
use crate::sandbox::Sandbox;
use crate::secret::Secret;
use crate::source::nix::{Checkouts, Nix, NixSettings};

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
    pub fn nix(&self, sandbox: &Sandbox, fetched: &Path, scratch: &Path, checkouts: Checkouts) -> Nix {
        let settings = NixSettings {
            programs: self.config.nix.programs.clone(),
            store: self.config.nix.store,
            search_path: self.search_path(),
            options: self.config.nix.options.clone(),
            environment: self.environment_of_children(),
            fetched: fetched.to_owned(),
            scratch: scratch.to_owned(),
            checkouts,
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
    ///
    /// `patience` bounds how long it is asked again when it may recover.
    pub(super) fn job_registry(&self, job: &Job, patience: Duration) -> Result<Registry, Failure> {
        let registry = job.registry()?;
        let credentials =
            Credentials::Password { user: registry.user.clone(), password: registry.password.clone() };
        let http = self.http(patience, gitlab_certificates(job))?;
        Ok(self.registry_through(http, &registry.host, credentials, Some(&job.gitlab_host)))
    }

    /// The registry at `host`; `token_host` may give out its tokens, beside those that the admin names.
    pub fn registry(
        &self,
        host: &str,
        credentials: Credentials,
        token_host: Option<&str>,
    ) -> Result<Registry, Failure> {
        Ok(self.registry_through(
            self.http(self.config.limits.patience, None)?,
            host,
            credentials,
            token_host,
        ))
    }

    fn registry_through(
        &self,
        http: Http,
        host: &str,
        credentials: Credentials,
        token_host: Option<&str>,
    ) -> Registry {
        let config = self.config.registries.get(host);
        let mut token_hosts = config.map(|config| config.token_hosts.clone()).unwrap_or_default();
        token_hosts.extend(token_host.map(str::to_owned));
        Registry::new(Arc::new(http), host, credentials, token_hosts)
    }

    /// How much of the machine a build takes whose image goes to the registry at `host`, or to none.
    pub fn effort(&self, host: Option<&str>) -> Effort {
        let limits = &self.config.limits;
        let own = host.and_then(|host| self.config.registries.get(host)?.chunk);
        Effort { threads: limits.threads, uploads: limits.uploads, chunk: own.unwrap_or(limits.chunk) }
    }

    /// A client that trusts what the admin, the runner and `more` give.
    pub(super) fn http(&self, patience: Duration, more: Option<FoundCertificates>) -> Result<Http, Failure> {
        let variable = |names: [&str; 2]| {
            let value = names.iter().find_map(|name| self.host.get(OsStr::new(name)));
            value.map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
        };
        let settings = HttpSettings {
            plain_http: plain_http_hosts(self.config),
            ca_files: ca_files(self.config)?,
            client_certificates: client_certificates(self.config)?,
            found_certificates: runner_certificates(&self.config.runner_certs)
                .into_iter()
                .chain(more)
                .collect(),
            trusted_hosts: trusted_hosts(self.config),
            https_proxy: variable(["HTTPS_PROXY", "https_proxy"]).map(Secret::from),
            no_proxy: variable(["NO_PROXY", "no_proxy"]),
            patience: Patience { budget: patience, ..Patience::default() },
            notice: self.notice.clone(),
            now: self.now,
            ..HttpSettings::default()
        };
        Ok(Http::new(settings)?)
    }
}

fn plain_http_hosts(config: &AdminConfig) -> BTreeSet<String> {
    let registries = config.registries.iter().filter(|(_, registry)| registry.plain_http);
    let registries = registries.map(|(host, _)| host.clone());
    // Whoever lists `http://` wants it.
    let caches = config.caches.keys().filter(|url| url.starts_with("http://"));
    registries.chain(caches.filter_map(|url| cache_host(url))).collect()
}

/// The hosts that the admin names, wherever they are.
fn trusted_hosts(config: &AdminConfig) -> BTreeSet<String> {
    let caches = config.caches.keys().filter_map(|url| cache_host(url));
    config.trusted_hosts.iter().chain(config.registries.keys()).cloned().chain(caches).collect()
}
