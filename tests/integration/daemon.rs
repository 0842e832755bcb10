//! A host as it should be: the runner's user owns nothing of Nix, whose daemon serves everybody.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{NixDaemon, UnpackedImage, environment, eventually, indirect_roots, processes, succeed};

/// A folder that the runner's user can read, with folders in it that are the user's own.
struct Host {
    folder: TempDir,
    user: String,
}

impl Host {
    fn new(user: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let host = Self { folder, user: user.to_owned() };
        fs::copy(env!("CARGO_BIN_EXE_nixlayer"), host.place("nixlayer")).unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hello");
        succeed(Command::new("cp").arg("-R").arg(example).arg(host.place("hello")).output().unwrap());
        for folder in ["home", "tmp", "artifacts", "layout"] {
            fs::create_dir(host.place(folder)).unwrap();
            chown(host.place(folder), Some(host.number("-u")), Some(host.number("-g"))).unwrap();
        }
        host
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn number(&self, option: &str) -> u32 {
        succeed(Command::new("id").args([option, &self.user]).output().unwrap()).trim().parse().unwrap()
    }

    /// The processes of the user.
    fn processes(&self) -> Vec<String> {
        let user = self.number("-u");
        let of_user = |number: &i32| {
            fs::metadata(format!("/proc/{number}")).is_ok_and(|metadata| metadata.uid() == user)
        };
        processes().into_iter().filter(|(number, _)| of_user(number)).map(|(_, line)| line).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The daemon would forget them with its next garbage collection.
        for link in indirect_roots(self.folder.path()) {
            let _ = fs::remove_file(link);
        }
    }
}

#[test]
fn an_unprivileged_runner_builds_and_pushes_through_the_daemon() {
    let environment = environment();
    let daemon = NixDaemon::start(&environment);
    let host = Host::new(&environment.ci_user);
    fs::write(host.place("config.yaml"), "nix: { store: daemon }\n").unwrap();
    let script = [
        "echo \"user $(id -un), NIX_REMOTE=$NIX_REMOTE, home ${HOME##*/}, TMPDIR=$TMPDIR\"",
        "nix-store --version",
        &format!("nix-store --query --size {}", environment.package("hello")),
        "touch /nix/store/x 2>/dev/null && echo wrote to the store; touch ~/x /tmp/x",
        "mkdir -p ~/locked/inner locked/inner; chmod 000 ~/locked/inner locked/inner; chmod 500 ~/locked locked",
    ];

    let output = daemon
        .command_as(&host.user, &host.place("nixlayer"))
        .arg("--config")
        .arg(host.place("config.yaml"))
        .arg("simulate")
        .arg(host.place("hello"))
        .args(script.iter().flat_map(|line| ["--script", line]))
        .arg("--to")
        .arg(format!("oci:{}", host.place("layout").display()))
        .arg("--artifacts")
        .arg(host.place("artifacts"))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", host.place("home"))
        .env("TMPDIR", host.place("tmp"))
        .current_dir("/")
        .output();

    let log = succeed(output.unwrap());
    let seen = format!("\nuser {}, NIX_REMOTE=daemon, home home, TMPDIR=/tmp\n", host.user);
    assert!(log.contains(&seen), "{log}");
    assert!(log.contains("\nnix-store (Nix) "), "{log}");
    assert!(log.lines().any(|line| line.parse::<u64>().is_ok()), "the daemon told no size\n{log}");
    assert!(!log.contains("\nwrote to the store\n"), "{log}");
    assert!(
        fs::read_to_string(host.place("artifacts/nixlayer-report/image.env")).unwrap().contains("sha256:")
    );
    let image = UnpackedImage::from_layout(&host.place("layout"), "latest");
    assert_eq!(succeed(image.run(&[])), "Hello from an image that nixlayer made.\n");

    assert_eq!(eventually(|| host.processes(), Vec::is_empty), Vec::<String>::new());
    for folder in ["home", "tmp"] {
        let left: Vec<_> = fs::read_dir(host.place(folder)).unwrap().collect();
        assert!(left.is_empty(), "{folder} holds {left:?}");
    }
}
