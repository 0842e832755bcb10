//! What the admin decides about a host: how the runner calls nixlayer, and whether there is a sandbox.

use std::process::Command;
use std::time::Duration;

use nixlayer::simulate::{Driver, Status};
use serde_json::json;

use crate::support::{TestJob, eventually, exit_code, processes_naming, succeed};

#[test]
fn the_printed_block_of_config_toml_makes_a_runner() {
    let mut job = TestJob::image(&["echo own script"]);
    let print = Command::new(env!("CARGO_BIN_EXE_nixlayer"))
        .arg("--config")
        .arg(job.write_config())
        .arg("print-config")
        .env_clear()
        .output();
    let block: toml::Table = succeed(print.unwrap()).parse().unwrap();
    let custom = block["runners"]["custom"].as_table().unwrap();
    let program = custom["config_exec"].as_str().unwrap();
    for stage in ["prepare", "run", "cleanup"] {
        assert_eq!(custom[&format!("{stage}_exec")].as_str(), Some(program));
    }
    let arguments = |stage: &str| {
        let arguments = custom[&format!("{stage}_args")].as_array().unwrap();
        arguments.iter().map(|argument| argument.as_str().unwrap().into()).collect()
    };
    job.runner.driver = Driver {
        program: program.into(),
        config_args: arguments("config"),
        prepare_args: arguments("prepare"),
        run_args: arguments("run"),
        cleanup_args: arguments("cleanup"),
    };
    // The runner itself gives up on a job that takes more than five minutes to end.
    let seconds = |key: &str| u64::try_from(custom[key].as_integer().unwrap()).unwrap();
    job.runner.graceful_kill = Duration::from_secs(seconds("graceful_kill_timeout"));
    job.runner.force_kill = Duration::from_secs(seconds("force_kill_timeout"));
    assert!(job.runner.graceful_kill + job.runner.force_kill < Duration::from_secs(300));

    let outcome = job.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert!(job.tag("latest").is_some());
}

#[test]
fn without_a_sandbox_a_job_runs_on_the_host_itself() {
    let mut job = TestJob::image(&["cat hello.txt; cat $ROOT_OF_TEST/config.yaml > /dev/null && echo host"]);
    job.admin["sandbox"] = json!("none");
    job.after_script =
        vec!["env | grep -E '^(RUNNER_SECRET|CUSTOM_ENV_|JOB_RESPONSE_FILE)' || echo clean".to_owned()];
    job.runner.environment.insert("RUNNER_SECRET".into(), "canary".into());
    let root = job.root.path().to_string_lossy().into_owned();
    let job = job.variable("ROOT_OF_TEST", &root);

    let outcome = job.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert!(outcome.trace.contains("an image job, not sandboxed"), "{}", outcome.trace);
    assert!(outcome.trace.contains("\nhello\nhost\n"), "{}", outcome.trace);
    assert!(outcome.trace.contains("\nclean\n"), "{}", outcome.trace);
    assert!(job.tag("latest").is_some());
    job.assert_nothing_left();
}

#[test]
fn without_a_sandbox_a_cancelled_script_has_its_grace_and_then_none() {
    let marker = format!("86315.{}", std::process::id());
    for (script, said) in [
        ("trap 'echo bye; exit 1' TERM; echo started; while :; do sleep 0.05; done", true),
        (
            "trap '' TERM; sleep MARKER & (trap '' TERM; sleep MARKER) & echo started; while :; do sleep 0.05; done",
            false,
        ),
    ] {
        let mut job = TestJob::new(&[&script.replace("MARKER", &marker)]);
        job.admin["sandbox"] = json!("none");
        // A machine that pauses needs much of the first.
        job.admin["limits"] = json!({ "grace": if said { 50 } else { 1 } });

        let outcome = job.run_cancelled_at("\nstarted\n");

        assert_eq!(exit_code(&outcome, "build_script"), Some(42), "{}", outcome.trace);
        assert_eq!(outcome.trace.contains("\nbye\n"), said, "{}", outcome.trace);
        assert_eq!(eventually(|| processes_naming(&marker), Vec::is_empty), Vec::<String>::new());
        job.assert_nothing_left();
    }
}

/// A builder that puts processes into sessions of their own is beyond a host without a sandbox.
#[test]
fn without_a_sandbox_a_package_that_is_being_built_is_given_up_too() {
    let marker = format!("86316.{}", std::process::id());
    let package = format!("slow = run \"slow-3.0\" \"trap '' TERM; sleep {marker}; true\";");
    let mut job = TestJob::image_of("slow", &package, &[]);
    job.admin["sandbox"] = json!("none");

    let outcome = job.run_cancelled_at("building '");

    assert_eq!(exit_code(&outcome, "build_script"), Some(42), "{}", outcome.trace);
    assert_eq!(eventually(|| processes_naming(&marker), Vec::is_empty), Vec::<String>::new());
    job.assert_nothing_left();
}
