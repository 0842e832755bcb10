//! One call of the driver: a process group, its output, and how it is ended.

use std::io::{self, PipeReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How often a call looks whether it is cancelled or has ended.
const POLL: Duration = Duration::from_millis(20);
/// How long more output of processes that outlive the driver is waited for.
const LINGER: Duration = Duration::from_secs(1);
/// So often in a row there is none in that time. Counted, since a machine that pauses pauses these processes, too.
const MOST_QUIET: u128 = LINGER.as_millis() / POLL.as_millis();

/// The same in all, for those that never end and go on talking.
const MOST_IN_ALL: u128 = 10 * MOST_QUIET;

/// How a cancelled driver is ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct KillTimes {
    /// From SIGTERM to SIGKILL.
    pub(super) graceful: Duration,
    /// From SIGKILL until the runner no longer waits.
    pub(super) force: Duration,
}

/// Where the standard output goes; the standard error always goes to the caller's `print`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stdout {
    /// Together with the standard error, in the order of writing.
    WithStderr,
    /// Into [`Ended::stdout`].
    Apart,
}

/// A call that is over.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None` if a signal ended it, or it could not be ended.
    pub(super) exit_code: Option<i32>,
    /// Whether it was told to end.
    pub(super) cancelled: bool,
    /// The standard output, if it was wanted apart.
    pub(super) stdout: Vec<u8>,
}

/// Runs `command` in a process group of its own, until it ends or `cancel` becomes true.
pub(super) fn call(
    mut command: Command,
    stdout: Stdout,
    cancel: &AtomicBool,
    times: KillTimes,
    mut print: impl FnMut(&[u8]),
) -> io::Result<Ended> {
    let (log, log_end) = io::pipe()?;
    let (output, output_end) = io::pipe()?;
    command.stdin(Stdio::null()).stderr(log_end.try_clone()?).process_group(0);
    // Pipes end when nobody holds their writing ends: neither this function nor the command.
    match stdout {
        Stdout::WithStderr => {
            command.stdout(log_end);
            drop(output_end);
        }
        Stdout::Apart => {
            command.stdout(output_end);
            drop(log_end);
        }
    }
    let child = command.spawn()?;
    drop(command);

    let (sender, chunks) = channel();
    read_all(log, Stdout::WithStderr, sender.clone());
    read_all(output, Stdout::Apart, sender);
    let mut collected = Vec::new();
    let mut take = |(from, bytes): Chunk| match from {
        Stdout::WithStderr => print(&bytes),
        Stdout::Apart => collected.extend(bytes),
    };
    let (status, cancelled) = supervise(child, &chunks, cancel, times, &mut take)?;
    Ok(Ended { exit_code: status.and_then(|status| status.code()), cancelled, stdout: collected })
}

type Chunk = (Stdout, Vec<u8>);

/// Sends on what comes out of a pipe, until it ends or nobody listens.
fn read_all(mut pipe: PipeReader, name: Stdout, chunks: Sender<Chunk>) {
    thread::spawn(move || io::copy(&mut pipe, &mut Chunks { name, to: chunks }));
}

struct Chunks {
    name: Stdout,
    to: Sender<Chunk>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.to.send((self.name, bytes.to_vec()));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn supervise(
    mut child: Child,
    chunks: &Receiver<Chunk>,
    cancel: &AtomicBool,
    times: KillTimes,
    take: &mut dyn FnMut(Chunk),
) -> io::Result<(Option<ExitStatus>, bool)> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| group.is_some_and(|group| kill_process_group(group, signal).is_ok());
    let mut termed: Option<Instant> = None;
    let mut killed: Option<Instant> = None;
    let mut ended: Option<(ExitStatus, Instant)> = None;
    let (mut quiet, mut all_quiet) = (0, 0);
    loop {
        let open = match chunks.recv_timeout(POLL) {
            Ok(chunk) => {
                take(chunk);
                quiet = 0;
                true
            }
            Err(RecvTimeoutError::Timeout) => {
                quiet += 1;
                all_quiet += 1;
                true
            }
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(POLL);
                false
            }
        };
        if ended.is_none() {
            ended = child.try_wait()?.map(|status| (status, Instant::now()));
            (quiet, all_quiet) = (0, 0);
        }
        let cancel = cancel.load(Ordering::Relaxed);
        match (ended, termed, killed) {
            (Some((status, at)), ..)
                if !open
                    || quiet == MOST_QUIET
                    || all_quiet >= MOST_IN_ALL
                    || (cancel && at.elapsed() > LINGER) =>
            {
                // A child that was just being started may have missed SIGTERM.
                if open && cancel {
                    signal(Signal::KILL);
                }
                return Ok((Some(status), termed.is_some()));
            }
            (None, None, _) if cancel && signal(Signal::TERM) => {
                termed = Some(Instant::now());
            }
            (None, Some(at), None) if at.elapsed() > times.graceful && signal(Signal::KILL) => {
                killed = Some(Instant::now());
            }
            (None, _, Some(at)) if at.elapsed() > times.force => return Ok((None, true)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: Duration = Duration::from_secs(600);
    const HASTY: Duration = Duration::from_millis(300);

    fn shell(script: &str, stdout: Stdout, cancel: &AtomicBool, graceful: Duration) -> (Ended, String) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let mut printed = Vec::new();
        let times = KillTimes { graceful, force: PATIENT };
        let ended = call(command, stdout, cancel, times, |bytes| {
            printed.extend_from_slice(bytes);
            if printed.windows(6).any(|bytes| bytes == b"ready\n") {
                cancel.store(true, Ordering::Relaxed);
            }
        });
        (ended.unwrap(), String::from_utf8(printed).unwrap())
    }

    #[test]
    fn output_keeps_its_order_or_comes_apart() {
        let script = "echo 1; echo 2 >&2; echo 3; exit 7";
        let never = AtomicBool::new(false);

        let (together, printed) = shell(script, Stdout::WithStderr, &never, PATIENT);
        assert_eq!((together.exit_code, printed.as_str()), (Some(7), "1\n2\n3\n"));
        let (apart, printed) = shell(script, Stdout::Apart, &never, PATIENT);
        assert_eq!((apart.stdout.as_slice(), printed.as_str()), (&b"1\n3\n"[..], "2\n"));
    }

    /// The child ends long before its output has been printed.
    #[test]
    fn output_is_printed_to_its_end_however_slowly() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "seq 4000"]);
        let (never, times) = (AtomicBool::new(false), KillTimes { graceful: PATIENT, force: PATIENT });
        let mut printed = Vec::new();

        // These are three pieces at least.
        let ended = call(command, Stdout::WithStderr, &never, times, |bytes| {
            printed.extend_from_slice(bytes);
            thread::sleep(LINGER + POLL);
        });

        assert_eq!(ended.unwrap().exit_code, Some(0));
        assert!(printed.ends_with(b"\n4000\n"), "{}", String::from_utf8_lossy(&printed));
    }

    #[test]
    fn who_cancels_does_not_wait_for_what_outlives_a_driver() {
        let script = "trap '' TERM; { while :; do echo more; sleep 0.1; done; } & echo ready; exit 7";

        let (ended, _) = shell(script, Stdout::WithStderr, &AtomicBool::new(false), PATIENT);

        assert_eq!(ended.exit_code, Some(7));
    }

    #[test]
    fn what_outlives_a_driver_does_not_keep_the_runner() {
        let script = "{ for i in $(seq 6000); do echo more; sleep 0.1; done; } & exit 7";
        let started = Instant::now();

        let (ended, _) = shell(script, Stdout::WithStderr, &AtomicBool::new(false), PATIENT);

        assert_eq!(ended.exit_code, Some(7));
        assert!(started.elapsed() < Duration::from_secs(300));
    }

    #[test]
    fn cancelling_reaches_the_whole_group_and_leaves_time() {
        let script = "trap 'wait; echo bye; exit 9' TERM; sh -c 'trap \"echo child; exit\" TERM; echo ready; while :; do :; done' & wait";

        let (ended, printed) = shell(script, Stdout::WithStderr, &AtomicBool::new(false), PATIENT);

        assert!(ended.cancelled);
        assert_eq!(ended.exit_code, Some(9));
        assert!(printed.contains("bye\n") && printed.contains("child\n"), "{printed}");
    }

    #[test]
    fn a_driver_that_ignores_sigterm_is_killed() {
        let started = Instant::now();

        let (ended, _) = shell(
            "trap '' TERM; echo ready; sleep 600; sleep 600",
            Stdout::WithStderr,
            &AtomicBool::new(false),
            HASTY,
        );

        assert!(ended.cancelled && ended.exit_code.is_none());
        assert!(started.elapsed() >= HASTY && started.elapsed() < PATIENT);
    }
}
