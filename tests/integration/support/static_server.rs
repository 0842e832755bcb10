//! nginx, serving a folder.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::process::{Background, succeed};

/// nginx on a port of its own, serving a folder until it is dropped.
pub(crate) struct StaticServer {
    address: SocketAddr,
    _process: Background,
    _port: TcpSocket,
    _folder: TempDir,
}

impl StaticServer {
    /// Serves the files below `folder` to everyone.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::serve(folder, None)
    }

    /// Serves them to one user, by HTTP Basic authentication.
    pub(crate) fn with_password(folder: &Path, user: &str, password: &str) -> Self {
        Self::serve(folder, Some((user, password)))
    }

    fn serve(served: &Path, login: Option<(&str, &str)>) -> Self {
        let port = reserve_port();
        let address = port.local_addr().unwrap();
        let folder = TempDir::new().unwrap();
        let file = |name: &str| folder.path().join(name);
        let mut server = format!("listen {address} reuseport; root \"{}\";", served.display());
        if let Some((user, password)) = login {
            let entry = Command::new("htpasswd").args(["-b", "-n", user, password]).output().unwrap();
            fs::write(file("htpasswd"), succeed(entry)).unwrap();
            write!(server, " auth_basic cache; auth_basic_user_file {};", file("htpasswd").display())
                .unwrap();
        }
        let mut temporary = String::new();
        for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(temporary, "  {name}_temp_path {name};").unwrap();
        }
        // One process: there is no worker to outlive it. What it would keep elsewhere is relative to its prefix.
        let config = format!(
            "daemon off;\nmaster_process off;\nuser root;\npid pid;\nerror_log stderr;\nevents {{}}\n\
             http {{\n  access_log off;\n{temporary}  server {{ {server} }}\n}}\n"
        );
        fs::write(file("nginx.conf"), config).unwrap();
        let mut process = Background::start(
            Command::new("nginx")
                .args(["-e", "stderr", "-p"])
                .arg(folder.path())
                .arg("-c")
                .arg(file("nginx.conf")),
            &file("log"),
        );
        process.wait_until(|_| TcpStream::connect(address).ok());
        Self { address, _process: process, _port: port, _folder: folder }
    }

    /// Where the folder is, without a `/` at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A port that is nobody else's while the socket lives. nginx has no way to say which one the system picked for it;
/// with `reuseport` it may listen where this socket, which never does, is bound already.
fn reserve_port() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    socket
}
