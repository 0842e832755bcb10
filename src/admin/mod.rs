//! The admin's configuration, `/etc/nixlayer/config.yaml`.
//!
//! Every key has a default that is safe on a runner that many projects share, so the file may be
//! missing. Unknown keys are errors with line and column: a slip in a security setting must not
//! pass for its default. `docs/admin.md` lists the keys with their defaults and reasons.

mod caches;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::caches::{CacheConfig, CacheUse};
use crate::source::binary_cache::RequireSignatures;
use crate::source::nix::StoreAccess;
use crate::yaml::{Document, Error, Fields, Value};

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
            self.chunk = self::chunk(chunk)?;
        }
        if let Some(patience) = fields.get("patience") {
            self.patience = Duration::from_secs(patience.integer(0..=86_400)?);
        }
        Ok(())
    }
}

/// A number of MiB.
fn chunk(value: &Value<'_>) -> Result<usize, Error> {
    Ok(value.integer::<usize>(1..=1024)? << 20)
}

fn absolute_path(fields: &Fields<'_>, key: &str) -> Result<Option<PathBuf>, Error> {
    fields.get(key).map(read_absolute_path).transpose()
}

fn read_absolute_path(value: &Value<'_>) -> Result<PathBuf, Error> {
    let path = Path::new(value.text()?);
    if path.is_absolute() {
        Ok(path.to_owned())
    } else {
        Err(value.error(format!("`{}` is not an absolute path", path.display()), "begin it with `/`"))
    }
}

/// `client_certificate` and `client_key`: both, or neither.
fn client_files(fields: &Fields<'_>) -> Result<Option<ClientFiles>, Error> {
    match (fields.get("client_certificate"), fields.get("client_key")) {
        (Some(certificate), Some(key)) => Ok(Some(ClientFiles {
            certificate: read_absolute_path(certificate)?,
            key: read_absolute_path(key)?,
        })),
        (Some(alone), None) => Err(alone.error("there is no `client_key`", "say where its key is")),
        (None, Some(alone)) => Err(alone.error("there is no `client_certificate`", "say whose key it is")),
        (None, None) => Ok(None),
    }
}

/// A list of hosts, each with its port if it has one.
fn hosts(fields: &Fields<'_>, key: &str) -> Result<BTreeSet<String>, Error> {
    let Some(value) = fields.get(key) else { return Ok(BTreeSet::new()) };
    let host = |value: &Value<'_>| {
        let host = value.text()?;
        if host.is_empty() || host.contains(['/', '@', '*']) || host.contains(char::is_whitespace) {
            return Err(value.error(format!("`{host}` is not a host"), "write `HOST` or `HOST:PORT`"));
        }
        Ok(host.to_owned())
    };
    value.list()?.iter().map(host).collect()
}

fn texts(fields: &Fields<'_>, key: &str) -> Result<BTreeMap<String, String>, Error> {
    let Some(value) = fields.get(key) else { return Ok(BTreeMap::new()) };
    let mut texts = BTreeMap::new();
    for (name, value) in value.entries()? {
        let text = value.text()?;
        if text.contains('\n') {
            return Err(value.error("the text has more than one line", "write it in one line"));
        }
        texts.insert(name.to_owned(), text.to_owned());
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            state_dir: "/var/lib/nixlayer".into(),
            runner_certs: "/etc/gitlab-runner/certs".into(),
            threads: NonZeroUsize::new(2).unwrap(),
        }
    }

    fn parse(text: &str) -> Result<AdminConfig, Error> {
        AdminConfig::parse("config.yaml", text.as_bytes(), &host())
    }

    #[test]
    fn what_the_admin_leaves_out_is_safe() {
        let config = parse("limits: { grace: 5 }").unwrap();

        assert_eq!(config.sandbox, Isolation::Bubblewrap);
        assert_eq!(config.registries, BTreeMap::new());
        assert_eq!(config.limits.grace, Duration::from_secs(5));
        assert_eq!(config.runner_certs, Path::new("/etc/gitlab-runner/certs"));
        assert_eq!(config.builds_dir, Path::new("/var/lib/nixlayer/builds"));
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(
            "sandbox: none\n\
             nix: { programs: /opt/nix/bin, store: daemon, search_path: { nixpkgs: /srv/nixpkgs }, options: { cores: 2 } }\n\
             caches: { 'https://c.example/': { public_keys: ['c-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY='], \
             priority: 3, token_file: /etc/token, ca_file: /etc/c.pem, client_certificate: /c.pem, client_key: /c.key, \
             use: on_request }, 'file:///srv/c': }\n\
             require_signatures: always\n\
             registries: { 'r.example:5000': { ca_file: /etc/ca.pem, client_certificate: /etc/me.pem, \
             client_key: /etc/me.key, plain_http: true, token_hosts: [gitlab.example], chunk: 4 } }\n\
             trusted_hosts: ['storage.example:9000']\nrunner_certs: /r\nbuilds_dir: /b\ncache_dir: /c\nstate_dir: /s\n\
             scripts: { shell: sh, path: /bin, environment: { LANG: C }, read_only: [/srv/tools] }\n\
             limits: { grace: 1, threads: 3, uploads: 2, chunk: 8, patience: 60 }\n",
        )
        .unwrap();

        let registry = RegistryConfig {
            ca_file: Some("/etc/ca.pem".into()),
            client_certificate: Some(ClientFiles {
                certificate: "/etc/me.pem".into(),
                key: "/etc/me.key".into(),
            }),
            plain_http: true,
            token_hosts: BTreeSet::from(["gitlab.example".to_owned()]),
            chunk: Some(4 << 20),
        };
        let cache = CacheConfig {
            public_keys: vec!["c-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=".parse().unwrap()],
            priority: Some(3),
            netrc_file: None,
            token_file: Some("/etc/token".into()),
            ca_file: Some("/etc/c.pem".into()),
            client_certificate: Some(ClientFiles { certificate: "/c.pem".into(), key: "/c.key".into() }),
            used: CacheUse::OnRequest,
        };
        let text = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert_eq!(
            config,
            AdminConfig {
                sandbox: Isolation::None,
                nix: NixConfig {
                    programs: Some("/opt/nix/bin".into()),
                    store: StoreAccess::Daemon,
                    search_path: text("nixpkgs", "/srv/nixpkgs"),
                    options: text("cores", "2"),
                },
                caches: BTreeMap::from([
                    ("https://c.example".to_owned(), cache),
                    ("file:///srv/c".to_owned(), CacheConfig::default()),
                ]),
                require_signatures: RequireSignatures::Always,
                registries: BTreeMap::from([("r.example:5000".to_owned(), registry)]),
                trusted_hosts: BTreeSet::from(["storage.example:9000".to_owned()]),
                runner_certs: "/r".into(),
                builds_dir: "/b".into(),
                cache_dir: "/c".into(),
                state_dir: "/s".into(),
                scripts: ScriptConfig {
                    shell: "sh".to_owned(),
                    path: "/bin".to_owned(),
                    environment: text("LANG", "C"),
                    read_only: vec!["/srv/tools".into()],
                },
                limits: Limits {
                    grace: Duration::from_secs(1),
                    threads: NonZeroUsize::new(3).unwrap(),
                    uploads: NonZeroUsize::new(2).unwrap(),
                    chunk: 8 << 20,
                    patience: Duration::from_secs(60),
                },
            }
        );
    }

    #[test]
    fn slips_have_their_place() {
        for (text, message) in [
            ("sandbx: none", "config.yaml:1:1: `sandbx`: there is no such key"),
            ("sandbox: off", "config.yaml:1:10: `sandbox`: `off` is not known here"),
            (
                "registries:\n  r.example: { insecure: true }",
                "config.yaml:2:16: `registries.\"r.example\".insecure`",
            ),
            (
                "caches: { 's3://bucket': }",
                "config.yaml:1:11: `caches.\"s3://bucket\"`: `s3://bucket` is not the URL of a binary cache",
            ),
            ("caches: { 'https://': }", "config.yaml:1:11: `caches.\"https://\"`: `https://` is not the URL"),
            (
                "caches: { 'https://c.example': , 'https://c.example/': }",
                "config.yaml:1:34: `caches.\"https://c.example/\"`: `https://c.example/` is there twice",
            ),
            (
                "caches:\n  https://c.example: { public_keys: [secret] }",
                "config.yaml:2:38: `caches.\"https://c.example\".public_keys[0]`: ",
            ),
            (
                "registries:\n  r.example: { client_certificate: /c }",
                "config.yaml:2:36: `registries.\"r.example\".client_certificate`: there is no `client_key`",
            ),
            (
                "caches:\n  https://c.example: { client_key: /c }",
                "config.yaml:2:36: `caches.\"https://c.example\".client_key`: there is no `client_certificate`",
            ),
            (
                "trusted_hosts: ['*.example']",
                "config.yaml:1:17: `trusted_hosts[0]`: `*.example` is not a host",
            ),
            (
                "trusted_hosts: [https://s.example]",
                "config.yaml:1:17: `trusted_hosts[0]`: `https://s.example` is",
            ),
            ("builds_dir: builds", "config.yaml:1:13: `builds_dir`: `builds` is not an absolute path"),
            ("limits: { uploads: 0 }", "config.yaml:1:20: `limits.uploads`: `0` is out of range"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }
}
