//! Runs the programs of a job where they see nothing but the job.
//!
//! Job scripts, Nix evaluation and the commands of a spec run under [bubblewrap], a program that
//! sets up Linux namespaces without root: own users, processes, mounts and IPC. The root folder is
//! built from nothing: the host's programs and libraries, a list of harmless files of `/etc`, the
//! Nix store, all read-only; then what a [`View`] names. The driver's state, the runner's
//! configuration, the payload of the job and other jobs are not hidden in it, they are not there.
//!
//! The environment holds what the view lists, and no more. It travels as the environment of
//! bubblewrap, not as arguments that other users could read.
//!
//! [bubblewrap]: https://github.com/containers/bubblewrap

mod output;
mod processes;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

pub use self::output::{MAX_LINE, read_end};
pub use self::processes::Descendants;

/// How programs of a job are kept apart from the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// By bubblewrap, the program at this absolute path.
    Bubblewrap(PathBuf),
    /// Not at all: they run with the driver's rights on the host. Only the admin may choose this.
    None,
}

/// What one program sees of the machine.
#[derive(Clone, Debug)]
pub struct View {
    /// Files and folders shown read-only at their own paths; those that do not exist are left out.
    pub read_only: Vec<PathBuf>,
    /// Files and folders shown read-only at other paths: where they are, and where they show.
    pub placed: Vec<(PathBuf, PathBuf)>,
    /// A file shown read-only at `/run/nixlayer/script`, where nothing that a job can write to is on the way.
    pub script: Option<PathBuf>,
    /// Folders shown writable at their own paths.
    pub writable: Vec<PathBuf>,
    /// Whether the host's own programs, libraries and Nix store are shown.
    pub host: bool,
    /// Whether the host's network is there.
    pub network: bool,
    /// The folder that is `/tmp`; a fresh one in memory if none is given. No link may stand on the way
    /// to what is shown below `/tmp`: mount points are made in it, and would be made elsewhere.
    pub tmp: Option<PathBuf>,
    /// The whole environment.
    pub environment: BTreeMap<OsString, OsString>,
    /// Where the program starts.
    pub working_directory: PathBuf,
}

impl View {
    /// Of the host's programs, in `working_directory`, without a network.
    pub fn of_programs(environment: BTreeMap<OsString, OsString>, working_directory: PathBuf) -> Self {
        Self {
            read_only: Vec::new(),
            placed: Vec::new(),
            script: None,
            writable: Vec::new(),
            host: true,
            network: false,
            tmp: None,
            environment,
            working_directory,
        }
    }
}

/// Where a program in bubblewrap finds the script of its [`View`].
const SCRIPT: &str = "/run/nixlayer/script";

/// Programs, libraries and data of the host that every job may read.
const HOST_FOLDERS: [&str; 10] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/nix",
    "/run/current-system",
    "/run/systemd/resolve",
];

/// What of `/etc` is needed to resolve names, verify certificates and start programs, and is for
/// everybody to read. Folders that also hold keys, such as `ssl`, are not shown whole: where the
/// runner is root, so is the job's script. A list of what is shown cannot forget a secret as a list of
/// what is hidden can.
const HOST_SETTINGS: [&str; 29] = [
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "group",
    "host.conf",
    "hostname",
    "hosts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nix/nix.conf",
    "nix/registry.json",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "profile",
    "protocols",
    "resolv.conf",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
];

/// `/etc/static` of NixOS is a store path, which everybody can read anyway.
const NIXOS_SETTINGS: &str = "/etc/static";

/// What of `/proc` is about the whole machine. Files there belong to root, so a job of a runner that
/// is root could write to them, without any capability, and `core_pattern` names a program that the
/// kernel starts outside of every sandbox.
const KERNEL_SETTINGS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Whether programs of a job can read what is at `path`, which has no links on its way.
pub fn is_shown(path: &Path) -> bool {
    let settings = HOST_SETTINGS.iter().map(|setting| Path::new("/etc").join(setting));
    HOST_FOLDERS.iter().map(PathBuf::from).chain(settings).any(|shown| path.starts_with(shown))
}

impl Sandbox {
    /// The sandbox of the bubblewrap that `path`, a list of folders as in `PATH`, leads to.
    pub fn bubblewrap_in(path: &str) -> Option<Self> {
        let found = path.split(':').map(|folder| Path::new(folder).join("bwrap")).find(|file| file.is_file());
        found.map(Self::Bubblewrap)
    }

    /// Starts a program that does nothing, to see whether this host lets programs be kept apart.
    pub async fn try_out(&self) -> io::Result<()> {
        let path = BTreeMap::from([("PATH".into(), "/usr/bin:/bin:/run/current-system/sw/bin".into())]);
        let view = View::of_programs(path, PathBuf::from("/"));
        let mut command = self.command(&view, OsStr::new("true"));
        let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output().await?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(io::Error::other(said)) }
    }

    /// The path at which the script of a view is found.
    pub fn script_path<'a>(&self, view: &'a View) -> Option<&'a Path> {
        let script = view.script.as_deref()?;
        Some(if *self == Self::None { script } else { Path::new(SCRIPT) })
    }

    /// The command that runs `program` with this view; arguments and streams are the caller's.
    ///
    /// The program dies when the calling thread does, so call it from a thread that stays.
    pub fn command(&self, view: &View, program: &OsStr) -> Command {
        let mut command = match self {
            Self::None => Command::new(program),
            Self::Bubblewrap(bubblewrap) => {
                let mut command = Command::new(bubblewrap);
                command.args(arguments(view)).arg("--").arg(program);
                command
            }
        };
        command.env_clear().envs(&view.environment).kill_on_drop(true).stdin(Stdio::null());
        match self {
            // The runner's TERM goes to the driver's group, and would end bubblewrap at once. KILL
            // ends the driver, and bubblewrap with it.
            Self::Bubblewrap(_) => command.process_group(0),
            Self::None => match &view.tmp {
                Some(tmp) => command.current_dir(&view.working_directory).env("TMPDIR", tmp),
                None => command.current_dir(&view.working_directory),
            },
        };
        command
    }
}

fn arguments(view: &View) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [
        "--die-with-parent",
        "--new-session",
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--cap-drop",
        "ALL",
    ]
    .map(OsString::from)
    .to_vec();
    let mut add = |option: &str, paths: &[&Path]| {
        arguments.push(option.into());
        arguments.extend(paths.iter().map(|path| path.as_os_str().to_owned()));
    };
    if !view.network {
        add("--unshare-net", &[]);
    }
    if !view.host {
        // Who builds, and where, as in Nix' own sandbox: the same on every host.
        for (option, value) in [("--uid", "1000"), ("--gid", "100"), ("--hostname", "localhost")] {
            add(option, &[Path::new(value)]);
        }
    }
    if view.host {
        for folder in HOST_FOLDERS.map(Path::new) {
            add("--ro-bind-try", &[folder, folder]);
        }
        for file in HOST_SETTINGS.map(|name| Path::new("/etc").join(name)) {
            add("--ro-bind-try", &[&file, &file]);
        }
        add("--ro-bind-try", &[Path::new(NIXOS_SETTINGS), Path::new(NIXOS_SETTINGS)]);
    }
    add("--proc", &[Path::new("/proc")]);
    for path in KERNEL_SETTINGS.map(Path::new) {
        add("--ro-bind-try", &[path, path]);
    }
    add("--dev", &[Path::new("/dev")]);
    match &view.tmp {
        Some(tmp) => add("--bind", &[tmp, Path::new("/tmp")]),
        None => add("--tmpfs", &[Path::new("/tmp")]),
    }
    for path in &view.read_only {
        add("--ro-bind-try", &[path, path]);
    }
    for (path, shown) in &view.placed {
        add("--ro-bind", &[path, shown]);
    }
    for path in &view.writable {
        add("--bind", &[path, path]);
    }
    if let Some(script) = &view.script {
        add("--ro-bind", &[script, Path::new(SCRIPT)]);
    }
    add("--remount-ro", &[Path::new("/")]);
    add("--chdir", &[&view.working_directory]);
    arguments
}
