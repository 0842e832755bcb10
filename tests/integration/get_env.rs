//! What `builtins.getEnv` gives an expression: public variables of the job, and no secret.

use std::collections::BTreeMap;

use nixlayer::job::payload::Variable;
use nixlayer::secret::Secret;
use nixlayer::simulate::Status;

use crate::support::{TOKEN, TestJob};

/// An image that says what it has seen.
const IMAGE: &str = r#"
let names = [ NAMES ];
in (import <nixpkgs> { }).dockerTools.buildLayeredImage {
  name = "seen-MARK";
  tag = builtins.getEnv "CI_COMMIT_SHORT_SHA";
  config.Labels = builtins.listToAttrs (map (name: { inherit name; value = builtins.getEnv name; }) names);
}
"#;

fn image(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    IMAGE.replace("NAMES", &names.join(" "))
}

fn listed(key: &str, value: &str, public: bool, masked: bool, file: bool) -> Variable {
    Variable { key: key.to_owned(), value: Secret::from(value), public, masked, file, raw: false }
}

/// The labels with a value.
fn labels(job: &TestJob, tag: &str) -> BTreeMap<String, String> {
    let image = job.pushed(tag);
    let labels = image.config()["Labels"].as_object().into_iter().flatten();
    let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    labels.filter(|(_, value)| !value.is_empty()).collect()
}

#[test]
fn an_expression_gets_the_public_variables_of_its_job_and_no_other() {
    let mut job = TestJob::image_of_expression(&image(&[
        "CI_COMMIT_REF_NAME",
        "CI_OWN",
        "CI_JOB_TOKEN",
        "CI_REGISTRY_PASSWORD",
        "CI_REPOSITORY_URL",
        "CI_MASKED",
        "CI_OF_PROJECT",
        "CI_FILE",
        "CI_TWICE",
        "CI_OF_A_SECRET",
        "CI_OWN_PASSWORD",
        "OWN",
        "NIX_CONFIG",
    ]));
    job = job
        .variable("CI_OWN", "for $CI_COMMIT_REF_NAME")
        .variable("CI_OF_A_SECRET", "https://user:$CI_MASKED@example.org")
        .variable("CI_OWN_PASSWORD", "hunter2")
        .variable("OWN", "outside")
        .variable("NIX_CONFIG", "restrict-eval = true\n")
        .variable("NIX_PATH", "nixpkgs=/nowhere")
        .variable("CI_TWICE", "public");
    job.variables.extend([
        listed("CI_MASKED", "canary-of-the-project", true, true, false),
        listed("CI_OF_PROJECT", "private", false, false, false),
        listed("CI_FILE", "in a file", true, false, true),
        listed("CI_TWICE", "private", false, false, false),
    ]);

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    let tags = job.tags();
    let tag = tags.first().unwrap().strip_prefix("team/app:").unwrap();
    assert!(tag.len() == 8 && tag.chars().all(|digit| digit.is_ascii_hexdigit()), "{tags:?}");
    let mut seen = labels(&job, tag);
    // Nix has settings of the admin's there.
    assert!(!seen.remove("NIX_CONFIG").unwrap().contains("restrict-eval"));
    let expected = [("CI_COMMIT_REF_NAME", "main"), ("CI_OWN", "for main")]
        .map(|(key, value)| (key.into(), value.into()));
    assert_eq!(seen, BTreeMap::from(expected));
}

#[test]
fn outside_gitlab_it_gets_those_of_the_environment() {
    let job = TestJob::image_of_expression(&image(&[
        "CI_PIPELINE_IID",
        "CI_JOB_TOKEN",
        "CI_DEPLOY_PASSWORD",
        "OTHER",
    ]));
    let login = job.login_file();
    let variables = [
        ("CI_COMMIT_SHORT_SHA", "0123abcd"),
        ("CI_PIPELINE_IID", "7"),
        ("CI_JOB_TOKEN", TOKEN),
        ("CI_DEPLOY_PASSWORD", "hunter2"),
        ("OTHER", "x"),
        ("REGISTRY_AUTH_FILE", &login),
    ];

    let output = job.build(&["default.nix", "--to", &format!("{}/team/app", job.registry_host)], &variables);

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(labels(&job, "0123abcd"), BTreeMap::from([("CI_PIPELINE_IID".to_owned(), "7".to_owned())]));
}
