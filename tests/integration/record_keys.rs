//! Keys that sign layer records.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::support::exit_code;
use crate::support::signing_job::{SIGNATURE, SPEC, build, key_file, signing_job, try_push};

#[test]
fn where_jobs_could_read_the_key_it_is_not_loaded() {
    let mut job = signing_job(SPEC);
    job.admin["sandbox"] = json!("none");

    let said = build(&job, "latest");

    assert!(
        said.contains("layer records are not signed: with `sandbox: none`, jobs could read the key"),
        "{said}"
    );
    assert!(
        !String::from_utf8_lossy(&job.registry.manifest("team/app", "latest").unwrap()).contains(SIGNATURE)
    );
    assert!(!job.place("state/records").exists());
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let mut job = signing_job(SPEC);
    fs::set_permissions(key_file(&job, "runner-1"), fs::Permissions::from_mode(0o640)).unwrap();
    let failed = try_push(&job, &format!("{}/team/app:latest", job.registry_host), &[], &[]);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        said.contains("cause: others can read it, or own it\n  fix:   make it the runner's user's own"),
        "{said}"
    );

    // In a job, before anything else is done.
    let outcome = job.run();
    assert_eq!(exit_code(&outcome, "prepare"), Some(42), "{}", outcome.trace);

    fs::set_permissions(key_file(&job, "runner-1"), fs::Permissions::from_mode(0o600)).unwrap();
    job.admin["scripts"] = json!({ "read_only": [job.place("keys")] });
    let failed = try_push(&job, &format!("{}/team/app:latest", job.registry_host), &[], &[]);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("cause: jobs can read it there"), "{said}");
}

#[test]
fn a_key_is_made_once_and_is_its_owners() {
    let job = signing_job(SPEC);
    let file = key_file(&job, "runner-1");
    let secret = fs::read_to_string(&file).unwrap();

    let again = job.nixlayer(&["keygen", "runner-1", file.to_str().unwrap()]);

    assert!(!again.status.success());
    assert_eq!(fs::read_to_string(&file).unwrap(), secret);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(secret.starts_with("runner-1:"));
}
