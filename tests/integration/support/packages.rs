//! Tiny packages of a test's own, in the machine's store while the test runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nixlayer::nix::StorePath;
use tempfile::TempDir;

use super::environment::environment;
use super::process::succeed;
use super::traces::indirect_roots;

/// What the packages of [`Packages::build`] are made with. `FIXTURE` keeps those of two tests apart, `BINDINGS` are the
/// test's.
const EXPRESSION: &str = r#"
let
  run = runFor builtins.currentSystem;
  runFor = system: name: script: derivation {
    inherit name system;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-c" script ];
    fixture = "FIXTURE";
  };
  BINDINGS
in
"#;

/// Packages that no garbage collection takes away, and that leave the store when this is dropped.
pub(crate) struct Packages {
    folder: TempDir,
}

impl Packages {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("roots")).unwrap();
        Self { folder }
    }

    /// Adds the file or folder that `write` makes at the path it gets. The package's name is `name`, a `-`, and
    /// something that sets it apart from the packages of other tests.
    pub(crate) fn add(&self, name: &str, write: impl FnOnce(&Path)) -> StorePath {
        let content = self.folder.path().join(format!("{name}-{}", self.mark()));
        write(&content);
        let path = succeed(nix("nix-store").arg("--add").arg(&content).output().unwrap());
        let root = self.folder.path().join("roots").join(name);
        let realise =
            nix("nix-store").args(["--realise", path.trim(), "--add-root"]).arg(root).output().unwrap();
        succeed(realise);
        path.trim().parse().unwrap()
    }

    /// Builds those of the packages in `bindings` that are `wanted`. The bindings are written in Nix, as
    /// `app = run "app-1.0" "mkdir $out; echo ${lib} > $out/lib";`, or `runFor "aarch64-linux" …` for a package of
    /// another system, which is made on this one all the same.
    pub(crate) fn build<const N: usize>(&self, bindings: &str, wanted: [&str; N]) -> [StorePath; N] {
        let expression = EXPRESSION.replace("FIXTURE", self.mark()).replace("BINDINGS", bindings);
        wanted.map(|name| {
            let built = nix("nix-build")
                .args(["--option", "extra-platforms", "aarch64-linux", "--out-link"])
                .arg(self.new_root())
                .args(["--expr", &format!("{expression}{name}")])
                .output()
                .unwrap();
            succeed(built).trim().parse().unwrap()
        })
    }

    /// Where the fixture keeps what it made, until it is dropped.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn new_root(&self) -> PathBuf {
        let roots = self.folder.path().join("roots");
        let number = fs::read_dir(&roots).unwrap().count();
        roots.join(number.to_string())
    }

    /// What tells this fixture from all others.
    fn mark(&self) -> &str {
        self.folder.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.')
    }

    /// The packages, what they were built from, and what was built on the way.
    fn all(&self) -> Vec<String> {
        let query = |arguments: &[&str], paths: &[String]| -> Vec<String> {
            if paths.is_empty() {
                return Vec::new();
            }
            let paths = nix("nix-store").arg("--query").args(arguments).args(paths).output().unwrap();
            String::from_utf8_lossy(&paths.stdout).lines().map(str::to_owned).collect()
        };
        let roots = fs::read_dir(self.folder.path().join("roots")).unwrap();
        let mut all: Vec<_> =
            roots.map(|root| fs::read_link(root.unwrap().path()).unwrap().display().to_string()).collect();
        let derivers = query(&["--deriver"], &all).into_iter().filter(|path| path != "unknown-deriver");
        let mut derivations = query(&["--requisites"], &derivers.collect::<Vec<_>>());
        derivations.retain(|path| path.ends_with(".drv"));
        all.extend(query(&["--outputs"], &derivations));
        all.extend(derivations);
        all
    }
}

impl Drop for Packages {
    fn drop(&mut self) {
        let all = self.all();
        fs::remove_dir_all(self.folder.path().join("roots")).unwrap();
        for link in indirect_roots(self.folder.path()) {
            // A garbage collection removes links that lead nowhere, too.
            let _ = fs::remove_file(link);
        }
        // What somebody else holds by now stays.
        let _ = nix("nix-store").arg("--delete").args(all).output();
    }
}

/// A program of Nix, as the owner of the machine's store runs it.
pub(crate) fn nix(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("NIX_CONF_DIR", environment().nix_conf_dir).env_remove("NIX_CONFIG").env_remove("NIX_REMOTE");
    command
}
