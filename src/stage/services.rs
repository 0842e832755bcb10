//! What a stage uses of the host and the network, set up as the admin decided.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::Driver;
use super::certificates::{ca_files, client_certificates, gitlab_certificates, runner_certificates};
use crate::admin::{AdminConfig, CacheConfig, CacheUse, Isolation};
use crate::failure::Failure;
use crate::folder::Folder;
use crate::http::{FoundCertificates, Http, HttpSettings, Patience, Request, authority};
use crate::job::Job;
use crate::pipeline::Effort;
use crate::publish::{Credentials, Registry};
use crate::sandbox::Sandbox;
use crate::secret::Secret;
use crate::source::binary_cache::{BinaryCaches, CachePlace, CacheSettings, basic_credentials};
use crate::source::nix::{Nix, NixSettings};
use crate::spec::{CacheName, ImageSpec};
use crate::yaml::KeyPath;

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

    /// The binary caches of the admin, and those that `spec` adds of what the admin allows.
    pub fn binary_caches(&self, spec: &ImageSpec, project: &Folder) -> Result<Arc<BinaryCaches>, Failure> {
        let mut settings = Vec::new();
        for (index, name) in spec.caches.iter().enumerate() {
            let refused = |reason: String, fix: &str| -> Failure {
                spec.error_at(&KeyPath::root().key("caches").index(index), reason, fix).into()
            };
            match name {
                CacheName::Folder(folder) => {
                    let opened = project.dir().open_dir(folder.as_str()).map_err(|error| {
                        refused(format!("`{name}` cannot be opened: {error}"), "name a folder of the project")
                    })?;
                    settings.push(CacheSettings {
                        name: name.to_string(),
                        place: CachePlace::Folder(Arc::new(opened)),
                        public_keys: Vec::new(),
                        priority: None,
                        authorization: None,
                    });
                }
                CacheName::Url(url) if self.config.caches.contains_key(url) => {}
                CacheName::Url(url) => {
                    return Err(refused(
                        format!("the admin of this machine does not list `{url}`"),
                        "ask for it to be listed in `caches` of the admin's configuration, or leave it out",
                    ));
                }
            }
        }
        let named =
            |url: &str| spec.caches.iter().any(|name| matches!(name, CacheName::Url(named) if named == url));
        for (url, config) in &self.config.caches {
            if config.used == CacheUse::Always || named(url) {
                settings.push(cache_settings(url, config)?);
            }
        }
        let http = Arc::new(self.http(self.config.limits.patience, None)?);
        Ok(Arc::new(BinaryCaches::new(http, settings, self.config.require_signatures)))
    }

    /// How much of the machine a build takes whose image goes to the registry at `host`, or to none.
    pub fn effort(&self, host: Option<&str>) -> Effort {
        let limits = &self.config.limits;
        let own = host.and_then(|host| self.config.registries.get(host)?.chunk);
        Effort { threads: limits.threads, uploads: limits.uploads, chunk: own.unwrap_or(limits.chunk) }
    }

    /// A client that trusts what the admin, the runner and `more` give.
    fn http(&self, patience: Duration, more: Option<FoundCertificates>) -> Result<Http, Failure> {
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

/// How to reach a cache that the admin lists; the credentials are read here.
fn cache_settings(url: &str, config: &CacheConfig) -> Result<CacheSettings, Failure> {
    let read = |file: &Path| {
        std::fs::read_to_string(file).map_err(|error| {
            Failure::system(error).fix(format!(
                "let the runner's user read `{}`, which `caches.\"{url}\"` names",
                file.display()
            ))
        })
    };
    let place = match url.strip_prefix("file://") {
        Some(folder) => {
            let opened = Dir::open_ambient_dir(folder, ambient_authority()).map_err(|error| {
                Failure::system(error)
                    .fix(format!("let `{folder}` be a folder that the runner's user can read"))
            })?;
            CachePlace::Folder(Arc::new(opened))
        }
        None => CachePlace::Http(Request::url(&format!("{url}/"))?),
    };
    let mut authorization = None;
    if let CachePlace::Http(root) = &place {
        if let Some(file) = &config.token_file {
            authorization = Some(Secret::from(format!("Bearer {}", read(file)?.trim())));
        } else if let Some(file) = &config.netrc_file {
            authorization = basic_credentials(&read(file)?, root.host_str().unwrap_or_default());
        }
    }
    Ok(CacheSettings {
        name: url.to_owned(),
        place,
        public_keys: config.public_keys.clone(),
        priority: config.priority,
        authorization: authorization.map(Arc::new),
    })
}

/// Host and port of a cache behind HTTP.
pub(super) fn cache_host(url: &str) -> Option<String> {
    let url = Request::url(url).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| authority(&url))
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
