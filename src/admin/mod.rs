//! The admin's configuration, `/etc/nixlayer/config.yaml`.
//!
//! Every key has a default that is safe on a runner that many projects share, so the file may be
//! missing. Unknown keys are errors with line and column: a slip in a security setting must not
//! pass for its default. `docs/admin.md` lists the keys with their defaults and reasons.

mod caches;
mod records;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use self::caches::{CacheConfig, CacheUse};
pub use self::records::RecordsConfig;
use self::values::{absolute_path, chunk, client_files, hosts, read_absolute_path, texts};
use crate::source::binary_cache::RequireSignatures;
use crate::source::nix::StoreAccess;
use crate::yaml::{Document, Error, Value};

/// Where the configuration is unless `--config` says otherwise.
pub const DEFAULT_FILE: &str = "/etc/nixlayer/config.yaml";

/// What the admin decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// How job scripts and Nix are kept apart from the host.
    pub sandbox: Isolation,
    /// Where Nix is and how it is used.
    pub nix: NixConfig,
    /// Binary caches, by URL.
    pub caches: BTreeMap<String, CacheConfig>,
    /// Which of their narinfos must be signed.
    pub require_signatures: RequireSignatures,
    /// Which layer records are believed, and who signs them.
    pub records: RecordsConfig,
    /// What is special about a registry, by host with optional port.
    pub registries: BTreeMap<String, RegistryConfig>,
    /// Hosts to which redirects may lead also at private and loopback addresses, beside those listed above.
    pub trusted_hosts: BTreeSet<String>,
    /// Where the runner looks for the certificates of hosts, `HOST.crt`.
    pub runner_certs: PathBuf,
    /// Where the folders of running jobs are.
    pub builds_dir: PathBuf,
    /// Where GitLab's job caches are.
    pub cache_dir: PathBuf,
    /// Where the driver keeps what jobs must not see.
    pub state_dir: PathBuf,
    /// How job scripts run.
    pub scripts: ScriptConfig,
    /// Bounds on what a job takes.
    pub limits: Limits,
}

/// How job scripts and Nix are kept apart from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// By bubblewrap, which is searched in `scripts.path`.
    Bubblewrap,
    /// Not at all.
    None,
}

/// Where Nix is and how it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NixConfig {
    /// The folder of the Nix commands; searched in `scripts.path` if none is given.
    pub programs: Option<PathBuf>,
    /// Which process writes to the store.
    pub store: StoreAccess,
    /// What `<NAME>` means in a spec.
    pub search_path: BTreeMap<String, String>,
    /// Settings of `nix.conf` for the driver's commands.
    pub options: BTreeMap<String, String>,
}

/// The files of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What is special about one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Certificates trusted for this host beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The files of what is shown to it where it wants to know who asks.
    pub client_certificate: Option<ClientFiles>,
    /// Whether it is spoken to without TLS.
    pub plain_http: bool,
    /// Hosts beside the registry's and GitLab's that may ask for the job's credentials.
    pub token_hosts: BTreeSet<String>,
    /// How many bytes of a blob are sent to it in one request, if not as many as to others.
    pub chunk: Option<usize>,
}

/// How job scripts run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptConfig {
    /// The shell that the runner writes scripts for.
    pub shell: String,
    /// `PATH` of scripts and of Nix.
    pub path: String,
    /// Variables that every script gets.
    pub environment: BTreeMap<String, String>,
    /// Files and folders of the host that scripts may read beside the usual ones.
    pub read_only: Vec<PathBuf>,
}

/// Bounds on what a job takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a script that is asked to end may take.
    pub grace: Duration,
    /// How many threads compress.
    pub threads: NonZeroUsize,
    /// How many blobs are uploaded at a time.
    pub uploads: NonZeroUsize,
    /// How many bytes of a blob are kept in memory until the registry has them.
    pub chunk: usize,
    /// For how long a server that may recover is asked again.
    pub patience: Duration,
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:\
                            /run/current-system/sw/bin:/nix/var/nix/profiles/default/bin";

/// What the defaults depend on.
#[derive(Clone, Debug)]
pub struct Host {
    /// The folder that holds the driver's state: `/var/lib/nixlayer` for root, else in the home of
    /// the runner's user.
    pub state_dir: PathBuf,
    /// The folder `certs` beside the configuration of GitLab Runner.
    pub runner_certs: PathBuf,
    /// How many threads the machine runs at once.
    pub threads: NonZeroUsize,
}

impl AdminConfig {
    /// What holds where the admin decided nothing.
    pub fn defaults(host: &Host) -> Self {
        Self {
            sandbox: Isolation::Bubblewrap,
            nix: NixConfig::default(),
            caches: BTreeMap::new(),
            require_signatures: RequireSignatures::default(),
            records: RecordsConfig::default(),
            registries: BTreeMap::new(),
            trusted_hosts: BTreeSet::new(),
            runner_certs: host.runner_certs.clone(),
            builds_dir: host.state_dir.join("builds"),
            cache_dir: host.state_dir.join("cache"),
            state_dir: host.state_dir.clone(),
            scripts: ScriptConfig {
                shell: "bash".to_owned(),
                path: DEFAULT_PATH.to_owned(),
                environment: BTreeMap::new(),
                read_only: Vec::new(),
            },
            limits: Limits {
                grace: Duration::from_secs(10),
                threads: host.threads,
                uploads: NonZeroUsize::MIN.saturating_add(3),
                chunk: 16 << 20,
                patience: Duration::from_secs(600),
            },
        }
    }

    /// Reads the configuration in `bytes`, the content of `file`.
    pub fn parse(file: &str, bytes: &[u8], host: &Host) -> Result<Self, Error> {
        let mut config = Self::defaults(host);
        let document = Document::parse(file, bytes)?;
        let fields = document.root().fields(&[
            "sandbox",
            "nix",
            "caches",
            "require_signatures",
            "records",
            "registries",
            "trusted_hosts",
            "runner_certs",
            "builds_dir",
            "cache_dir",
            "state_dir",
            "scripts",
            "limits",
        ])?;
        if let Some(state_dir) = absolute_path(&fields, "state_dir")? {
            config = Self::defaults(&Host { state_dir, ..host.clone() });
        }
        if let Some(sandbox) = fields.get("sandbox") {
            config.sandbox =
                sandbox.word(&[("bubblewrap", Isolation::Bubblewrap), ("none", Isolation::None)])?;
        }
        if let Some(builds_dir) = absolute_path(&fields, "builds_dir")? {
            config.builds_dir = builds_dir;
        }
        if let Some(cache_dir) = absolute_path(&fields, "cache_dir")? {
            config.cache_dir = cache_dir;
        }
        if let Some(nix) = fields.get("nix") {
            config.nix = NixConfig::read(nix)?;
        }
        if let Some(caches) = fields.get("caches") {
            config.caches = caches::read(caches)?;
        }
        if let Some(required) = fields.get("require_signatures") {
            config.require_signatures = required
                .word(&[("unpinned", RequireSignatures::Unpinned), ("always", RequireSignatures::Always)])?;
        }
        if let Some(records) = fields.get("records") {
            config.records = RecordsConfig::read(records)?;
        }
        if let Some(registries) = fields.get("registries") {
            for (host, registry) in registries.entries()? {
                config.registries.insert(host.to_owned(), RegistryConfig::read(&registry)?);
            }
        }
        if let Some(runner_certs) = absolute_path(&fields, "runner_certs")? {
            config.runner_certs = runner_certs;
        }
        config.trusted_hosts = hosts(&fields, "trusted_hosts")?;
        if let Some(scripts) = fields.get("scripts") {
            config.scripts.read(scripts)?;
        }
        if let Some(limits) = fields.get("limits") {
            config.limits.read(limits)?;
        }
        Ok(config)
    }
}

impl NixConfig {
    fn read(value: &Value<'_>) -> Result<Self, Error> {
        let fields = value.fields(&["programs", "store", "search_path", "options"])?;
        let store =
            [("auto", StoreAccess::Auto), ("daemon", StoreAccess::Daemon), ("local", StoreAccess::Local)];
        Ok(Self {
            programs: absolute_path(&fields, "programs")?,
            store: fields.get("store").map(|value| value.word(&store)).transpose()?.unwrap_or_default(),
            search_path: texts(&fields, "search_path")?,
            options: texts(&fields, "options")?,
        })
    }
}

impl RegistryConfig {
    fn read(value: &Value<'_>) -> Result<Self, Error> {
        let fields = value.fields(&[
            "ca_file",
            "client_certificate",
            "client_key",
            "plain_http",
            "token_hosts",
            "chunk",
        ])?;
        Ok(Self {
            ca_file: absolute_path(&fields, "ca_file")?,
            client_certificate: client_files(&fields)?,
            plain_http: fields.get("plain_http").map(Value::boolean).transpose()?.unwrap_or_default(),
            token_hosts: hosts(&fields, "token_hosts")?,
            chunk: fields.get("chunk").map(chunk).transpose()?,
        })
    }
}

impl ScriptConfig {
    fn read(&mut self, value: &Value<'_>) -> Result<(), Error> {
        let fields = value.fields(&["shell", "path", "environment", "read_only"])?;
        if let Some(shell) = fields.get("shell") {
            self.shell = shell.word(&[("bash", "bash"), ("sh", "sh")])?.to_owned();
        }
        if let Some(path) = fields.get("path") {
            self.path = path.text()?.to_owned();
        }
        self.environment = texts(&fields, "environment")?;
        if let Some(paths) = fields.get("read_only") {
            self.read_only = paths.list()?.iter().map(read_absolute_path).collect::<Result<_, _>>()?;
        }
        Ok(())
    }
}

impl Limits {
    fn read(&mut self, value: &Value<'_>) -> Result<(), Error> {
        let fields = value.fields(&["grace", "threads", "uploads", "chunk", "patience"])?;
        let one = NonZeroUsize::MIN;
        if let Some(grace) = fields.get("grace") {
            self.grace = Duration::from_secs(grace.integer(0..=50)?);
        }
        if let Some(threads) = fields.get("threads") {
            self.threads = one.saturating_add(threads.integer::<usize>(1..=256)? - 1);
        }
        if let Some(uploads) = fields.get("uploads") {
            self.uploads = one.saturating_add(uploads.integer::<usize>(1..=64)? - 1);
        }
        if let Some(chunk) = fields.get("chunk") {
            self.chunk = values::chunk(chunk)?;
        }
        if let Some(patience) = fields.get("patience") {
            self.patience = Duration::from_secs(patience.integer(0..=86_400)?);
        }
        Ok(())
    }
}
