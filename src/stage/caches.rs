//! The binary caches of a build: those of the admin, and those that the spec adds.

use std::path::Path;
use std::sync::Arc;

use super::Driver;
use crate::admin::{CacheConfig, CacheUse};
use crate::failure::Failure;
use crate::folder::Folder;
use crate::http::{Request, authority};
use crate::secret::Secret;
use crate::source::binary_cache::{BinaryCaches, CachePlace, CacheSettings, basic_credentials};
use crate::spec::{CacheName, ImageSpec};
use crate::yaml::KeyPath;

impl Driver<'_> {
    /// Checks that the spec adds no cache that the admin does not list.
    pub(super) fn check_caches(&self, spec: &ImageSpec) -> Result<(), Failure> {
        for (index, name) in spec.caches.iter().enumerate() {
            if let CacheName::Url(url) = name
                && !self.config.caches.contains_key(url)
            {
                let reason = format!("the admin of this machine does not list `{url}`");
                let fix = "ask for it to be listed in `caches` of the admin's configuration, or leave it out";
                return Err(spec.error_at(&KeyPath::root().key("caches").index(index), reason, fix).into());
            }
        }
        Ok(())
    }

    /// The binary caches of the admin, and those that `spec` adds of what the admin allows; none if nothing
    /// of the build comes from them.
    pub fn binary_caches(
        &self,
        spec: &ImageSpec,
        project: &Folder,
        wanted: bool,
    ) -> Result<Arc<BinaryCaches>, Failure> {
        let mut settings = Vec::new();
        if wanted {
            self.check_caches(spec)?;
            for (index, name) in spec.caches.iter().enumerate() {
                if let CacheName::Folder(folder) = name {
                    let opened = project.dir().open_dir(folder.as_str()).map_err(|error| {
                        let reason = format!("`{name}` cannot be opened: {error}");
                        let key = KeyPath::root().key("caches").index(index);
                        spec.error_at(&key, reason, "name a folder of the project")
                    })?;
                    let place = CachePlace::Folder(Arc::new(opened));
                    settings.push(CacheSettings::new(name.to_string(), place));
                }
            }
            let named = |url: &str| spec.caches.contains(&CacheName::Url(url.to_owned()));
            for (url, config) in &self.config.caches {
                if config.used == CacheUse::Always || named(url) {
                    settings.push(settings_of(url, config)?);
                }
            }
        }
        let http = Arc::new(self.http(self.config.limits.patience, None)?);
        Ok(Arc::new(BinaryCaches::new(http, settings, self.config.require_signatures)))
    }
}

/// How to reach a cache that the admin lists; the credentials are read here.
fn settings_of(url: &str, config: &CacheConfig) -> Result<CacheSettings, Failure> {
    let read = |file: &Path| {
        let doing = format!("read `{}`, which `caches.\"{url}\"` names", file.display());
        let read = std::fs::read_to_string(file).map_err(Failure::cannot(doing));
        read.map_err(|failure| failure.fix("let the runner's user read it"))
    };
    let place = match url.strip_prefix("file://") {
        Some(folder) => CachePlace::Path(folder.into()),
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
        public_keys: config.public_keys.clone(),
        priority: config.priority,
        authorization: authorization.map(Arc::new),
        ..CacheSettings::new(url.to_owned(), place)
    })
}

/// Host and port of a cache behind HTTP.
pub(super) fn cache_host(url: &str) -> Option<String> {
    let url = Request::url(url).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| authority(&url))
}
