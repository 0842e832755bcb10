//! A job that is cancelled ends soon, with everything it started, and leaves tags as they were.
//!
//! The runner kills a driver that has not ended in time, which then has no exit code.

use std::fs;
use std::sync::atomic::Ordering;

use nixlayer::simulate::Outcome;
use serde_json::json;

use crate::support::{StallingProxy, TestJob, eventually, exit_code, processes_naming, stages};

/// Releases before and after the one from which a cancelled job goes on with `after_script`.
const RELEASES: [(u16, u16); 2] = [(14, 1), (16, 11)];

/// `job` with a script afterwards, and with as much time for the script as a machine needs that pauses.
fn cancellable(mut job: TestJob, (major, minor): (u16, u16)) -> TestJob {
    job.after_script = vec!["echo afterwards; cat ~/last_words || true".to_owned()];
    job.admin["limits"] = json!({ "grace": 50 });
    job.version(major, minor)
}

/// Checks that the driver ended by itself, and that what follows a cancelled stage followed.
fn assert_cancelled(job: &TestJob, outcome: &Outcome) {
    assert_eq!(exit_code(outcome, "build_script"), Some(42), "{}", outcome.trace);
    assert_eq!(exit_code(outcome, "cleanup"), Some(0));
    let afterwards = job.runner.version.cancels_gracefully();
    assert_eq!(stages(outcome).contains(&"after_script"), afterwards, "{:?}", outcome.calls);
    assert_eq!(outcome.trace.contains("\nafterwards\n"), afterwards, "{}", outcome.trace);
    assert!(outcome.trace.contains("error: the job was cancelled, or its time is over"), "{}", outcome.trace);
    assert_eq!(outcome.cleanup_log, "");
    job.assert_nothing_left();
}

#[test]
fn a_script_may_say_its_last_words() {
    for release in RELEASES {
        let script = "trap 'sleep 0.2; echo last words | tee ~/last_words; exit 0' TERM; echo started; \
                      while :; do sleep 0.05; done";
        let job = cancellable(TestJob::new(&[script]), release);

        let outcome = job.run_cancelled_at("\nstarted\n");

        assert_cancelled(&job, &outcome);
        let words = outcome.trace.lines().filter(|line| *line == "last words").count();
        assert_eq!(words, if release == RELEASES[0] { 1 } else { 2 }, "{}", outcome.trace);
    }
}

#[test]
fn a_script_that_does_not_listen_is_ended_with_its_children() {
    let marker = format!("86312.{}", std::process::id());
    for release in RELEASES {
        let script = format!(
            "trap '' TERM; setsid sleep {marker} & (trap '' TERM; sleep {marker}) & echo started; \
             while :; do sleep 0.05; done"
        );
        let mut job = cancellable(TestJob::new(&[&script]), release);
        job.admin["limits"] = json!({ "grace": 1 });

        let outcome = job.run_cancelled_at("\nstarted\n");

        assert_cancelled(&job, &outcome);
        assert_eq!(eventually(|| processes_naming(&marker), Vec::is_empty), Vec::<String>::new());
    }
}

#[test]
fn a_package_that_is_being_built_is_given_up() {
    let marker = format!("86313.{}", std::process::id());
    for release in RELEASES {
        let package =
            format!("slow = run \"slow-1.0\" \"trap '' TERM; setsid sleep {marker} & sleep {marker}\";");
        let job = cancellable(TestJob::image_of("slow", &package, &[]), release);

        let outcome = job.run_cancelled_at("building '");

        assert_cancelled(&job, &outcome);
        assert_eq!(job.registry.tags(), []);
        assert_eq!(eventually(|| processes_naming(&marker), Vec::is_empty), Vec::<String>::new());
    }
}

#[test]
fn an_upload_that_stands_still_is_given_up_and_the_old_tag_stays() {
    // The one is sent in a single request, the other in chunks.
    let packages = "small = run \"small-1.0\" \"mkdir $out; echo small > $out/file\"; \
                    large = run \"large-1.0\" \"mkdir $out; head -c 3000000 /dev/urandom > $out/file\";";
    let job = TestJob::image_of("hello", packages, &[]);
    let proxy = StallingProxy::start(job.registry.address());
    let mut job = cancellable(job, RELEASES[1]);
    job.admin["limits"] = json!({ "grace": 50, "chunk": 1 });
    job.admin["registries"][proxy.host()] = json!({ "plain_http": true });
    job.registry_host = proxy.host();
    let first = job.run();
    let old = job.tag("latest").expect(&first.trace);

    for package in ["small", "large"] {
        let spec = format!("name: app\nnixpkgs: ./packages\ncontents: [{package}]\n");
        fs::write(job.place("project/image.yaml"), spec).unwrap();
        proxy.stall();
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                eventually(|| proxy.has_stalled(), |stalled| *stalled);
                job.cancel.store(true, Ordering::Relaxed);
            });
            job.run()
        });

        assert!(proxy.has_stalled(), "{}", outcome.trace);
        assert_cancelled(&job, &outcome);
        assert_eq!(job.tag("latest"), Some(old), "{package}");
        assert!(job.registry.manifest("team/app", "latest").is_some());
        proxy.recover();
        job.cancel.store(false, Ordering::Relaxed);
    }

    let again = job.run();
    assert_ne!(job.tag("latest").expect(&again.trace), old);
}
