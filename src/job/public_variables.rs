//! The variables of a job that everybody may see.

use std::collections::BTreeMap;

use super::payload::{Payload, Variable};
use super::variables::Variables;

/// GitLab masks no value that is shorter.
const SHORTEST_MASKED: usize = 8;

/// What GitLab lists as public, neither masked nor a file, in each entry of a key; without what a secret is written into.
pub(super) fn public_variables(payload: &Payload, variables: &Variables) -> BTreeMap<String, String> {
    let is_public = |variable: &Variable| variable.public && !variable.masked && !variable.file;
    let masked = payload.variables.iter().filter(|variable| variable.masked);
    let hidden = masked.clone().map(|variable| variable.value.expose());
    // Both may be made of other variables.
    let keys = masked.map(|variable| variable.key.as_str()).chain(payload.secrets.iter().map(String::as_str));
    let hidden: Vec<&str> = hidden.chain(keys.filter_map(|key| variables.authored(key))).collect();
    let is_told = |value: &str| {
        hidden.iter().any(|secret| secret.len() >= SHORTEST_MASKED && value.contains(secret))
            // The environment holds no such value.
            || value.contains('\0')
    };
    let mut public = BTreeMap::new();
    for variable in payload.variables.iter().filter(|variable| is_public(variable)) {
        if let Some(value) = variables.lookup(&variable.key).filter(|value| !is_told(value)) {
            public.insert(variable.key.clone(), value.to_owned());
        }
    }
    let private = payload.variables.iter().filter(|variable| !is_public(variable));
    for key in private.map(|variable| &variable.key).chain(&payload.secrets) {
        public.remove(key);
    }
    public
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::context::tests::job;
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
}
