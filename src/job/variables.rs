//! Job variables, told apart by who decides their value.
//!
//! A job response lists variables in the order in which GitLab puts them together: its own first,
//! then those of the job, project, group and pipeline. A key that is listed twice was replaced by
//! somebody. For a key that GitLab sets in *every* job, the first entry is therefore GitLab's; for
//! any other key the first entry may already be the author's, so there the environment counts, in
//! which the last entry has won.

use std::collections::BTreeMap;

use super::payload::Variable;
use crate::secret::Secret;

/// The keys that GitLab sets in every job.
///
/// Keys that it sets only sometimes are left out on purpose, because where it does not, the first
/// entry is the author's: `CI_COMMIT_TAG`, `CI_COMMIT_BRANCH`, `CI_REGISTRY…`,
/// `CI_MERGE_REQUEST_…`, `CI_ENVIRONMENT_…` and their like. Keys younger than GitLab 14 are here
/// for `$CI_…` in specs alone and decide nothing: `CI_JOB_NAME_SLUG`, `CI_SERVER_FQDN`,
/// `CI_PROJECT_NAMESPACE_ID`.
const SET_IN_EVERY_JOB: [&str; 43] = [
    "CI_API_V4_URL",
    "CI_COMMIT_AUTHOR",
    "CI_COMMIT_BEFORE_SHA",
    "CI_COMMIT_DESCRIPTION",
    "CI_COMMIT_MESSAGE",
    "CI_COMMIT_REF_NAME",
    "CI_COMMIT_REF_PROTECTED",
    "CI_COMMIT_REF_SLUG",
    "CI_COMMIT_SHA",
    "CI_COMMIT_SHORT_SHA",
    "CI_COMMIT_TIMESTAMP",
    "CI_COMMIT_TITLE",
    "CI_CONFIG_PATH",
    "CI_DEFAULT_BRANCH",
    "CI_JOB_ID",
    "CI_JOB_NAME",
    "CI_JOB_NAME_SLUG",
    "CI_JOB_STAGE",
    "CI_JOB_STARTED_AT",
    "CI_JOB_TOKEN",
    "CI_JOB_URL",
    "CI_PIPELINE_CREATED_AT",
    "CI_PIPELINE_ID",
    "CI_PIPELINE_IID",
    "CI_PIPELINE_SOURCE",
    "CI_PIPELINE_URL",
    "CI_PROJECT_ID",
    "CI_PROJECT_NAME",
    "CI_PROJECT_NAMESPACE",
    "CI_PROJECT_NAMESPACE_ID",
    "CI_PROJECT_PATH",
    "CI_PROJECT_PATH_SLUG",
    "CI_PROJECT_ROOT_NAMESPACE",
    "CI_PROJECT_TITLE",
    "CI_PROJECT_URL",
    "CI_PROJECT_VISIBILITY",
    "CI_SERVER_FQDN",
    "CI_SERVER_HOST",
    "CI_SERVER_PORT",
    "CI_SERVER_PROTOCOL",
    "CI_SERVER_URL",
    "CI_SERVER_VERSION",
    "GITLAB_CI",
];

/// The variables of one job.
#[derive(Clone, Debug)]
pub(super) struct Variables {
    first: BTreeMap<String, Secret>,
    last: BTreeMap<String, Secret>,
}

impl Variables {
    /// Joins the list of a job response with the job variables of the environment.
    pub(super) fn new(listed: &[Variable], environment: &BTreeMap<String, Secret>) -> Self {
        let mut first = BTreeMap::new();
        for variable in listed {
            first.entry(variable.key.clone()).or_insert_with(|| variable.value.clone());
        }
        Self { first, last: environment.clone() }
    }

    /// GitLab's own value of a key that it sets in every job; `None` for all other keys.
    pub(super) fn trusted(&self, key: &str) -> Option<&str> {
        SET_IN_EVERY_JOB.contains(&key).then(|| self.first(key)).flatten()
    }

    /// The first entry of a key: GitLab's, if GitLab has set it in this job.
    pub(super) fn first(&self, key: &str) -> Option<&str> {
        self.first.get(key).map(Secret::expose)
    }

    /// The value that scripts see, which may be the author's.
    pub(super) fn authored(&self, key: &str) -> Option<&str> {
        self.last.get(key).map(Secret::expose)
    }

    /// What `$key` means in an image spec.
    pub(super) fn lookup(&self, key: &str) -> Option<&str> {
        self.trusted(key).or_else(|| self.authored(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(listed: &[(&str, &str)], environment: &[(&str, &str)]) -> Variables {
        let secret = |text: &str| Secret::from(text.to_owned());
        let listed: Vec<Variable> = listed
            .iter()
            .map(|(key, value)| Variable {
                key: (*key).to_owned(),
                value: secret(value),
                ..Variable::default()
            })
            .collect();
        let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), secret(value)));
        Variables::new(&listed, &environment.collect())
    }

    #[test]
    fn each_key_has_the_value_of_who_decides_it() {
        let variables = variables(
            &[
                ("CI_COMMIT_SHA", "gitlab"),
                ("CI_COMMIT_TAG", "author"),
                ("APP", "$CI_COMMIT_SHA"),
                ("CI_COMMIT_SHA", "author"),
            ],
            &[("CI_COMMIT_SHA", "author"), ("CI_COMMIT_TAG", "author"), ("APP", "expanded"), ("ONLY", "x")],
        );

        for (key, trusted, lookup) in [
            ("CI_COMMIT_SHA", Some("gitlab"), Some("gitlab")),
            ("CI_COMMIT_TAG", None, Some("author")),
            ("APP", None, Some("expanded")),
            ("ONLY", None, Some("x")),
            ("NONE", None, None),
        ] {
            assert_eq!(variables.trusted(key), trusted, "{key}");
            assert_eq!(variables.lookup(key), lookup, "{key}");
        }
    }

    #[test]
    fn the_table_holds_each_key_once_and_none_that_gitlab_sets_only_sometimes() {
        assert!(SET_IN_EVERY_JOB.is_sorted_by(|a, b| a < b));
        for sometimes in ["CI_COMMIT_TAG", "CI_COMMIT_BRANCH", "CI_REGISTRY", "CI_OPEN_MERGE_REQUESTS"] {
            assert!(!SET_IN_EVERY_JOB.contains(&sometimes), "{sometimes}");
        }
    }
}
