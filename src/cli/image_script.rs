//! A program that writes an archive to its standard output, as those of dockerTools' `streamLayeredImage` do.

use std::error::Error;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::push::head;
use crate::failure::Failure;
use crate::nix::shown;

/// So much of what it says is kept.
const KEPT: usize = 4096;

/// So many lines of that are shown when it fails.
const LINES: usize = 10;

/// How long after its end its last words are waited for: what it has started may still hold on to them.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A program that is running. It ends with this, and so does what it has started.
pub(super) struct ImageScript {
    child: Arc<Mutex<Child>>,
}

/// What it writes. Its failure is an error at the end.
pub(super) struct ScriptOutput {
    program: String,
    stdout: ChildStdout,
    child: Arc<Mutex<Child>>,
    said: Receiver<Vec<u8>>,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("`{program}` failed with {status}{said}")]
struct ScriptFailed {
    program: String,
    status: ExitStatus,
    said: String,
}

#[derive(Debug, thiserror::Error)]
#[error("`{program}` cannot be run")]
struct NotStarted {
    program: String,
    source: Box<dyn Error + Send + Sync>,
}

/// The failure of a program, if that is what is behind `error`: nothing else matters then.
pub(super) fn failure_behind(error: &(dyn Error + 'static)) -> Option<Failure> {
    let mut errors = std::iter::successors(Some(error), |&error| error.source());
    let failed =
        errors.find_map(|error| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<ScriptFailed>());
    failed.map(|failed| Failure::build(failed.clone(), "mend the program, or what it says is wrong"))
}

impl ImageScript {
    /// Starts the program at `path`.
    pub(super) fn start(path: &Path) -> Result<(Self, ScriptOutput), Failure> {
        // A name without a slash would be looked for among the programs of the host.
        let program = if path.is_absolute() { path.to_owned() } else { PathBuf::from(".").join(path) };
        let started = Command::new(&program)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let name = path.display().to_string();
        let mut child = started.map_err(|error| not_started(&program, &name, error))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Failure::system("a program was started without pipes"));
        };
        let (say, said) = sync_channel(1);
        thread::spawn(move || say.send(last_words(stderr)));
        let child = Arc::new(Mutex::new(child));
        Ok((Self { child: Arc::clone(&child) }, ScriptOutput { program: name, stdout, child, said }))
    }
}

/// Why a program did not start. Linux says of a script that it is not there if what should run it is not.
fn not_started(path: &Path, name: &str, error: io::Error) -> Failure {
    let (source, fix): (Box<dyn Error + Send + Sync>, _) = match (error.kind(), interpreter(path)) {
        (io::ErrorKind::PermissionDenied, _) => (error.into(), format!("let it be run: `chmod +x {name}`")),
        (io::ErrorKind::NotFound, Some(interpreter)) if !Path::new(&interpreter).exists() => {
            let fix = match interpreter.ends_with('\r') {
                true => "let its lines end as those of Linux, without `\\r`",
                false => {
                    "install it or name another; of a program in the Nix store, bring the whole closure here"
                }
            };
            let source = format!("its first line names `{}`, which is not there", shown(&interpreter));
            (source.into(), fix.to_owned())
        }
        _ => (error.into(), format!("make `{name}` a program that can run here")),
    };
    Failure::build(NotStarted { program: name.to_owned(), source }, fix)
}

/// What a script wants to be run with. Linux reads no further than this, either (`BINPRM_BUF_SIZE`).
fn interpreter(script: &Path) -> Option<String> {
    let head = head(script, 256);
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    Some(String::from_utf8_lossy(words.next()?).into_owned())
}

impl Drop for ImageScript {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody has waited for it, so that its number is not another's yet: what it has started may still be there.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
    }
}

impl Read for ScriptOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stdout.read(buffer)? {
            0 if !buffer.is_empty() => self.end().map(|()| 0),
            read => Ok(read),
        }
    }
}

impl ScriptOutput {
    fn end(&mut self) -> io::Result<()> {
        // Whoever ends the program must not have to wait for this.
        let ended = || exit_status(&self.child.lock().unwrap_or_else(PoisonError::into_inner));
        let status = loop {
            match ended()? {
                Some(status) => break status,
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        if status.success() {
            return Ok(());
        }
        let said = self.said.recv_timeout(LAST_WORDS).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(LINES)..].iter();
        let said = last.map(|line| format!("\n{line}")).collect();
        Err(io::Error::other(ScriptFailed { program: self.program.clone(), status, said }))
    }
}

/// How a child has ended, if it has. It can still be waited for afterwards.
fn exit_status(child: &Child) -> io::Result<Option<ExitStatus>> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(Pid::from_child(child)), look)?;
    Ok(status.map(|status| {
        let code = status.exit_status().map(|code| code << 8);
        ExitStatus::from_raw(code.or(status.terminating_signal()).unwrap_or_default())
    }))
}

/// The end of what `stream` gives, however much it is.
fn last_words(mut stream: impl Read) -> Vec<u8> {
    let mut end = End(Vec::new());
    let _ = io::copy(&mut stream, &mut end);
    end.0
}

/// Keeps the last [`KEPT`] bytes.
struct End(Vec<u8>);

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        self.0.drain(..self.0.len().saturating_sub(KEPT));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept() {
        let said = format!("{}{}", "a".repeat(100_000), "b".repeat(KEPT - 1));

        assert_eq!(last_words(said.as_bytes()), format!("a{}", "b".repeat(KEPT - 1)).as_bytes());
        assert_eq!(last_words(&b"boom"[..]), b"boom");
    }
}
