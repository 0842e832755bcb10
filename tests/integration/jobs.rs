//! nixlayer keeps GitLab Runner's contract with a driver, whichever release calls it.

use nixlayer::simulate::Status;
use serde_json::Value;

use crate::support::{TestJob, exit_code, stages};

/// Releases on both sides of each change of the contract; 20.0 is the day on which `step_script` comes.
const RELEASES: [(u16, u16); 6] = [(14, 1), (16, 0), (16, 11), (17, 9), (19, 3), (20, 0)];

/// A trap at the end of an artifact's path: whatever is in a job's `home` or `/tmp` stays until its end.
const LEAVE_TRACES: &str = "mkdir -p report; echo 1 > report/x; echo home > ~/trace; echo tmp > /tmp/trace; \
                            echo dir > \"$TMPDIR/dir\"";

#[test]
fn an_ordinary_job_runs_all_its_stages_under_every_release() {
    for (major, minor) in RELEASES {
        let mut job = TestJob::new(&["cat hello.txt", LEAVE_TRACES]).version(major, minor);
        job.after_script =
            vec!["cat ~/trace /tmp/trace \"$TMPDIR/dir\"; echo status $CI_JOB_STATUS".to_owned()];
        job.artifacts = vec!["report".to_owned()];

        let outcome = job.run();

        assert_eq!(outcome.status, Status::Success, "{major}.{minor}\n{}", outcome.trace);
        let script = if major == 20 { "step_script" } else { "build_script" };
        let expected = [
            "config",
            "prepare",
            "prepare_script",
            "get_sources",
            script,
            "after_script",
            "upload_artifacts_on_success",
            "cleanup",
        ];
        assert_eq!(stages(&outcome), expected, "{major}.{minor}");
        assert!(outcome.calls.iter().all(|call| call.exit_code == Some(0)), "{:?}", outcome.calls);
        assert!(outcome.trace.contains("\nhello\n"), "{}", outcome.trace);
        assert!(outcome.trace.contains("\nhome\ntmp\ndir\nstatus success\n"), "{}", outcome.trace);
        assert_eq!(job.noted("artifacts/report/x"), "1\n");
        assert_eq!(outcome.cleanup_log, "");
        job.assert_nothing_left();
    }
}

#[test]
fn a_failing_script_ends_as_a_build_failure_with_its_own_exit_code() {
    for (major, minor) in RELEASES {
        let mut job = TestJob::new(&[LEAVE_TRACES, "(exit 3)", "echo unreachable"]).version(major, minor);
        job.after_script = vec!["cat ~/trace; echo status $CI_JOB_STATUS".to_owned()];
        job.artifacts = vec!["report".to_owned()];

        let outcome = job.run();

        // Before 17.9 a driver had no way to tell.
        let exit_code_known = if (major, minor) >= (17, 9) { 3 } else { 1 };
        assert_eq!(outcome.status, Status::ScriptFailure { exit_code: exit_code_known }, "{}", outcome.trace);
        assert_eq!(exit_code(&outcome, stages(&outcome)[4]), Some(41));
        assert!(outcome.trace.contains("\nhome\nstatus failed\n"), "{}", outcome.trace);
        assert_eq!(job.noted("artifacts/report/x"), "1\n");
        job.assert_nothing_left();
    }
}

#[test]
fn a_script_that_a_signal_ends_has_the_exit_code_that_shells_give_it() {
    for (line, expected) in [("kill -KILL $$", 137), ("kill -SEGV $$", 139), ("exit 255", 255)] {
        let outcome = TestJob::new(&[line]).run();

        assert_eq!(
            outcome.status,
            Status::ScriptFailure { exit_code: expected },
            "{line}\n{}",
            outcome.trace
        );
    }
}

#[test]
fn config_prints_its_json_and_nothing_else() {
    let mut job =
        TestJob::new(&[]).wrapper(r#"[ $stage != config ] || { "$@" | tee $ROOT/config.json; exit; }"#);
    job.runner.environment.insert("NIXLAYER_LOG".into(), "trace".into());

    let outcome = job.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    let printed: Value = serde_json::from_str(&job.noted("config.json")).unwrap();
    assert_eq!(printed["driver"]["name"], "nixlayer");
    assert_eq!(printed["shell"], "bash");
    assert_eq!(
        outcome.project_dir.unwrap(),
        job.place("").join(printed["builds_dir"].as_str().unwrap()).join("team/app")
    );
}

#[test]
fn the_exit_code_of_one_stage_is_not_taken_for_that_of_another() {
    let mut job = TestJob::new(&["exit 3"]).wrapper(
        r#"case $stage in
             prepare) echo 9 > $BUILD_EXIT_CODE_FILE ;;
             *script|get_sources)
               "$@"; code=$?
               echo "$stage $code $(cat $BUILD_EXIT_CODE_FILE 2>&-)" >> $ROOT/codes
               exit $code ;;
           esac"#,
    );
    job.after_script = vec!["true".to_owned()];

    let outcome = job.run();

    assert_eq!(outcome.status, Status::ScriptFailure { exit_code: 3 }, "{}", outcome.trace);
    assert_eq!(job.noted("codes"), "prepare_script 0 \nget_sources 0 \nbuild_script 41 3\nafter_script 0 \n");
}

#[test]
fn a_stage_of_a_later_release_runs_its_script_and_builds_no_image() {
    let job = TestJob::image(&["cat hello.txt; exit 5"])
        .wrapper(r#"[ $stage != build_script ] || set -- "${@:1:$#-1}" step_of_tomorrow"#);

    let outcome = job.run();

    assert_eq!(outcome.status, Status::ScriptFailure { exit_code: 5 }, "{}", outcome.trace);
    assert!(outcome.trace.contains("\nhello\n"), "{}", outcome.trace);
    assert_eq!(job.registry.tags(), []);
}

#[test]
fn step_script_builds_the_image_as_build_script_does() {
    let digests = [(19, 3), (20, 0)].map(|(major, minor)| {
        let job = TestJob::image(&["echo own script"]).version(major, minor);

        let outcome = job.run();

        assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
        assert!(job.noted("artifacts/nixlayer-report/image.env").contains("sha256:"));
        job.assert_nothing_left();
        (job.tag("latest").is_some(), outcome.trace.contains("\nown script\n"))
    });

    assert_eq!(digests, [(true, true); 2]);
}

#[test]
fn output_of_a_script_is_whole_in_order_and_at_once() {
    let script = "echo ready; for i in $(seq 6000); do [ -e go ] && break; sleep 0.05; done; [ -e go ] || exit 1; \
                  echo went; seq 100000; seq 3 >&2";
    let job = TestJob::new(&[script]);
    let mut told = false;

    let outcome = job.run_watching(|log| {
        if !told && log.contains("\nready\n") {
            told = true;
            job.go_on();
        }
    });

    assert_eq!(outcome.status, Status::Success, "the output came too late");
    let (_, printed) = outcome.trace.split_once("\nwent\n").unwrap();
    let expected: String = (1..=100_000).chain(1..=3).map(|number| format!("{number}\n")).collect();
    assert!(printed.starts_with(&expected));
}

#[test]
fn a_cache_lasts_from_job_to_job_of_one_project() {
    let noting = r#"[ $stage != config ] || { "$@" | tee $ROOT/config.json; exit; }"#;
    let mut job = TestJob::new(&["true"]).wrapper(noting);
    job.run();
    let config: Value = serde_json::from_str(&job.noted("config.json")).unwrap();
    // Where the runner's scripts put the archive of a cache.
    let cache = format!("{}/team/app/key", config["cache_dir"].as_str().unwrap());
    let mut run = |project: &str, line: String| {
        (job.project, job.script) = (project.to_owned(), vec![line]);
        job.run()
    };

    let writes = run("team/app", format!("mkdir -p {cache}; echo cached > {cache}/cache.zip"));
    let reads = run("team/app", format!("cat {cache}/cache.zip"));
    let other = run("team/other", format!("cat {cache}/cache.zip"));

    assert_eq!(writes.status, Status::Success, "{}", writes.trace);
    assert!(reads.trace.contains("\ncached\n"), "{}", reads.trace);
    assert_eq!(other.status, Status::ScriptFailure { exit_code: 1 }, "{}", other.trace);
}

/// What the runner or its admin got wrong is tried again, and the log says what to do.
#[test]
fn what_the_author_cannot_mend_is_a_system_failure_before_the_first_script() {
    let unset = "unset JOB_RESPONSE_FILE";
    let broken = "echo '{\"id\": \"canary-4712\", ' > $JOB_RESPONSE_FILE";
    let misplaced = "echo '{\"id\": \"canary-4712\"}' > $JOB_RESPONSE_FILE";
    let admin = "echo 'sandbox: bubblewrap\nlimits: { grase: 3 }' > $ROOT/config.yaml";
    let unreadable = "rm -f $ROOT/config.yaml";
    let no_bubblewrap =
        "echo '{ state_dir: \"'$ROOT/state'\", scripts: { path: /nonexistent } }' > $ROOT/config.yaml";
    for (mishap, stages_of_a_try, said) in [
        (
            unset,
            &["config", "cleanup"][..],
            &["the runner gave no `JOB_RESPONSE_FILE`", "fix:   use GitLab Runner 14.1"],
        ),
        (broken, &["config", "cleanup"], &["the job response is not a JSON object", "line 2, column 0"]),
        (misplaced, &["config", "cleanup"], &["field `id` of the job response", "unexpected form"]),
        (
            admin,
            &["config", "cleanup"],
            &["config.yaml:2:11: `limits.grase`: there is no such key", "fix:   write `grace`"],
        ),
        (
            unreadable,
            &["config", "cleanup"],
            &["cannot read the admin's configuration `", "fix:   correct the name in `--config`"],
        ),
        (
            no_bubblewrap,
            &["config", "prepare", "cleanup"],
            &["there is no `bwrap` in `/nonexistent`", "fix:   install bubblewrap"],
        ),
    ] {
        let job = TestJob::new(&["true"]).wrapper(mishap);

        let outcome = job.run();

        assert_eq!(outcome.status, Status::SystemFailure, "{mishap}\n{}", outcome.trace);
        assert_eq!(stages(&outcome), stages_of_a_try.repeat(3), "{mishap}");
        let failed = &outcome.calls[stages_of_a_try.len() - 2];
        assert_eq!(failed.exit_code, Some(42), "{mishap}");
        for text in said {
            assert!(outcome.trace.contains(text), "{mishap}: no `{text}` in\n{}", outcome.trace);
        }
        assert!(!format!("{}{}", outcome.trace, outcome.cleanup_log).contains("canary"), "{mishap}");
        job.assert_nothing_left();
    }
}

/// What the author can mend ends the job at once.
#[test]
fn what_the_author_can_mend_is_a_build_failure_with_a_fix() {
    let job = TestJob::image(&["echo own script"]).file("image.yaml", "name: app\ncontnets: [hello]\n");

    let outcome = job.run();

    assert_eq!(outcome.status, Status::ScriptFailure { exit_code: 1 }, "{}", outcome.trace);
    assert!(
        outcome.trace.contains("image.yaml:2:1: `contnets`: there is no such key\n  fix:   write `contents`")
    );
    assert!(!outcome.trace.contains("\nown script\n"), "the mistake is known before the script runs");
    job.assert_nothing_left();
}

#[test]
fn what_a_registry_loses_while_the_push_is_under_way_is_sent_again() {
    let mut job = TestJob::example("hello");
    job.start_registry_with(|settings| settings.loses_blobs_at_manifest(1));

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert_eq!(job.pushed("latest").layers.len(), 2);
    // Each layer once before the manifest was refused, and once again.
    assert_eq!(outcome.trace.matches("new     hello-1.0").count(), 2, "{}", outcome.trace);
}
