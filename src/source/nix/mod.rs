//! The host's Nix, driven by its classic commands.
//!
//! `nix-instantiate`, `nix-store --realise` and `nix-store --query` work alike in every Nix since
//! 2.3 and in Lix, and need no experimental feature. They run in the sandbox, since evaluation may
//! read any file it can see and puts what it reads into a store that everybody can read.
//!
//! What a spec names is evaluated in one go: the expression is a derivation that is never built,
//! whose environment lists the store paths. So one garbage collector root on it keeps every
//! derivation from evaluation on; the realised outputs get roots of their own.

mod archive_command;
mod checkout;
mod command;
mod derivations;
mod error;
mod evaluation;
mod expression;
mod flakes;
mod image_expression;
mod images;
mod roots;
mod said;
mod store;
mod user_info;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

pub use self::checkout::Checkouts;
pub use self::error::NixError;
pub use self::evaluation::Evaluated;
pub use self::expression::Scope;
pub use self::images::{FoundImages, ImageDerivation, ImageValue, Stream};
pub use self::roots::forget_roots;
pub use self::said::Said;
use crate::sandbox::{Sandbox, View};

/// For commands that are over at once.
const SILENT: Progress<'static> = &|_| {};

const DAEMON_SOCKET: &str = "/nix/var/nix/daemon-socket/socket";

/// Which process writes to the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreAccess {
    /// The daemon where its socket answers, else the commands themselves.
    #[default]
    Auto,
    /// The Nix daemon, through its socket.
    Daemon,
    /// The commands themselves (single-user Nix): whoever runs them owns `/nix`.
    Local,
}

/// How the host's Nix is used.
#[derive(Clone, Debug, Default)]
pub struct NixSettings {
    /// The folder of the Nix commands; `PATH` of the sandbox if none is given.
    pub programs: Option<PathBuf>,
    /// Which process writes to the store.
    pub store: StoreAccess,
    /// What `<NAME>` means, as in `NIX_PATH`; Nix's own default if it is empty.
    pub search_path: String,
    /// The environment of the commands: `PATH`, locale, certificates, proxies.
    pub environment: BTreeMap<OsString, OsString>,
    /// Settings of `nix.conf` for these commands alone.
    pub options: BTreeMap<String, String>,
    /// Where downloads of expressions are kept; what evaluates can read them, so it is one project's.
    pub fetched: PathBuf,
    /// A folder for what is of no use afterwards, such as the builds of single-user Nix.
    pub scratch: PathBuf,
    /// How far above a flake of the project Git is to be asked for its files.
    pub checkouts: Checkouts,
}

/// The Nix of this host.
pub struct Nix {
    settings: NixSettings,
    sandbox: Sandbox,
    daemon: bool,
    log: Mutex<Vec<u8>>,
}

/// Is told what Nix is doing, a line at a time.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

impl Nix {
    /// The host's Nix with these settings; nothing is run yet.
    pub fn new(settings: NixSettings, sandbox: Sandbox) -> Self {
        let daemon = match settings.store {
            StoreAccess::Auto => UnixStream::connect(DAEMON_SOCKET).is_ok(),
            StoreAccess::Daemon => true,
            StoreAccess::Local => false,
        };
        Self { settings, sandbox, daemon, log: Mutex::default() }
    }

    /// Whether a daemon writes to the store, so that others may use it through its socket.
    pub fn has_daemon(&self) -> bool {
        self.daemon
    }

    /// Whether the commands are where they are searched; whether they work, only running them tells.
    pub fn is_installed(&self) -> bool {
        let path = || self.settings.environment.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let folders = match &self.settings.programs {
            Some(folder) => vec![folder.clone()],
            None => std::env::split_paths(&path()).collect(),
        };
        folders.iter().any(|folder| folder.join("nix-store").is_file())
    }

    /// Everything that the commands have said so far, for the report of the job.
    pub fn log(&self) -> Vec<u8> {
        self.log.lock().map(|log| log.clone()).unwrap_or_default()
    }

    /// The version, when the commands are there and the store answers.
    pub async fn version(&self) -> Result<String, NixError> {
        let view = self.view(&[], &[]);
        let version = self
            .run("nix-instantiate", &["--eval", "--json", "--expr", "builtins.nixVersion"], &view, SILENT)
            .await?;
        Ok(version.trim().trim_matches('"').to_owned())
    }

    fn view(&self, read_only: &[&Path], writable: &[&Path]) -> View {
        let mut environment = self.settings.environment.clone();
        let mut set = |name: &str, value: OsString| environment.insert(name.into(), value);
        if !self.settings.search_path.is_empty() {
            set("NIX_PATH", self.settings.search_path.clone().into());
        }
        set("HOME", "/homeless-shelter".into());
        set("XDG_CACHE_HOME", self.settings.fetched.clone().into());
        set("NIX_USER_CONF_FILES", "".into());
        set("NIX_REMOTE", if self.daemon { "daemon".into() } else { "local".into() });
        // What a flake wants to configure is the admin's to decide. In the sandbox there is one
        // user, so without a daemon no other user could build.
        let mut options = String::from("accept-flake-config = false\n");
        if !self.daemon {
            options.push_str("build-users-group =\n");
        }
        for (name, value) in &self.settings.options {
            options.push_str(&format!("{name} = {value}\n"));
        }
        set("NIX_CONFIG", options.into());
        let mut view = View {
            placed: Vec::new(),
            script: None,
            read_only: read_only.iter().map(|path| (*path).to_owned()).collect(),
            writable: writable.iter().map(|path| (*path).to_owned()).collect(),
            host: true,
            network: true,
            tmp: None,
            environment,
            working_directory: PathBuf::from("/"),
        };
        // Folders of the search path; what else may stand between the colons is not there to be shown.
        let places =
            self.settings.search_path.split(':').map(|entry| entry.rsplit('=').next().unwrap_or(entry));
        view.read_only.extend(places.filter(|place| place.starts_with('/')).map(PathBuf::from));
        view.writable.push(self.settings.fetched.clone());
        if !self.daemon {
            view.writable.push("/nix".into());
        }
        view
    }
}
