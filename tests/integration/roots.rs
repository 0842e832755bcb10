//! What an image is made of stays in the store until the image is pushed, and not a moment longer.

use std::fs;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use nixlayer::simulate::Status;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::support::{TestJob, succeed};

/// How long the job may take to reach the upload.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn garbage_collection_spares_what_is_being_uploaded() {
    for (name, end) in [("cancelled", End::Cancelled), ("killed", End::Killed)] {
        let registry = StalledRegistry::start();
        // A package that no other root holds.
        let package = format!("held-while-uploading-{name}-{}", std::process::id());
        let script = "mkdir $out; echo $out > $out/self";
        let mut job = TestJob::image_of("held", &format!("held = run \"{package}\" \"{script}\";"), &[])
            .trusting(&registry.address);
        job.registry_host = registry.address.clone();

        let (outcome, path) = std::thread::scope(|threads| {
            let run = threads.spawn(|| job.run());
            registry.uploads.recv_timeout(PATIENCE).unwrap();
            let path = store_path(&package);
            let dead = is_dead(&path);
            let roots =
                succeed(Command::new("nix-store").args(["--query", "--roots", &path]).output().unwrap());
            match end {
                End::Cancelled => job.cancel.store(true, Ordering::Relaxed),
                End::Killed => kill_build(&job),
            }
            let outcome = run.join().unwrap();
            let own_roots = job.place("state/jobs");
            assert!(!dead && roots.contains(own_roots.to_str().unwrap()), "{name}: held by {roots}");
            (outcome, path)
        });

        let expected = if end == End::Cancelled { Status::Cancelled } else { Status::SystemFailure };
        assert_eq!(outcome.status, expected, "{}", outcome.trace);
        job.assert_nothing_left();
        assert!(is_dead(&path), "{name}");
        delete(&path);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Cancelled,
    Killed,
}

/// A registry that everybody may use, where no upload ever begins.
struct StalledRegistry {
    address: String,
    /// Gets a message for every upload that is waiting.
    uploads: Receiver<()>,
    _runtime: Runtime,
}

impl StalledRegistry {
    fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, uploads) = mpsc::channel();
        let answer = move |request: Request| {
            let sender = sender.clone();
            async move {
                match (request.method(), request.uri().path()) {
                    (_, "/v2/") => StatusCode::OK,
                    (&Method::POST, _) => {
                        // The test is over once it no longer listens.
                        let _ = sender.send(());
                        std::future::pending().await
                    }
                    _ => StatusCode::NOT_FOUND,
                }
            }
        };
        runtime.spawn(axum::serve(listener, Router::new().fallback(answer)).into_future());
        Self { address, uploads, _runtime: runtime }
    }
}

/// The store path of this name.
fn store_path(name: &str) -> String {
    let paths = fs::read_dir("/nix/store").unwrap().map(|entry| entry.unwrap().path().display().to_string());
    let found: Vec<_> = paths.filter(|path| path.ends_with(&format!("-{name}"))).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

/// Whether a garbage collection would take `path`.
fn is_dead(path: &str) -> bool {
    let dead = succeed(Command::new("nix-store").args(["--gc", "--print-dead"]).output().unwrap());
    dead.lines().any(|dead| dead == path)
}

/// Kills the stage of `job` that runs the job's own script, as the kernel does when memory runs out.
fn kill_build(job: &TestJob) {
    let config = job.place("config.yaml");
    let stage = format!("{}\0stage\0run\0", config.display());
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let command_line =
        |process: &str| fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let mut found = processes.filter(|process| {
        let command_line = command_line(process);
        command_line.contains(&stage) && command_line.ends_with("\0build_script\0")
    });
    let process = found.next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(process).unwrap(), Signal::KILL).unwrap();
}

/// Removes `path` and what it was made from.
fn delete(path: &str) {
    let query = |question: &str, path: &str| {
        succeed(Command::new("nix-store").args(["--query", question, path]).output().unwrap())
    };
    let derivations = query("--referrers-closure", query("--deriver", path).trim());
    succeed(Command::new("nix-store").args(["--delete", path]).args(derivations.lines()).output().unwrap());
}
