//! Programs that a test runs, and programs that run beside it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// No program takes so long, be it on a machine that pauses.
const START_LIMIT: Duration = Duration::from_secs(300);

/// A program that runs until this is dropped. What it wrote is shown when the test fails.
pub(crate) struct Background {
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts `command`, its output going to the new file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let output = File::create(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// What it has printed so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` finds in the log, or wherever it looks, that the program is ready.
    pub(crate) fn wait_until<T>(&mut self, mut ready: impl FnMut(&str) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let log = self.log();
            if let Some(value) = ready(&log) {
                return value;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the program ended with {status} before it was ready");
            }
            assert!(start.elapsed() < START_LIMIT, "the program was not ready after {START_LIMIT:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let gone = self.child.kill().and_then(|()| self.child.wait());
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), fs::read_to_string(&self.log).unwrap_or_default());
        } else {
            gone.unwrap();
        }
    }
}

/// What `output`'s program wrote to its standard output, given that it did not fail.
pub(crate) fn succeed(output: Output) -> String {
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

/// Runs skopeo, which then keeps no record of the registries it met.
pub(crate) fn skopeo(arguments: &[&str]) -> Output {
    let home = TempDir::new().unwrap();
    Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .env("HOME", home.path())
        .env("XDG_DATA_HOME", home.path())
        .env("_CONTAINERS_ROOTLESS_UID", "1")
        .output()
        .unwrap()
}

/// The store paths that `roots` need at run time, as Nix tells them, sorted.
pub(crate) fn closure_of(roots: impl IntoIterator<Item = impl std::fmt::Display>) -> Vec<String> {
    let roots = roots.into_iter().map(|root| root.to_string());
    let requisites =
        succeed(Command::new("nix-store").arg("--query").arg("--requisites").args(roots).output().unwrap());
    let mut paths: Vec<String> = requisites.lines().map(str::to_owned).collect();
    paths.sort_unstable();
    paths
}

/// Waits for the end of a program, and gives its exit status and the most memory that it held, in kilobytes.
pub(super) fn peak_memory(child: &mut Child) -> (ExitStatus, u64) {
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(kilobytes.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            return (status, peak);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
