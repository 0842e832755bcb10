//! A job cannot forge where and as whom its image is pushed.

use nixlayer::simulate::Status;
use serde_json::json;

use crate::support::{TestJob, exit_code, stages};

/// Variables that seem to decide where an image goes, or whose job it is. `EVIL` is a registry that
/// would take the job's password.
const FORGERIES: [(&str, &str); 9] = [
    ("CI_REGISTRY", "EVIL"),
    ("CI_REGISTRY_IMAGE", "EVIL/team/app"),
    ("CI_REGISTRY_USER", "somebody"),
    ("CI_REGISTRY_PASSWORD", "something"),
    ("CI_JOB_TOKEN", "something"),
    ("CI_PROJECT_PATH", "team/other"),
    ("CI_PROJECT_ID", "2"),
    ("CI_JOB_ID", "8"),
    ("CI_PROJECT_DIR", "/etc"),
];

#[test]
fn an_image_job_with_a_forged_variable_stops_and_no_other_host_hears_of_it() {
    // Until 18.0 the payload does not name the project by its path.
    for (version, forgeries) in [((19, 3), &FORGERIES[..]), ((14, 1), &FORGERIES[5..6])] {
        for (key, value) in forgeries {
            let mut job = TestJob::image(&["echo own script"]).version(version.0, version.1);
            let evil = job.another_registry();
            let host = evil.address().to_string();
            // Even an admin who trusts that host did not mean this.
            job.admin["registries"][&host] = json!({ "plain_http": true });
            let job = job.variable(key, &value.replace("EVIL", &host));

            let outcome = job.run();

            assert_eq!(outcome.status, Status::ScriptFailure { exit_code: 1 }, "{key}\n{}", outcome.trace);
            let reason =
                format!("the variable `{key}` does not have the value that GitLab gave it\n  fix:   remove");
            assert!(outcome.trace.contains(&reason), "{key}\n{}", outcome.trace);
            assert!(!outcome.trace.contains("\nown script\n"), "{key}\n{}", outcome.trace);
            assert_eq!(evil.log(), [], "{key}");
            assert_eq!(job.registry.tags(), [], "{key}");
            job.assert_nothing_left();
        }
    }
}

#[test]
fn an_ordinary_job_may_name_its_variables_as_it_likes() {
    let job = TestJob::new(&["echo \"$CI_REGISTRY|$CI_JOB_ID|$CI_PROJECT_DIR\"; cat hello.txt"]);
    let job = FORGERIES.iter().fold(job, |job, (key, value)| job.variable(key, value));

    let outcome = job.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert!(outcome.trace.contains("\nEVIL|8|/etc\nhello\n"), "{}", outcome.trace);
    assert_eq!(job.registry.log(), [], "an ordinary job has no business with the registry");
    job.assert_nothing_left();
}

/// These decide nothing in an image job, so they may say what they like.
#[test]
fn variables_that_decide_nothing_change_nothing() {
    let job = TestJob::image(&[]);
    let evil = job.another_registry();
    let host = evil.address().to_string();
    let job = job
        .variable("CI_SERVER_URL", &format!("http://{host}"))
        .variable("CI_SERVER_HOST", "127.0.0.1")
        .variable("CI_API_V4_URL", &format!("http://{host}/api/v4"))
        .variable("CI_REPOSITORY_URL", &format!("http://{host}/team/app.git"))
        .variable("HTTP_PROXY", &format!("http://{host}"))
        .variable("HTTPS_PROXY", &format!("http://{host}"))
        .variable("JOB_RESPONSE_FILE", "/etc/passwd")
        .variable("TMPDIR", "/etc")
        .variable("SSL_CERT_FILE", "/nonexistent")
        .variable("NIX_PATH", "nixpkgs=/etc")
        .variable("NIX_REMOTE", "ssh://evil.example")
        .variable("NIX_CONFIG", "substituters = http://evil.example");

    let outcome = job.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert!(job.tag("latest").is_some());
    assert_eq!(evil.log(), []);
    job.assert_nothing_left();
}

#[test]
fn repositories_of_others_are_refused_before_the_script() {
    for (requested, reason) in [
        ("EVIL/team/app", "is not on the project's registry"),
        ("OWN/team/other", "is outside the project's repositories"),
        ("OWN/team", "is outside the project's repositories"),
        ("OWN/team/app-2", "is outside the project's repositories"),
        ("../other", "has no repository"),
        ("a/b/c", "is more than two names below"),
        ("Web", "has no repository"),
    ] {
        let mut job = TestJob::image(&["echo own script"]);
        let evil = job.another_registry();
        let host = evil.address().to_string();
        job.admin["registries"][&host] = json!({ "plain_http": true });
        let requested = requested.replace("EVIL", &host).replace("OWN", &job.registry_host);
        let job = job.variable("NIXLAYER_REPOSITORY", &requested);

        let outcome = job.run();

        assert_eq!(exit_code(&outcome, "build_script"), Some(41), "{requested}\n{}", outcome.trace);
        assert!(outcome.trace.contains(reason), "{requested}\n{}", outcome.trace);
        assert!(!outcome.trace.contains("\nown script\n"), "{requested}\n{}", outcome.trace);
        assert_eq!((evil.log(), job.registry.tags()), (vec![], vec![]), "{requested}");
    }
}

/// The script may change the spec after it was checked, so it is checked again.
#[test]
fn a_spec_that_the_script_makes_is_held_to_the_same_rules() {
    let job = TestJob::image(&["echo 'repository: $CI_REGISTRY/team/other' >> image.yaml"]);

    let outcome = job.run();

    assert_eq!(exit_code(&outcome, "build_script"), Some(41), "{}", outcome.trace);
    assert!(outcome.trace.contains("is outside the project's repositories"), "{}", outcome.trace);
    assert_eq!(job.registry.tags(), []);
}

#[test]
fn tags_and_a_repository_below_the_project_are_the_jobs_to_choose() {
    for (repository, expected) in [("web", "team/app/web"), ("$CI_REGISTRY_IMAGE/a/b", "team/app/a/b")] {
        let job = TestJob::image(&[])
            .variable("NIXLAYER_TAGS", "latest $CI_COMMIT_REF_SLUG")
            .variable("NIXLAYER_REPOSITORY", repository);

        let outcome = job.run();

        assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
        let tags = job.registry.tags();
        let tags: Vec<_> = tags.iter().map(|(repository, tag)| (repository.as_str(), tag.as_str())).collect();
        assert_eq!(tags, [(expected, "latest"), (expected, "main")]);
        assert_eq!(stages(&outcome).last(), Some(&"cleanup"));
    }
}
