//! Runs a spec's `extraCommands` over the merged tree.
//!
//! The tree is made as files in a scratch folder that only the runner's user can enter. The commands
//! see it as their working directory, the store paths of the image, a shell and the core utilities
//! of the same package set, and nothing else: no network, no host, no project.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use super::event::Quota;
use super::packages::Packages;
use super::{Build, BuildError, scratch_store};
use crate::nix::{STORE_DIR, StorePath};
use crate::sandbox::{Sandbox, View, read_end};
use crate::source::StorePaths;
use crate::spec::{BASH, COREUTILS};

/// The tree's folder in the folder that the commands see as `/tmp`.
pub(super) const TREE: &str = "image";

/// Bytes of the commands' output that an error shows.
const SHOWN: usize = 4096;

/// Store paths that bubblewrap 0.8 can show: it takes 9000 arguments, three for each.
const MOST_PATHS: usize = 2900;

/// The commands ended with an error.
#[derive(Debug)]
pub struct CommandsFailed {
    status: ExitStatus,
    said: String,
}

impl std::error::Error for CommandsFailed {}

impl fmt::Display for CommandsFailed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status.code() {
            Some(code) => write!(formatter, "they ended with exit code {code}")?,
            None => write!(formatter, "they ended with {}", self.status)?,
        }
        match self.said.as_str() {
            "" => formatter.write_str(" and said nothing"),
            said => write!(formatter, ", saying at last:\n{said}"),
        }
    }
}

/// Runs `commands` in the tree in `folder`.
pub(super) async fn run(
    build: &Build<'_>,
    packages: &Packages,
    store: &StorePaths,
    commands: &str,
    folder: &Path,
    quota: &Quota<'_>,
) -> Result<(), BuildError> {
    let (Some(bash), Some(coreutils)) = (packages.named(BASH), packages.named(COREUTILS)) else {
        return Err(BuildError::Sandbox(io::Error::other("the package set has no bash and coreutils")));
    };
    let sandbox = build.sandbox.ok_or(BuildError::NoSandbox)?;
    let placed = placed(build, packages, store);
    if placed.len() > MOST_PATHS && *sandbox != Sandbox::None {
        return Err(BuildError::TooManyPaths { paths: placed.len(), most: MOST_PATHS });
    }
    // A file, since one argument holds 128 KiB at most. As in stdenv, the first command that fails ends
    // them, and files are readable by all. Many commands fail without a word, so the shell names the one.
    let script = build.scratch.join("script");
    let preamble = "exec 2>&1\numask 022\ntrap 'echo \"failed: $BASH_COMMAND\"' ERR\n";
    fs::write(&script, format!("{preamble}{commands}")).map_err(BuildError::Sandbox)?;
    let view = View {
        read_only: Vec::new(),
        placed,
        script: Some(script.clone()),
        writable: Vec::new(),
        host: false,
        network: false,
        // Commands write down where they work, so it must be the same place in every job.
        tmp: Some(folder.to_owned()),
        environment: BTreeMap::from([
            ("PATH".into(), format!("{coreutils}/bin:{bash}/bin").into()),
            ("HOME".into(), "/homeless-shelter".into()),
            ("LANG".into(), "C.UTF-8".into()),
        ]),
        working_directory: match sandbox {
            Sandbox::Bubblewrap(_) => Path::new("/tmp").join(TREE),
            Sandbox::None => folder.join(TREE),
        },
    };
    let shell = bash.to_path_buf().join("bin/bash");
    let mut command = sandbox.command(&view, shell.as_os_str());
    command.arg("-e").arg(sandbox.script_path(&view).unwrap_or(&script));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(BuildError::Sandbox)?;
    let started = sandbox.descendants(&child);
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(BuildError::Sandbox(io::ErrorKind::BrokenPipe.into()));
    };
    let (said, refused) =
        tokio::join!(read_end(stdout, SHOWN, |line| quota.say(line)), read_end(stderr, SHOWN, |_| {}));
    let (said, refused) = (said.map_err(BuildError::Sandbox)?, refused.map_err(BuildError::Sandbox)?);
    let status = child.wait().await.map_err(BuildError::Sandbox)?;
    started.release();
    // The commands' own errors go where their output goes, so this is bubblewrap's.
    if refused.starts_with(b"bwrap: ") {
        let refused = String::from_utf8_lossy(&refused).trim_end().to_owned();
        return Err(BuildError::Sandbox(io::Error::other(refused)));
    }
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said).trim_end().to_owned();
    Err(BuildError::Commands(CommandsFailed { status, said }))
}

/// Where the store paths that the commands see are, and where they show.
fn placed(build: &Build<'_>, packages: &Packages, store: &StorePaths) -> Vec<(PathBuf, PathBuf)> {
    let place = |path: &StorePath| Some((store.on_disk(path)?.clone(), path.to_path_buf()));
    let placed: Vec<(PathBuf, PathBuf)> = packages.tools.paths().filter_map(place).collect();
    let scratch = build.scratch.join(scratch_store::FOLDER);
    // A store of their own shows as a whole.
    if !placed.is_empty() && placed.iter().all(|(on_disk, _)| on_disk.starts_with(&scratch)) {
        return vec![(scratch, STORE_DIR.into())];
    }
    placed
}
