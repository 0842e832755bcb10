//! `cleanup` removes what a job left, whatever that is and however the job ended.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use nixlayer::simulate::Status;

use crate::support::{TOKEN, TestJob, eventually, processes, processes_naming, stages};

/// What a job can leave so that its removal fails or goes astray.
const LITTER: &str = r#"
for place in . ~ /tmp; do
  cd "$place"
  mkdir -p locked/inner; echo x > locked/inner/file; ln -s /nonexistent locked/dangling; chmod 000 locked/inner; chmod 500 locked
  ln -s VICTIM link; ln -s VICTIM/kept file-link
  touch -- '-rf' '*' $'new\nline' $'\xff\xfe'; mkfifo pipe
  python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
  (for i in $(seq 400); do mkdir deep; cd deep; done; ln -s VICTIM bottom)
done
echo littered
"#;

#[test]
fn whatever_a_script_left_is_removed_and_nothing_that_links_lead_to() {
    let mut job = TestJob::new(&[]);
    let victim = job.place("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("kept"), "kept").unwrap();
    job.script = vec![LITTER.replace("VICTIM", &victim.to_string_lossy())];
    // An admin may have moved the builds to another disk.
    let disk = job.place("disk");
    fs::create_dir(&disk).unwrap();
    symlink(&disk, job.place("builds")).unwrap();
    job.admin["builds_dir"] = serde_json::json!(job.place("builds"));

    let outcome = job.run();

    assert!(outcome.trace.contains("\nlittered\n"), "{}", outcome.trace);
    assert_eq!((outcome.status, outcome.cleanup_log.as_str()), (Status::Success, ""), "{}", outcome.trace);
    assert_eq!(fs::read_dir(disk).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(victim.join("kept")).unwrap(), "kept");
    job.assert_nothing_left();
}

/// The runner cleans up once per attempt, also when nothing came before.
#[test]
fn cleaning_up_needs_no_other_stage_no_registry_and_can_be_repeated() {
    for mishap in [
        // The first attempt fails before the driver has run at all.
        "if [ $stage = config ] && mkdir $ROOT/once 2>&-; then exit 42; fi",
        "[ $stage != prepare ] || exit 42",
        r#"[ $stage != cleanup ] || { "$@" && "$@" && "$@"; exit; }"#,
        "[ $stage != cleanup ] || export CUSTOM_ENV_CI_JOB_TOKEN=replaced CUSTOM_ENV_CI_JOB_ID=1",
    ] {
        let mut job = TestJob::image(&["true"]).wrapper(mishap);
        // Nobody listens there.
        job.registry_host = "127.0.0.1:1".to_owned();
        job.admin["registries"]["127.0.0.1:1"] = serde_json::json!({ "plain_http": true });

        let outcome = job.run();

        assert_eq!(outcome.status, Status::SystemFailure, "{mishap}\n{}", outcome.trace);
        let cleanups: Vec<_> = outcome.calls.iter().filter(|call| call.stage == "cleanup").collect();
        assert!(cleanups.len() == 3 && cleanups.iter().all(|call| call.exit_code == Some(0)), "{mishap}");
        assert_eq!(outcome.cleanup_log, "", "{mishap}");
        job.assert_nothing_left();
    }
}

/// What goes wrong is said, but neither tokens nor the payload: nobody masks the runner's own log.
#[test]
fn a_cleanup_that_fails_says_why_and_no_more() {
    let job = TestJob::new(&["true"]).wrapper(
        r#"[ $stage != cleanup ] || { rm -r $ROOT/state/jobs/*; rmdir $ROOT/state/jobs; echo > $ROOT/state/jobs; }"#,
    );

    let outcome = job.run();

    assert_eq!(outcome.status, Status::Success, "cleanup decides nothing");
    assert_eq!(outcome.calls.last().unwrap().exit_code, Some(42));
    assert!(outcome.cleanup_log.starts_with("error: "), "{}", outcome.cleanup_log);
    assert!(!outcome.cleanup_log.contains(TOKEN));
    assert_eq!(fs::read_dir(job.place("state/builds")).unwrap().count(), 0, "the rest is removed");
}

#[test]
fn nothing_outlives_a_driver_that_was_killed() {
    let marker = format!("86314.{}", std::process::id());
    let sleep = format!("setsid sleep {marker} & sleep {marker}");
    let package = format!("slow = run \"slow-2.0\" \"{sleep}\";");
    for (job, sign) in [
        (TestJob::new(&[&format!("echo started; {sleep}")]), "\nstarted\n"),
        (TestJob::image_of("slow", &package, &[]), "building '"),
    ] {
        let mut killed = false;

        let outcome = job.run_watching(|log| {
            if !killed && log.contains(sign) {
                killed = true;
                kill_driver(&job);
            }
        });

        assert!(killed, "{}", outcome.trace);
        assert_eq!(outcome.calls[4].exit_code, None, "{:?}", outcome.calls);
        assert_eq!(stages(&outcome).last(), Some(&"cleanup"));
        assert_eq!(outcome.cleanup_log, "");
        assert_eq!(eventually(|| processes_naming(&marker), Vec::is_empty), Vec::<String>::new());
        job.assert_nothing_left();
    }
}

/// Ends the driver of a `run` stage as the runner does at last, or the kernel when memory is short.
fn kill_driver(job: &TestJob) {
    let root = job.root.path().to_string_lossy().into_owned();
    let is_driver = |line: &String| {
        line.starts_with(env!("CARGO_BIN_EXE_nixlayer"))
            && line.contains(&root)
            && line.contains(" stage run ")
    };
    let drivers: Vec<_> = processes().into_iter().filter(|(_, line)| is_driver(line)).collect();
    assert_eq!(drivers.len(), 1, "{drivers:?}");
    assert!(Command::new("kill").args(["-KILL", &drivers[0].0.to_string()]).status().unwrap().success());
}
