//! What a job leaves on the machine: processes, and garbage collector roots.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Garbage collector roots below `folder` that Nix keeps in mind, whether they are still there or not.
pub(crate) fn indirect_roots(folder: &Path) -> Vec<PathBuf> {
    let links = fs::read_dir("/nix/var/nix/gcroots/auto").into_iter().flatten();
    let links = links.map(|link| link.unwrap().path());
    links.filter(|link| fs::read_link(link).is_ok_and(|root| root.starts_with(folder))).collect()
}

/// The numbers and command lines of all processes.
pub(crate) fn processes() -> Vec<(i32, String)> {
    let process = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let arguments = fs::read(entry.path().join("cmdline")).ok()?;
        Some((number, String::from_utf8_lossy(&arguments).replace('\0', " ")))
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| process(entry.ok()?)).collect()
}

/// The command lines that have `text` in them.
pub(crate) fn processes_naming(text: &str) -> Vec<String> {
    processes().into_iter().map(|(_, line)| line).filter(|line| line.contains(text)).collect()
}

/// What `look` sees once it is as `wanted`, or after five minutes: a busy machine takes its time, for whole jobs as well.
pub(crate) fn eventually<T>(mut look: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let seen = look();
        if wanted(&seen) || start.elapsed() > Duration::from_secs(300) {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
