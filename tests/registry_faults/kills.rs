//! The real program, ended at any request of a push.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::fault_proxy::{FaultProxy, Kind};
use crate::push::{Behind, Cargo, TAG, manifest_of};
use crate::request::Seen;
use crate::support::{BUDGET, PASSWORD, USER, destination, hurried, in_parallel, settings, simulated};

const REPOSITORY: &str = "team/app";

/// The example project, and a machine that may push it to one registry.
struct Project {
    folder: TempDir,
    host: String,
}

/// Bubblewrap whose parent is killed before it has come into its own waits for ever.
impl Drop for Project {
    fn drop(&mut self) {
        let mark = self.folder.path().as_os_str().as_encoded_bytes();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if let Some(id) = id
                && command.windows(mark.len()).any(|part| part == mark)
            {
                // It may have ended meanwhile.
                let _ = kill_process(id, Signal::KILL);
            }
        }
    }
}

impl Project {
    fn new(host: String) -> Self {
        let folder = TempDir::new().unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hello");
        let project = folder.path().join("project");
        let copied = Command::new("cp").arg("-R").arg(example).arg(project).status().unwrap();
        assert!(copied.success());
        let config = json!({ "state_dir": folder.path().join("state"), "registries": { &host: { "plain_http": true } } });
        // JSON is YAML.
        fs::write(folder.path().join("config.yaml"), config.to_string()).unwrap();
        let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let auths = json!({ "auths": { &host: { "auth": auth } } });
        fs::write(folder.path().join("auth.json"), auths.to_string()).unwrap();
        Self { folder, host }
    }

    /// Starts to push the example's image.
    fn start(&self) -> Child {
        let place = |name: &str| self.folder.path().join(name);
        Command::new(env!("CARGO_BIN_EXE_nixlayer"))
            .arg("--config")
            .arg(place("config.yaml"))
            .args(["build", "image.yaml", "--to", &format!("{}/{REPOSITORY}:{TAG}", self.host)])
            .current_dir(place("project"))
            .env_clear()
            .env("PATH", env!("PATH"))
            .env("HOME", self.folder.path())
            // What a killed one leaves behind goes with the folder.
            .env("TMPDIR", self.folder.path())
            .env("REGISTRY_AUTH_FILE", place("auth.json"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn push(&self) -> Output {
        self.start().wait_with_output().unwrap()
    }
}

/// A program that does not listen while it waits for an answer does so for half a minute.
const SOON: Duration = Duration::from_secs(15);

/// When a program is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Before the registry has seen the request.
    Before,
    /// After the registry has done what it was asked.
    After,
}

/// What the example's image is called, and how many requests its first push takes.
fn undisturbed() -> (Bytes, usize) {
    let registry = Behind::Simulated(simulated(settings()));
    let proxy = FaultProxy::start(registry.address(), |_| None, |_| {});
    let output = Project::new(proxy.address().to_string()).push();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (registry.manifest(REPOSITORY).unwrap(), proxy.log().len())
}

/// Ends a push with `signal` at its request `number`, and starts it again. Gives how long the end took.
fn interrupt(new: &Bytes, number: usize, moment: Moment, signal: Signal) -> Result<Duration, String> {
    let registry = Behind::Simulated(simulated(settings()));
    let old = Cargo::new(1);
    let direct = destination(&registry.address().to_string(), REPOSITORY, hurried(BUDGET));
    old.push(&direct).unwrap();
    let program = Arc::new(OnceLock::<Pid>::new());
    let ended = Arc::new(OnceLock::<Instant>::new());
    let end = {
        let (program, ended) = (Arc::clone(&program), Arc::clone(&ended));
        move |seen: &Seen, now: Moment| {
            let is_it = seen.number == number && now == moment;
            if is_it {
                ended.set(Instant::now()).unwrap();
                kill_process(*program.wait(), signal).unwrap();
            }
            is_it
        }
    };
    let proxy = FaultProxy::start(
        registry.address(),
        {
            let end = end.clone();
            move |seen| end(seen, Moment::Before).then_some(Kind::Hang)
        },
        move |seen| {
            end(seen, Moment::After);
        },
    );
    let project = Project::new(proxy.address().to_string());

    let child = project.start();
    program.set(Pid::from_child(&child)).unwrap();
    let output = child.wait_with_output().unwrap();

    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let Some(ended) = ended.get() else { return Err(format!("the request never came: {told}")) };
    let took = ended.elapsed();
    let is_ended = match (signal, moment) {
        (Signal::KILL, _) => output.status.signal() == Some(signal.as_raw()),
        (_, Moment::Before) => told.contains("error: interrupted"),
        // Of what came after the request, all may be done.
        (_, Moment::After) => output.status.success() || told.contains("error: interrupted"),
    };
    if !is_ended {
        return Err(format!("the program ended with {}: {told}", output.status));
    }
    let found = registry.manifest(REPOSITORY).ok_or("the tag is gone")?;
    if found != manifest_of(&old) && found != *new {
        return Err("the tag names another image".to_owned());
    }
    registry.is_whole(REPOSITORY, &found)?;
    let again = project.push();
    if !again.status.success() {
        return Err(format!("the second push: {}", String::from_utf8_lossy(&again.stderr)));
    }
    match registry.manifest(REPOSITORY) {
        Some(found) if found == *new => registry.is_whole(REPOSITORY, &found).map(|()| took),
        _ => Err("the second push did not move the tag".to_owned()),
    }
}

#[test]
fn a_push_that_is_ended_at_any_request_leaves_whole_tags_and_can_be_repeated() {
    let (new, requests) = undisturbed();
    let mut cases = Vec::new();
    for number in 0..requests {
        // Over two requests, each signal comes before one and after the other.
        let (first, second) =
            if number % 2 == 0 { (Signal::TERM, Signal::KILL) } else { (Signal::KILL, Signal::TERM) };
        cases.extend([(number, Moment::Before, first), (number, Moment::After, second)]);
    }

    // On a machine that pauses, some of the ends take longer.
    let soonest = Mutex::new(Duration::MAX);

    let wrong = in_parallel(6, cases, |(number, moment, signal)| {
        let ended = interrupt(&new, number, moment, signal);
        let took = ended.map_err(|error| format!("{signal:?} {moment:?} request {number}: {error}"))?;
        if (moment, signal) == (Moment::Before, Signal::TERM) {
            let mut soonest = soonest.lock().unwrap();
            *soonest = took.min(*soonest);
        }
        Ok(())
    });

    assert_eq!(wrong, [""; 0]);
    let soonest = soonest.into_inner().unwrap();
    assert!(soonest < SOON, "the soonest end of a program that was asked to end took {soonest:?}");
    assert!(requests >= 10, "{requests} requests");
}
