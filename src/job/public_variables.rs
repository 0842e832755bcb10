//! The variables of a job that everybody may see.

use std::collections::{BTreeMap, BTreeSet};

use super::payload::{Payload, Variable};
use super::variables::Variables;

/// What is shorter may be anything. GitLab masks no such value.
const SHORTEST_SECRET: usize = 8;

/// What GitLab lists as public, neither masked nor a file, in each entry of a key; without what a secret is written into.
///
/// A secret is what is masked or not public. GitLab cannot mask what has several lines, and calls each variable of a
/// project private; so one that is not masked is no secret where a public variable of GitLab's own says the same.
pub(super) fn public_variables(payload: &Payload, variables: &Variables) -> BTreeMap<String, String> {
    let is_public = |variable: &Variable| variable.public && !variable.masked && !variable.file;
    let private = payload.variables.iter().filter(|variable| !is_public(variable));
    let private: BTreeSet<&String> = private.map(|variable| &variable.key).chain(&payload.secrets).collect();
    let keys = || payload.variables.iter().map(|variable| &variable.key).filter(|key| !private.contains(key));
    let told: Vec<&str> = keys().filter_map(|key| variables.trusted(key)).collect();

    // Both may be made of other variables.
    let values = |variable: &Variable| {
        let authored = variables.authored(&variable.key).filter(|_| !variable.file);
        [variable.value.expose().to_owned(), authored.unwrap_or_default().to_owned()]
    };
    let masked = payload.variables.iter().filter(|variable| variable.masked).flat_map(values);
    let of_vaults = payload.secrets.iter().filter_map(|key| variables.authored(key)).map(str::to_owned);
    let unmasked = payload.variables.iter().filter(|variable| !variable.masked && !variable.public);
    let unmasked =
        unmasked.flat_map(values).filter(|value| !told.iter().any(|told| told.contains(value.trim())));
    let secrets: Vec<String> = masked.chain(of_vaults).chain(unmasked).collect();
    let secrets = secrets.iter().map(|value| value.trim()).filter(|value| value.len() >= SHORTEST_SECRET);
    let secrets: Vec<&str> = secrets.collect();

    // The environment holds no value with a zero.
    let is_told = |value: &str| !secrets.iter().any(|secret| value.contains(secret)) && !value.contains('\0');
    let public = keys().filter_map(|key| Some((key, variables.lookup(key).filter(|value| is_told(value))?)));
    public.map(|(key, value)| (key.clone(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::context::tests::{GITLAB_14, job};
    use crate::secret::Secret;

    fn public(response: &str, environment: &[(&str, &str)]) -> Vec<(String, String)> {
        let payload = Payload::parse(response.as_bytes()).unwrap();
        let environment =
            environment.iter().map(|(key, value)| ((*key).to_owned(), Secret::from(*value))).collect();
        let variables = Variables::new(&payload.variables, &environment);
        public_variables(&payload, &variables).into_iter().collect()
    }

    #[test]
    fn a_secret_of_a_vault_is_not_public_whatever_is_listed_beside_it() {
        let response = r#"{"variables":[{"key":"CI_A","value":"x","public":true},
            {"key":"CI_B","value":"to $CI_A","public":true},{"key":"CI_C","value":"y","public":true}],
            "secrets":{"CI_A":{}}}"#;
        let environment = [("CI_A", "of the vault"), ("CI_B", "to of the vault"), ("CI_C", "y")];

        assert_eq!(public(response, &environment), [("CI_C".to_owned(), "y".to_owned())]);
    }

    #[test]
    fn a_job_of_gitlab_keeps_its_token() {
        let job = job();
        let public = job.public_variables();

        assert!(public.values().all(|value| !value.contains("canary")), "{public:?}");
        assert!(public.contains_key("CI_COMMIT_SHORT_SHA"), "{public:?}");
    }

    #[test]
    fn what_holds_a_private_value_is_not_public() {
        let response = r#"{"variables":[{"key":"KEY","value":"of two\nlines"},
            {"key":"FILE","value":"of a file\n","file":true},{"key":"SHORT","value":"main"},
            {"key":"CI_KEY","value":"is $KEY","public":true},
            {"key":"CI_FILE","value":"is of a file, too","public":true},
            {"key":"CI_PATH","value":"$FILE","public":true},
            {"key":"CI_COMMIT_BRANCH","value":"main","public":true}]}"#;
        let environment = [
            ("KEY", "of two\nlines"),
            ("FILE", "/builds/app.tmp/FILE"),
            ("CI_KEY", "is of two\nlines"),
            ("CI_FILE", "is of a file, too"),
            ("CI_PATH", "/builds/app.tmp/FILE"),
            ("CI_COMMIT_BRANCH", "main"),
        ];

        let expected = [("CI_COMMIT_BRANCH", "main"), ("CI_PATH", "/builds/app.tmp/FILE")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(public(response, &environment), expected);
    }

    #[test]
    fn a_private_value_that_gitlab_tells_everybody_hides_nothing() {
        let mut payload: serde_json::Value = serde_json::from_str(GITLAB_14).unwrap();
        let variables = payload["variables"].as_array_mut().unwrap();
        let listed: Vec<(String, String)> = variables
            .iter()
            .map(|entry| (entry["key"].as_str().unwrap().into(), entry["value"].as_str().unwrap().into()))
            .collect();
        for key in ["CI_COMMIT_SHORT_SHA", "CI_PROJECT_PATH", "CI_SERVER_URL", "CI_PIPELINE_ID"] {
            let value = &listed.iter().find(|(listed, _)| listed == key).unwrap().1;
            variables.push(serde_json::json!({ "key": format!("OWN_{key}"), "value": value }));
        }
        let environment: Vec<_> = listed.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();

        let public = public(&payload.to_string(), &environment);

        for key in [
            "CI_COMMIT_REF_NAME",
            "CI_COMMIT_SHA",
            "CI_COMMIT_SHORT_SHA",
            "CI_PIPELINE_ID",
            "CI_PROJECT_PATH",
            "CI_PROJECT_URL",
            "CI_REGISTRY_IMAGE",
        ] {
            assert!(public.iter().any(|(public, _)| public == key), "{key}: {public:?}");
        }
    }
}
