//! The simulated runner keeps GitLab Runner's contract with its driver.
//!
//! The drivers here are short Bash scripts, called as `bash -c SCRIPT driver STAGE [FILE NAME]`.
#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nixlayer::job::payload::Variable;
use nixlayer::secret::Secret;
use nixlayer::simulate::runner::ExitCodes;
use nixlayer::simulate::{Driver, Outcome, Runner, RunnerVersion, SimulatedJob, Sources, Status};
use tempfile::TempDir;

/// A driver that does what it should: it names its folders, and runs the scripts.
const HONEST: &str = r#"
case "$1" in
  config) echo "{\"builds_dir\": \"$ROOT/builds\", \"cache_dir\": \"$ROOT/cache\"}" ;;
  run)
    rm -f "$BUILD_EXIT_CODE_FILE"
    bash "$2" && exit 0
    code=$?
    [ -z "$BUILD_EXIT_CODE_FILE" ] || echo "$code" > "$BUILD_EXIT_CODE_FILE"
    exit "$BUILD_FAILURE_EXIT_CODE" ;;
esac
"#;

/// A project, a job and a runner in a folder that goes with them.
struct Scene {
    root: TempDir,
    runner: Runner,
    job: SimulatedJob,
    cancel: AtomicBool,
    /// The job is cancelled when this text is in its log.
    cancel_at: Option<&'static str>,
}

impl Scene {
    fn new(driver: &str) -> Self {
        let root = TempDir::new().unwrap();
        for folder in ["project", "tmp", "artifacts"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("project/hello.txt"), "hello\n").unwrap();
        let sources = Sources::copy(&root.path().join("project"), &root.path().join("origin.git")).unwrap();
        let args = |stage: &str| ["-c", driver, "driver", stage].map(std::ffi::OsString::from).to_vec();
        let environment = BTreeMap::from([
            ("PATH".into(), env!("PATH").into()),
            ("HOME".into(), "/nonexistent".into()),
            ("ROOT".into(), root.path().into()),
            ("OF_THE_HOST".into(), "inherited".into()),
        ]);
        let runner = Runner {
            version: RunnerVersion::NEWEST,
            driver: Driver {
                program: "/bin/bash".into(),
                config_args: args("config"),
                prepare_args: args("prepare"),
                run_args: args("run"),
                cleanup_args: args("cleanup"),
            },
            environment,
            temp_dir: root.path().join("tmp"),
            builds_dir: None,
            cache_dir: None,
            artifacts_dir: root.path().join("artifacts"),
            exit_codes: ExitCodes { build_failure: 41, system_failure: 42 },
            retry_pause: Duration::ZERO,
            graceful_kill: Duration::from_secs(300),
            force_kill: Duration::from_secs(300),
        };
        let job = SimulatedJob {
            id: 7,
            name: "image".to_owned(),
            project_path: "team/app".to_owned(),
            server_url: "http://127.0.0.1:1".to_owned(),
            registry: Some("127.0.0.1:2".to_owned()),
            password: Secret::from("canary-4711".to_owned()),
            protected: false,
            sources,
            variables: Vec::new(),
            script: vec!["cat hello.txt".to_owned()],
            after_script: Vec::new(),
            artifacts: Vec::new(),
            timeout: 3600,
        };
        Self { root, runner, job, cancel: AtomicBool::new(false), cancel_at: None }
    }

    fn script(mut self, lines: &[&str]) -> Self {
        self.job.script = lines.iter().map(|line| (*line).to_owned()).collect();
        self
    }

    fn variable(mut self, key: &str, value: &str, kind: fn(Variable) -> Variable) -> Self {
        let variable =
            Variable { key: key.to_owned(), value: Secret::from(value.to_owned()), ..Variable::default() };
        self.job.variables.push(kind(variable));
        self
    }

    fn version(mut self, major: u16, minor: u16) -> Self {
        self.runner.version = RunnerVersion::new(major, minor);
        self
    }

    fn run(&self) -> Outcome {
        let mut seen = String::new();
        let mut show = |lines: &str| {
            seen.push_str(lines);
            if self.cancel_at.is_some_and(|text| seen.contains(text)) {
                self.cancel.store(true, Ordering::Relaxed);
            }
        };
        let outcome = self.runner.run(&self.job, &self.cancel, &mut show).unwrap();
        assert_eq!(outcome.trace, seen, "what is shown is the log");
        let left: Vec<_> = fs::read_dir(&self.runner.temp_dir).unwrap().collect();
        assert!(left.is_empty(), "temporary folders stay behind: {left:?}");
        outcome
    }

    /// What a driver wrote to `ROOT/NAME`.
    fn noted(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join(name)).unwrap_or_default()
    }
}

fn plain(variable: Variable) -> Variable {
    variable
}

fn stages(outcome: &Outcome) -> Vec<&str> {
    outcome.calls.iter().map(|call| call.stage.as_str()).collect()
}

#[test]
fn a_plain_job_has_the_stages_of_a_plain_job() {
    let scene = Scene::new(HONEST);

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert_eq!(
        stages(&outcome),
        ["config", "prepare", "prepare_script", "get_sources", "build_script", "cleanup"]
    );
    assert!(outcome.trace.contains("$ cat hello.txt"), "{}", outcome.trace);
    assert!(outcome.trace.contains("\nhello\n"), "{}", outcome.trace);
    assert_eq!(outcome.project_dir, Some(scene.root.path().join("builds/team/app")));
}

#[test]
fn a_job_with_everything_has_all_stages_in_order() {
    let mut scene = Scene::new(HONEST)
        .script(&["mkdir report", "cp \"$SETTINGS\" report/settings"])
        .variable("SETTINGS", "a: 1\nb: 2\n", |variable| Variable { file: true, ..variable });
    scene.job.after_script = vec!["echo after: $CI_JOB_STATUS".to_owned()];
    scene.job.artifacts = vec!["report/".to_owned()];

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert_eq!(
        stages(&outcome)[4..],
        ["build_script", "after_script", "upload_artifacts_on_success", "cleanup_file_variables", "cleanup"]
    );
    assert!(outcome.trace.contains("after: success"), "{}", outcome.trace);
    assert_eq!(scene.noted("artifacts/report/settings"), "a: 1\nb: 2\n");
    assert!(!scene.root.path().join("builds/team/app.tmp/SETTINGS").exists());
}

#[test]
fn a_failed_script_still_has_its_after_script_and_artifacts() {
    let mut scene =
        Scene::new(HONEST).script(&["mkdir report", "echo 1 > report/x", "exit 37", "echo unreachable"]);
    scene.job.after_script = vec!["echo after: $CI_JOB_STATUS; exit 3".to_owned()];
    scene.job.artifacts = vec!["report/".to_owned()];

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::ScriptFailure { exit_code: 37 });
    assert_eq!(
        stages(&outcome)[4..],
        ["build_script", "after_script", "upload_artifacts_on_failure", "cleanup"]
    );
    assert!(outcome.trace.contains("after: failed"), "{}", outcome.trace);
    assert_eq!(scene.noted("artifacts/report/x"), "1\n");
}

#[test]
fn exit_codes_mean_what_the_driver_was_told() {
    for (ending, version, expected) in [
        ("exit 41", (19, 3), Status::ScriptFailure { exit_code: 1 }),
        ("exit 42", (19, 3), Status::SystemFailure),
        ("exit 1", (19, 3), Status::SystemFailure),
        ("exit 101", (19, 3), Status::SystemFailure),
        ("kill -KILL $$", (19, 3), Status::SystemFailure),
        ("echo 5 > $TMPDIR/build_exit_code; exit 41", (17, 9), Status::ScriptFailure { exit_code: 5 }),
        ("echo 5 > $TMPDIR/build_exit_code; exit 41", (17, 8), Status::ScriptFailure { exit_code: 1 }),
        ("echo five > $BUILD_EXIT_CODE_FILE; exit 41", (19, 3), Status::SystemFailure),
        ("echo 5 > $BUILD_EXIT_CODE_FILE; exit 42", (19, 3), Status::SystemFailure),
    ] {
        let driver =
            HONEST.replace("rm -f \"$BUILD_EXIT_CODE_FILE\"", "[ $3 != build_script ] || { ENDING; }");
        let scene = Scene::new(&driver.replace("ENDING", ending)).version(version.0, version.1);

        let outcome = scene.run();

        assert_eq!(outcome.status, expected, "{ending} under {version:?}\n{}", outcome.trace);
        assert_eq!(stages(&outcome).last(), Some(&"cleanup"), "{ending}");
    }
}

#[test]
fn a_system_failure_before_the_first_stage_is_tried_three_times_with_new_folders() {
    let driver = format!(
        r#"[ $1 != prepare ] || {{ echo "$TMPDIR $JOB_RESPONSE_FILE" >> $ROOT/tries; exit 42; }}
           [ $1 != cleanup ] || echo "$TMPDIR" >> $ROOT/cleanups
           {HONEST}"#
    );
    let scene = Scene::new(&driver);

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::SystemFailure);
    assert_eq!(stages(&outcome), ["config", "prepare", "cleanup"].repeat(3));
    let tries = scene.noted("tries");
    let folders: Vec<&str> = tries.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(folders.join("\n"), scene.noted("cleanups").trim());
    assert_eq!(folders.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    for line in tries.lines() {
        let (folder, response) = line.split_once(' ').unwrap();
        assert_eq!(Path::new(response), Path::new(folder).join("response.json"));
    }
}

#[test]
fn a_second_attempt_may_succeed() {
    let driver = format!("[ $1 != prepare ] || ! mkdir $ROOT/once 2>/dev/null || exit 9\n{HONEST}");
    let scene = Scene::new(&driver);

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert_eq!(stages(&outcome)[..5], ["config", "prepare", "cleanup", "config", "prepare"]);
}

#[test]
fn a_build_failure_before_the_first_stage_is_final() {
    for (stage, expected) in
        [("config", &["config", "cleanup"][..]), ("prepare", &["config", "prepare", "cleanup"])]
    {
        let scene = Scene::new(&format!("[ $1 != {stage} ] || exit 41\n{HONEST}"));

        let outcome = scene.run();

        assert_eq!(outcome.status, Status::ScriptFailure { exit_code: 1 }, "{stage}");
        assert_eq!(stages(&outcome), expected);
    }
}

#[test]
fn config_must_print_json_and_folders() {
    for (printed, reason) in [
        ("not JSON", "parsing the output of config"),
        (r#"{"builds_dir": "/b", "cache_dir": "/c", "job_env": {"A": 1}}"#, "parsing the output of config"),
        ("", "the builds_dir is not configured"),
        (r#"{"builds_dir": "/b"}"#, "the cache_dir is not configured"),
    ] {
        let scene = Scene::new(&format!("[ $1 != config ] || echo '{printed}'"));

        let outcome = scene.run();

        assert_eq!(outcome.status, Status::SystemFailure);
        assert_eq!(stages(&outcome), ["config", "cleanup"].repeat(3), "{printed}");
        assert!(outcome.trace.contains(reason), "{}", outcome.trace);
    }
}

#[test]
fn folders_of_config_toml_hold_where_config_says_nothing() {
    let mut scene = Scene::new(r#"[ $1 != config ] || exit 0; [ $1 != run ] || exec bash "$2""#);
    scene.runner.builds_dir = Some(scene.root.path().join("from-toml"));
    scene.runner.cache_dir = Some(scene.root.path().join("cache"));

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert_eq!(outcome.project_dir, Some(scene.root.path().join("from-toml/team/app")));
}

#[test]
fn shared_builds_have_a_folder_for_the_runner_in_between() {
    let scene = Scene::new(
        &HONEST.replace("\\\"builds_dir\\\"", "\\\"builds_dir_is_shared\\\": true, \\\"builds_dir\\\""),
    );

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert_eq!(outcome.project_dir, Some(scene.root.path().join("builds/simulate/0/team/app")));
}

#[test]
fn the_drivers_environment_is_the_runners() {
    let driver = format!(
        r#"{{ echo "== $1"; pwd; tr '\0' '\n' < /proc/$$/environ; }} >> $ROOT/environments
           if read line; then echo "stdin has $line" >> $ROOT/environments; fi
           [ $1 != run ] || stat -c '%a %n' "$2" >> $ROOT/modes
           {HONEST}"#
    )
    .replace("\\\"builds_dir\\\"", "\\\"job_env\\\": {\\\"OF_THE_HOST\\\": \\\"replaced\\\", \\\"CUSTOM_ENV_CI\\\": \\\"no\\\"}, \\\"builds_dir\\\"");
    let scene =
        Scene::new(&driver).variable("CI_REGISTRY", "evil.example", plain).variable("X", "$CI-$$X", plain);

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    let noted = scene.noted("environments");
    let calls: Vec<&str> = noted.split("== ").skip(1).collect();
    assert_eq!(calls.len(), outcome.calls.len());
    for call in &calls {
        let folder = call.lines().nth(1).unwrap();
        assert!(
            folder.starts_with(scene.runner.temp_dir.join("custom-executor").to_str().unwrap()),
            "{folder}"
        );
        for expected in [
            &format!("TMPDIR={folder}"),
            &format!("JOB_RESPONSE_FILE={folder}/response.json"),
            &format!("BUILD_EXIT_CODE_FILE={folder}/build_exit_code"),
            "BUILD_FAILURE_EXIT_CODE=41",
            "SYSTEM_FAILURE_EXIT_CODE=42",
            "CUSTOM_ENV_CI=true",
            "CUSTOM_ENV_CI_REGISTRY=evil.example",
            "CUSTOM_ENV_CI_JOB_SERVICES=",
            "CUSTOM_ENV_X=true-$X",
        ] {
            assert!(call.lines().any(|line| line == expected), "{expected} is missing in {call}");
        }
        assert!(!call.contains("stdin has"), "{call}");
    }
    assert!(calls[0].contains("OF_THE_HOST=inherited") && calls[0].contains("CUSTOM_ENV_CI_PROJECT_DIR=\n"));
    let project =
        format!("CUSTOM_ENV_CI_PROJECT_DIR={}", scene.root.path().join("builds/team/app").display());
    assert!(calls[1].contains("OF_THE_HOST=replaced") && calls[1].contains(&project), "{}", calls[1]);
    assert!(scene.noted("modes").lines().all(|line| line.starts_with("700 ") && line.ends_with("/script")));
}

#[test]
fn old_runners_have_what_old_runners_had() {
    let driver = format!(
        "echo \"$1 ${{@: -2}} <$BUILD_EXIT_CODE_FILE$CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR>\" >> $ROOT/calls\n{HONEST}"
    );
    let scene = Scene::new(&driver).version(14, 7).script(&["exit 5"]);

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::ScriptFailure { exit_code: 1 }, "{}", outcome.trace);
    let calls = scene.noted("calls");
    assert!(calls.lines().all(|line| line.ends_with("<>")), "{calls}");
    assert!(calls.contains("/script. build_script <>"), "{calls}");
}

#[test]
fn a_runner_of_tomorrow_says_step_script() {
    let outcome = Scene::new(HONEST).version(20, 0).run();

    assert_eq!(stages(&outcome)[4], "step_script");
}

#[test]
fn masked_values_are_not_in_the_log_but_in_cleanups_output() {
    let driver = format!(
        r#"[ $1 != config ] || echo "config: $CUSTOM_ENV_CI_JOB_TOKEN" >&2
           [ $1 != cleanup ] || echo "cleanup: $CUSTOM_ENV_CI_JOB_TOKEN"
           {HONEST}"#
    );
    let scene = Scene::new(&driver).script(&["printf canary-; sleep 0.2; echo 4711", "echo $MINE"]).variable(
        "MINE",
        "my-own-secret",
        |variable| Variable { masked: true, ..variable },
    );

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert!(outcome.trace.contains("config: [MASKED]\n"), "{}", outcome.trace);
    assert_eq!(outcome.trace.matches("[MASKED]\n").count(), 3, "{}", outcome.trace);
    for secret in ["canary-4711", "my-own-secret"] {
        assert!(!outcome.trace.contains(secret), "{}", outcome.trace);
    }
    assert_eq!(outcome.cleanup_log, "cleanup: canary-4711\n");
}

#[test]
fn a_cancelled_job_goes_on_with_after_script_since_16_11() {
    for (version, status_seen, expected) in [
        (
            (16, 11),
            "after: canceled",
            &["build_script", "after_script", "upload_artifacts_on_failure", "cleanup"][..],
        ),
        ((16, 10), "", &["build_script", "cleanup"]),
    ] {
        let mut scene = Scene::new(HONEST).version(version.0, version.1).script(&[
            "echo at work",
            "sleep 600",
            "echo done",
        ]);
        scene.job.after_script = vec!["echo after: $CI_JOB_STATUS".to_owned()];
        scene.job.artifacts = vec!["hello.txt".to_owned()];
        scene.cancel_at = Some("\nat work\n");

        let outcome = scene.run();

        assert_eq!(outcome.status, Status::Cancelled, "{}", outcome.trace);
        assert_eq!(&stages(&outcome)[4..], expected, "{version:?}");
        assert!(outcome.trace.contains(status_seen), "{}", outcome.trace);
        assert!(!outcome.trace.contains("\ndone\n"), "{}", outcome.trace);
    }
}

#[test]
fn a_job_cancelled_in_prepare_has_no_other_attempt() {
    let mut scene =
        Scene::new(&format!("[ $1 != prepare ] || {{ echo waiting; exec sleep 600; }}\n{HONEST}"));
    scene.cancel_at = Some("waiting\n");

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::Cancelled);
    assert_eq!(stages(&outcome), ["config", "prepare", "cleanup"]);
}

#[test]
fn failed_sources_skip_the_script_but_not_the_artifacts() {
    let mut scene = Scene::new(&format!("[ \"$3\" != get_sources ] || exit 41\n{HONEST}"));
    scene.job.after_script = vec!["true".to_owned()];
    scene.job.artifacts = vec!["hello.txt".to_owned()];

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::ScriptFailure { exit_code: 1 });
    assert_eq!(stages(&outcome)[3..], ["get_sources", "upload_artifacts_on_failure", "cleanup"]);
}

#[test]
fn after_a_failed_prepare_script_there_is_only_cleanup() {
    let mut scene = Scene::new(&format!("[ \"$3\" != prepare_script ] || exit 42\n{HONEST}"));
    scene.job.artifacts = vec!["hello.txt".to_owned()];

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::SystemFailure);
    assert_eq!(stages(&outcome), ["config", "prepare", "prepare_script", "cleanup"]);
}

#[test]
fn a_failed_cleanup_is_a_warning() {
    let outcome = Scene::new(&format!("[ $1 != cleanup ] || exit 42\n{HONEST}")).run();

    assert_eq!(outcome.status, Status::Success);
    assert!(outcome.trace.contains("WARNING: Cleanup script failed"), "{}", outcome.trace);
}

/// Linux takes no single environment string of 128 KiB, so not even cleanup can be called.
#[test]
fn a_variable_too_long_for_an_environment_stops_every_call() {
    let scene = Scene::new(HONEST).variable("HUGE", &"x".repeat(140_000), plain);

    let outcome = scene.run();

    assert_eq!(outcome.status, Status::SystemFailure);
    assert_eq!(stages(&outcome), ["config", "cleanup"].repeat(3));
    assert!(outcome.calls.iter().all(|call| call.exit_code.is_none()));
}

#[test]
fn temporary_folder_and_response_are_for_their_owner_only() {
    let scene = Scene::new(&format!("stat -c %a . \"$JOB_RESPONSE_FILE\" >> $ROOT/modes\n{HONEST}"));

    scene.run();

    assert_eq!(scene.noted("modes").lines().take(2).collect::<Vec<_>>(), ["700", "600"]);
}
