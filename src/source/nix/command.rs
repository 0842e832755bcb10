//! Runs one command of Nix, or another on its behalf.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::error::{NixError, is_of_host};
use super::user_info::without_user_info;
use super::{Nix, Progress, Said};
use crate::sandbox::{MAX_LINE, View, read_end};

/// Arguments per call: Linux takes 2 MiB of them, and a store path may have 255 bytes.
pub(super) const PATHS_PER_CALL: usize = 2000;

/// The database dump of 2000 paths takes about 1 MiB.
const MAX_ANSWER: u64 = 256 << 20;

/// A log that is longer keeps its end; a builder may say as much as it likes.
const MAX_LOG: usize = 8 << 20;

/// Enough for the last lines of a log, and for a long way to an error that some versions of Nix tell behind it.
const MAX_END: usize = 1 << 20;

/// How the lines begin that tell what Nix is doing.
const STEPS: [&str; 3] = ["building '", "copying path '", "downloading '"];

impl Nix {
    /// What `program` of Nix prints on standard output; its standard error goes to the log.
    pub(super) async fn run(
        &self,
        program: &str,
        arguments: &[&str],
        view: &View,
        progress: Progress<'_>,
    ) -> Result<String, NixError> {
        let path = match &self.settings.programs {
            Some(folder) => folder.join(program),
            None => Path::new(program).to_owned(),
        };
        let answer = self.output(&path, arguments, view, progress).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The same of the program at `path`.
    pub(super) async fn output(
        &self,
        path: &Path,
        arguments: &[&str],
        view: &View,
        progress: Progress<'_>,
    ) -> Result<Vec<u8>, NixError> {
        let program = path.file_name().unwrap_or_default().to_string_lossy();
        let start = |source| NixError::Start { program: program.to_string(), source };
        // On disk, since a builder may need much; fresh, since a builder may leave links in it.
        let tmp = tempfile::Builder::new().prefix("tmp-").tempdir_in(&self.settings.scratch);
        let tmp = tmp.map_err(|source| NixError::Folder { folder: self.settings.scratch.clone(), source })?;
        let view = View { tmp: Some(tmp.path().to_owned()), ..view.clone() };
        let mut command = self.sandbox.command(&view, path.as_os_str());
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        tracing::debug!(%program, "running a command");
        let mut child = command.spawn().map_err(start)?;
        let broken_off = |source| NixError::BrokenOff { program: program.to_string(), source };
        let builders = self.sandbox.descendants(&child);
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(broken_off(io::ErrorKind::BrokenPipe.into()));
        };
        let (answer, said) = tokio::join!(read(stdout, MAX_ANSWER), self.read_log(stderr, progress));
        let status = child.wait().await.map_err(broken_off)?;
        builders.release();
        let (answer, said) = (answer.map_err(broken_off)?, said.map_err(broken_off)?);
        if status.success() {
            return Ok(answer);
        }
        let said = Said::last(&said);
        Err(if said.error.is_empty() {
            broken_off(io::Error::other(format!("it ended with {status} and said nothing")))
        } else if is_of_host(&said.error) {
            NixError::Host { place: None, said }
        } else {
            NixError::Refused { said }
        })
    }

    /// Like [`Self::run`], with as many calls as `paths` need.
    pub(super) async fn run_on(
        &self,
        program: &str,
        arguments: &[&str],
        paths: &[String],
        view: &View,
        progress: Progress<'_>,
    ) -> Result<String, NixError> {
        let mut answer = String::new();
        for paths in paths.chunks(PATHS_PER_CALL) {
            let arguments: Vec<&str> =
                arguments.iter().copied().chain(paths.iter().map(String::as_str)).collect();
            answer.push_str(&self.run(program, &arguments, view, progress).await?);
        }
        Ok(answer)
    }

    /// Reads what a command says: all of it to the log, its steps to `progress`; gives the end.
    async fn read_log(&self, stderr: impl AsyncRead + Unpin, progress: Progress<'_>) -> io::Result<String> {
        let end = read_end(stderr, MAX_LOG, |line| {
            if STEPS.iter().any(|step| line.starts_with(step)) {
                // The last word of a line that was cut may be half a URL.
                let line =
                    if line.len() < MAX_LINE { line } else { line.rsplit_once(' ').unwrap_or_default().0 };
                progress(&String::from_utf8_lossy(&without_user_info(line.as_bytes())));
            }
        });
        let mut said = end.await?;
        if said.len() == MAX_LOG {
            // So may be the first word of a log that was.
            let first = said.iter().position(u8::is_ascii_whitespace).unwrap_or(MAX_LOG);
            said.drain(..first);
        }
        let said = without_user_info(&said);
        if let Ok(mut log) = self.log.lock() {
            log.extend_from_slice(&said);
            let surplus = log.len().saturating_sub(MAX_LOG);
            log.drain(..surplus);
        }
        let last = said.len().saturating_sub(MAX_END);
        Ok(String::from_utf8_lossy(&said[last..]).into_owned())
    }
}

async fn read(stream: impl AsyncRead + Unpin, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(limit).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::sandbox::Sandbox;
    use crate::source::nix::NixSettings;

    /// The steps that are told of what a command says, its end, and the log.
    fn told(said: &[u8]) -> (Vec<String>, String, Vec<u8>) {
        let nix = Nix::new(NixSettings::default(), Sandbox::None);
        let steps = Mutex::new(Vec::new());
        let progress = |line: &str| steps.lock().unwrap().push(line.to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let end = runtime.block_on(nix.read_log(said, &progress)).unwrap();
        (steps.into_inner().unwrap(), end, nix.log())
    }

    #[test]
    fn a_cut_within_a_url_tells_no_password() {
        let mut line = format!("downloading '{} https://u:", "x".repeat(4000));
        line.push_str(&"p".repeat(5000));
        line.push_str("@host/x'...");
        let (steps, end, _) = told(line.as_bytes());
        assert_eq!(steps, [format!("downloading '{}", "x".repeat(4000))]);
        assert!(end.ends_with(" https://host/x'..."), "{end}");

        let (steps, ..) = told(b"copying path 'x' from 'https://u:p@host'...\n");
        assert_eq!(steps, ["copying path 'x' from 'https://host'..."]);

        // The log begins within the password.
        let mut said = b"error: https://u:canary@host/x\n".to_vec();
        said.resize(MAX_LOG + 20, b'x');
        said.splice(MAX_LOG + 10.., *b"\nerror: x\n");
        let (_, end, log) = told(&said);
        assert!(!String::from_utf8_lossy(&log).contains("ary@"), "{:?}", &log[..20]);
        assert!(end.ends_with("\nerror: x\n"));
    }
}
