//! Layer records: whose are believed here, and who signs those of this host.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Driver;
use crate::admin::Isolation;
use crate::failure::Failure;
use crate::nix::SecretKey;
use crate::oci::{Repository, Tag};
use crate::pipeline::{RecordStore, Reuse};
use crate::record::Trust;
use crate::sandbox;

/// More than a key of any length has.
const MOST_KEY: u64 = 4096;

impl Driver<'_> {
    /// What may spare a build its layers. What of it cannot be had is told to `say`, and missed.
    ///
    /// Where job scripts run without a sandbox, they can read and write what the driver can: there is no key
    /// then, and no record of this host counts.
    pub fn reuse(
        &self,
        from: Vec<(Repository, Tag)>,
        verify: bool,
        say: &dyn Fn(&str),
    ) -> Result<Reuse, Failure> {
        let config = &self.config.records;
        let mut trust = Trust { signer: None, public_keys: config.public_keys.clone() };
        if self.config.sandbox == Isolation::None {
            if config.key_file.is_some() {
                say("layer records are not signed: with `sandbox: none`, jobs could read the key");
            }
            return Ok(Reuse { trust, store: None, from, verify });
        }
        if let Some(file) = &config.key_file {
            trust.signer = Some(Arc::new(self.signing_key(file)?));
        }
        let folder = self.config.state_dir.join("records");
        let shown = folder.display().to_string();
        let store = RecordStore::open(folder).inspect_err(|error| {
            say(&format!(
                "this host keeps no layer records in `{shown}`: {error}; `state_dir` of the configuration names another place"
            ));
        });
        let store = store.ok();
        Ok(Reuse { trust, store, from, verify })
    }

    fn signing_key(&self, file: &Path) -> Result<SecretKey, Failure> {
        let what = format!("use the key of layer records in `{}`", file.display());
        let refused = |reason: &str, fix: &str| {
            Failure::cannot::<String>(what.clone())(reason.to_owned()).fix(fix.to_owned())
        };
        let fix = "let the runner's user read it, or remove `records.key_file` from the configuration";
        let failed = |error| Failure::cannot::<std::io::Error>(what.clone())(error).fix(fix);
        let place = file.canonicalize().map_err(failed)?;
        let metadata = fs::metadata(&place).map_err(failed)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
            return Err(refused(
                "others can read it, or own it",
                "make it the runner's user's own with `chown`, and nobody else's with `chmod 600`",
            ));
        }
        let own = [&self.config.builds_dir, &self.config.cache_dir].into_iter();
        let search_path = self.config.nix.search_path.values().map(PathBuf::from);
        let mut shown = own.chain(&self.config.scripts.read_only).cloned().chain(search_path);
        let holds_it = |folder: PathBuf| place.starts_with(folder.canonicalize().unwrap_or(folder));
        if sandbox::is_shown(&place) || shown.any(holds_it) {
            return Err(refused("jobs can read it there", "keep it in a folder such as `/etc/nixlayer`"));
        }
        if metadata.len() > MOST_KEY {
            return Err(refused("it is too large for a key", "make one with `nixlayer keygen`"));
        }
        let text = zeroize::Zeroizing::new(fs::read_to_string(&place).map_err(failed)?);
        text.trim_end().parse().map_err(|error: crate::nix::SecretKeyError| {
            Failure::cannot(what.clone())(error).fix("make a key with `nixlayer keygen`")
        })
    }
}
