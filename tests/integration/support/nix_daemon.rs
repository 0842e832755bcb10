//! The real Nix daemon, on a socket of its own in the place where clients look for one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::environment::Environment;
use super::process::Background;

/// Where a client of the daemon looks for it.
const USUAL_FOLDER: &str = "/nix/var/nix/daemon-socket";

/// A Nix daemon that serves the machine's store to every user until it is dropped.
///
/// Its socket lies in the usual place in a mount namespace of its own, so nobody else meets it there.
pub(crate) struct NixDaemon {
    socket: PathBuf,
    process: Background,
    _folder: TempDir,
}

impl NixDaemon {
    /// Starts the daemon; the test must run as the owner of the store.
    pub(crate) fn start(environment: &Environment) -> Self {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let sockets = folder.path().join("sockets");
        let socket = sockets.join("socket");
        fs::create_dir(&sockets).unwrap();
        fs::create_dir_all(USUAL_FOLDER).unwrap();
        let mut process = Background::start(
            Command::new("unshare")
                .args(["--mount", "sh", "-c", r#"mount --bind "$0" "$1" && exec nix-daemon"#])
                .args([sockets.as_path(), Path::new(USUAL_FOLDER)])
                .env("NIX_CONF_DIR", &environment.nix_conf_dir)
                .env_remove("NIX_DAEMON_SOCKET_PATH")
                .env_remove("NIX_CONFIG")
                .env_remove("NIX_REMOTE"),
            &folder.path().join("log"),
        );
        process.wait_until(|_| UnixStream::connect(&socket).ok());
        Self { socket, process, _folder: folder }
    }

    /// The value of `NIX_REMOTE` that sends a Nix client here.
    pub(crate) fn nix_remote(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// A command that finds the daemon in the usual place, as the user and group `user`.
    pub(crate) fn command_as(&self, user: &str, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.process.id()))
            .args(["setpriv", "--reuid", user, "--regid", user, "--clear-groups"])
            .arg(program);
        command
    }
}
