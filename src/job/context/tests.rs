//! Three job responses as GitLab 14, 17 and 19 send them, and the jobs that they are.

use std::collections::BTreeMap;

use super::*;

pub(in crate::job) const GITLAB_14: &str = include_str!("../../../tests/fixtures/payload/gitlab-14.7.json");
const GITLAB_17: &str = include_str!("../../../tests/fixtures/payload/gitlab-17-overrides.json");
const GITLAB_19: &str = include_str!("../../../tests/fixtures/payload/gitlab-19-dependency-proxy.json");

/// The job of the GitLab 14.7 fixture.
pub(in crate::job) fn job() -> Job {
    parse(GITLAB_14, &[]).unwrap()
}

/// The job of the GitLab 17 fixture, built for a tag.
pub(in crate::job) fn tag_job() -> Job {
    parse(GITLAB_17, &[]).unwrap()
}

/// A job whose environment is what the runner makes of the response, and then of `more`.
fn parse(response: &str, more: &[(&str, &str)]) -> Result<Job, JobError> {
    let payload = Payload::parse(response.as_bytes()).unwrap();
    let listed = payload.variables.iter().map(|entry| (entry.key.as_str(), entry.value.expose()));
    let last: BTreeMap<&str, &str> = listed.chain(more.iter().copied()).collect();
    let named = last.iter().map(|(key, value)| (format!("CUSTOM_ENV_{key}").into(), (*value).into()));
    Job::parse(&payload, &Environment::parse(named).unwrap())
}

/// The refusal of `key: value` in an image job.
fn refusal(key: &str, value: &str) -> Option<JobError> {
    parse(GITLAB_14, &[(key, value)]).unwrap().image_request().err()
}

#[test]
fn a_job_is_who_gitlab_says_it_is() {
    struct Expected {
        response: &'static str,
        identity: (u64, u64, &'static str, &'static str),
        host: &'static str,
        git: (&'static str, bool, &'static str),
        registry: (&'static str, &'static str),
        own: &'static str,
        slug: &'static str,
    }
    for expected in [
        Expected {
            response: GITLAB_14,
            identity: (1001, 7, "team/k8s-deployer", "https://gitlab.example.com/team/k8s-deployer"),
            host: "gitlab.example.com",
            git: ("main", true, "4f1c2b3a5d6e7f8091a2b3c4d5e6f708192a3b4c"),
            registry: ("registry.example.com:5050", "canary-token-14"),
            own: "registry.example.com:5050/team/k8s-deployer",
            slug: "team/k8s-deployer",
        },
        Expected {
            response: GITLAB_17,
            identity: (2002, 81, "Team/Sub/App", "http://127.0.0.1:8080/gitlab/Team/Sub/App"),
            host: "127.0.0.1:8080",
            git: ("v1.2.0", false, "89abcdef0123456789abcdef0123456789abcdef"),
            registry: ("127.0.0.1:5000", "canary-token-17"),
            own: "127.0.0.1:5000/team/sub/app",
            slug: "gitlab/Team/Sub/App",
        },
        Expected {
            response: GITLAB_19,
            identity: (3003, 9, "team/app", "https://gitlab.example.com/team/app"),
            host: "gitlab.example.com",
            git: ("feature/x", false, "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567"),
            registry: ("registry.example.com", "canary-token-19"),
            own: "registry.example.com/team/app",
            slug: "team/app",
        },
    ] {
        let job = parse(expected.response, &[]).unwrap();
        let registry = job.registry().unwrap();

        assert_eq!(
            (job.id, job.project_id, job.project_path.as_str(), job.project_url.as_str()),
            expected.identity
        );
        assert_eq!(job.gitlab_host, expected.host);
        assert_eq!((job.ref_name.as_str(), job.protected, job.sha.as_str()), expected.git);
        assert_eq!((registry.host.as_str(), registry.password.expose()), expected.registry);
        assert_eq!(registry.user, "gitlab-ci-token");
        assert_eq!(job.own_repository().unwrap().to_string(), expected.own);
        assert_eq!(job.project_slug, expected.slug);
    }
}

#[test]
fn specs_see_gitlabs_value_and_the_authors_where_gitlab_has_none() {
    let job = parse(GITLAB_17, &[("APP_VERSION", "3")]).unwrap();

    assert_eq!(job.lookup("CI_COMMIT_SHA"), Some("89abcdef0123456789abcdef0123456789abcdef"));
    assert_eq!(job.lookup("CI_PROJECT_PATH"), Some("Team/Sub/App"));
    assert_eq!(job.lookup("APP_VERSION"), Some("3"));
    assert_eq!(job.lookup("NOT_SET"), None);
}

#[test]
fn a_job_without_a_spec_asks_for_no_image_and_may_replace_what_it_likes() {
    let job = parse(GITLAB_17, &[("NIXLAYER_SPEC", " ")]).unwrap();

    assert_eq!(job.image_request(), Ok(None));
}

#[test]
fn an_image_job_asks_by_its_variables() {
    let job = parse(
        GITLAB_14,
        &[
            ("NIXLAYER_TAGS", " latest\t4f1c2b3a  latest"),
            ("NIXLAYER_REPOSITORY", "web"),
            ("NIXLAYER_SPEC", ".#app"),
            ("NIXLAYER_LOCK", "off"),
            ("NIXLAYER_VERIFY_LAYERS", "on"),
        ],
    );

    assert_eq!(
        job.unwrap().image_request().unwrap(),
        Some(ImageRequest {
            spec: ".#app".to_owned(),
            tags: vec!["latest".parse().unwrap(), "4f1c2b3a".parse().unwrap()],
            repository: Some("web".to_owned()),
            verify_layers: true,
            lock: false,
        })
    );
}

#[test]
fn what_is_neither_on_nor_off_is_refused() {
    assert_eq!(
        refusal("NIXLAYER_LOCK", "no"),
        Some(JobError::Switch { key: "NIXLAYER_LOCK", value: "no".to_owned() })
    );
}

#[test]
fn tags_that_are_none_are_refused_with_the_text() {
    let error = refusal("NIXLAYER_TAGS", "latest feature/x").unwrap();

    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("`feature/x` is not a tag"), "{cause}");
}

#[test]
fn an_image_job_that_replaces_where_it_pushes_is_refused() {
    for key in [
        "CI_REGISTRY",
        "CI_REGISTRY_USER",
        "CI_REGISTRY_PASSWORD",
        "CI_REGISTRY_IMAGE",
        "CI_PROJECT_PATH",
        "CI_PROJECT_ID",
        "CI_JOB_ID",
        "CI_JOB_TOKEN",
    ] {
        for value in ["", "canary-of-the-author"] {
            let error = refusal(key, value).unwrap();

            assert_eq!(error, JobError::Contradiction { key });
            assert_eq!(
                error.to_string(),
                format!("the variable `{key}` does not have the value that GitLab gave it")
            );
            let fix = format!("remove the variable `{key}` from the job, project or pipeline");
            assert_eq!(error.fix(), Some(fix));
        }
    }
    assert!(parse(GITLAB_17, &[]).unwrap().image_request().is_err(), "the fixture replaces several");
}

#[test]
fn variables_that_decide_nothing_may_be_replaced() {
    for key in ["CI_COMMIT_SHA", "CI_JOB_NAME", "CI_SERVER_URL", "PATH"] {
        assert_eq!(refusal(key, "other"), None, "{key}");
    }
}

#[test]
fn a_project_folder_of_the_authors_is_refused() {
    let real = Path::new("/builds/team/k8s-deployer");

    let honest = parse(GITLAB_14, &[("CI_PROJECT_DIR", "/builds/team/k8s-deployer")]).unwrap();
    let forged = parse(GITLAB_14, &[("CI_PROJECT_DIR", "/evil")]).unwrap();

    assert_eq!(job().check_project_dir(real), Ok(()));
    assert_eq!(honest.check_project_dir(real), Ok(()));
    let error = forged.check_project_dir(real).unwrap_err();
    assert_eq!(error, JobError::Contradiction { key: "CI_PROJECT_DIR" });
    // The variable with which authors move a checkout on purpose.
    assert!(error.fix().unwrap().contains("`GIT_CLONE_PATH`"));
}

#[test]
fn a_gitlab_without_a_registry_still_has_ordinary_jobs() {
    let response = GITLAB_19.replace("\"CI_REGISTRY\"", "\"X\"");
    let job = parse(&response, &[]).unwrap();

    assert_eq!(job.registry(), Err(JobError::RegistryNotEnabled));
    assert_eq!(job.image_request(), Ok(None));
    let job = parse(&response, &[("NIXLAYER_SPEC", "image.yaml")]).unwrap();
    assert_eq!(job.image_request(), Err(JobError::RegistryNotEnabled));
}

/// Where GitLab sets no `CI_REGISTRY`, the first entry is the author's, and still adds no host.
#[test]
fn a_registry_without_credentials_from_gitlab_gets_none() {
    let response = GITLAB_19.replace("\"value\": \"registry.example.com\"", "\"value\": \"evil.example\"");

    let error = parse(&response, &[]).unwrap().registry().unwrap_err();

    assert_eq!(error, JobError::NoCredentials { registry: "evil.example".to_owned() });
}

#[test]
fn a_response_that_lacks_an_identity_or_has_two_is_refused() {
    for (from, to, expected) in [
        ("\"id\": 3003,", "", JobError::Missing { field: "id" }),
        ("\"sha\": \"0a1b", "\"x\": \"0a1b", JobError::Missing { field: "git_info.sha" }),
        ("\"repo_url\": \"https", "\"repo_url\": \"ssh", JobError::CloneUrl),
        (
            "\"project_full_path\": \"team/app\"",
            "\"project_full_path\": \"team/other\"",
            JobError::TwoProjects { project: "team/other".to_owned(), cloned: "team/app".to_owned() },
        ),
    ] {
        let response = GITLAB_19.replace(from, to);
        assert_ne!(response, GITLAB_19, "{from}");

        let error = parse(&response, &[]).unwrap_err();

        assert_eq!(error, expected);
        assert_eq!(error.fix(), None, "no author can repair a response");
    }
}

#[test]
fn debug_output_of_a_job_shows_no_secret() {
    for response in [GITLAB_14, GITLAB_17, GITLAB_19] {
        assert!(!format!("{:?}", parse(response, &[]).unwrap()).contains("canary"));
    }
}

/// Whatever an author sets reaches the environment under the same name as what the runner sets.
#[test]
fn the_certificates_of_gitlab_are_the_runners_word_or_nobodys() {
    let said = ("CI_SERVER_TLS_CA_FILE", "PEM");
    assert_eq!(parse(GITLAB_14, &[said]).unwrap().server_ca.as_deref(), Some("PEM"));
    assert_eq!(parse(GITLAB_14, &[]).unwrap().server_ca, None);
    assert_eq!(parse(GITLAB_14, &[(said.0, "")]).unwrap().server_ca, None);

    let response: serde_json::Value = serde_json::from_str(GITLAB_14).unwrap();
    for key in [said.0, "CI_SERVER_TLS_CA_FILE=", "CI_SERVER_TLS_CA_FILE=PEM=more"] {
        let mut by_variable = response.clone();
        let variable = serde_json::json!({ "key": key, "value": "PEM" });
        by_variable["variables"].as_array_mut().unwrap().push(variable);
        let mut by_secret = response.clone();
        by_secret["secrets"] = serde_json::json!({ key: { "vault": {}, "file": true } });
        for response in [by_variable, by_secret] {
            let job = parse(&response.to_string(), &[said]).unwrap();

            assert_eq!(job.server_ca, None, "{key}");
        }
    }

    let mut other = response;
    other["secrets"] = serde_json::json!({ "PASSWORD": {}, "CI_SERVER_TLS_CA_FILE_2": {} });
    assert_eq!(parse(&other.to_string(), &[said]).unwrap().server_ca.as_deref(), Some("PEM"));
}
