//! `JOB_RESPONSE_FILE`: the job as GitLab sent it, written down again by the runner.
//!
//! Every field may be missing, null or empty, because each release of GitLab and of the runner has
//! its own set of them; fields not named here are ignored. A missing text is an empty one.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

use crate::secret::Secret;

/// The fields of a job response that an image builder needs.
#[derive(Debug)]
pub struct Payload {
    /// The job's number; 0 when missing.
    pub id: u64,
    /// Whose job it is.
    pub job_info: JobInfo,
    /// The commit it builds.
    pub git_info: GitInfo,
    /// All variables, unexpanded, GitLab's own before the author's of the same key.
    pub variables: Vec<Variable>,
    /// The variables that the author takes from a vault; the runner looks their values up.
    pub secrets: BTreeSet<String>,
    /// Passwords that GitLab made for this job.
    pub credentials: Vec<Credential>,
}

/// `job_info` of a job response.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct JobInfo {
    /// The project's number.
    pub project_id: u64,
    /// The project's path, `group/project`; since GitLab 18.
    pub project_full_path: String,
}

/// `git_info` of a job response.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct GitInfo {
    /// Where to clone from; mostly with the job token in it.
    pub repo_url: Secret,
    /// The branch or tag.
    #[serde(rename = "ref")]
    pub ref_name: String,
    /// The commit.
    pub sha: String,
    /// Whether the branch or tag is protected; since GitLab 18.3.
    pub protected: Option<bool>,
}

/// One entry of a job response's `variables`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Variable {
    /// The variable's name.
    pub key: String,
    /// Its value, with references such as `$X` as they were written.
    pub value: Secret,
    /// Whether it may be shown.
    pub public: bool,
    /// Whether scripts get it as the path of a file with the value.
    pub file: bool,
    /// Whether the runner hides it in the log.
    pub masked: bool,
    /// Whether references in the value stay as they are.
    pub raw: bool,
}

/// One entry of a job response's `credentials`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Credential {
    /// `registry` for all that GitLab sends today.
    #[serde(rename = "type")]
    pub kind: String,
    /// Host and optional port, without a scheme.
    pub url: String,
    /// The user name.
    pub username: String,
    /// The password, good until the job ends.
    pub password: Secret,
}

/// Why bytes are no job response. It quotes nothing of them, because tokens are among them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The bytes are no JSON object.
    #[error("the job response is not a JSON object (line {line}, column {column})")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column in it, from 1.
        column: usize,
    },
    /// A field holds another type than GitLab Runner writes.
    #[error("field `{field}` of the job response has an unexpected form")]
    Field {
        /// The top-level field.
        field: &'static str,
    },
}

impl Payload {
    /// Reads the contents of `JOB_RESPONSE_FILE`.
    pub fn parse(bytes: &[u8]) -> Result<Self, PayloadError> {
        let mut fields: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|error| PayloadError::Syntax { line: error.line(), column: error.column() })?;
        Ok(Self {
            id: take(&mut fields, "id")?,
            job_info: take(&mut fields, "job_info")?,
            git_info: take(&mut fields, "git_info")?,
            variables: take(&mut fields, "variables")?,
            secrets: take::<BTreeMap<String, IgnoredAny>>(&mut fields, "secrets")?.into_keys().collect(),
            credentials: take(&mut fields, "credentials")?,
        })
    }
}

fn take<T: DeserializeOwned + Default>(
    fields: &mut Map<String, Value>,
    field: &'static str,
) -> Result<T, PayloadError> {
    let value = fields.remove(field).map(without_nulls).filter(|value| !value.is_null());
    let Some(value) = value else { return Ok(T::default()) };
    // The cause is left out: serde quotes the value that it did not expect.
    serde_json::from_value(value).map_err(|_| PayloadError::Field { field })
}

/// Go writes an absent list or pointer as null, and serde has defaults only for what is missing.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, member)| !member.is_null())
            .map(|(name, member)| (name, without_nulls(member)))
            .collect(),
        Value::Array(items) => items.into_iter().filter(|item| !item.is_null()).map(without_nulls).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_field_may_be_missing_or_null() {
        for text in [
            "{}",
            r#"{"id":null,"job_info":null,"git_info":null,"variables":null}"#,
            r#"{"job_info":{"project_id":null},"git_info":{"sha":null,"protected":null},"variables":[null]}"#,
            r#"{"credentials":[],"features":null,"of a later release":{"x":[1]}}"#,
        ] {
            let payload = Payload::parse(text.as_bytes()).unwrap();

            assert_eq!((payload.id, payload.git_info.sha.as_str()), (0, ""), "{text}");
            assert_eq!(payload.git_info.protected, None, "{text}");
            assert!(payload.variables.is_empty(), "{text}");
        }
    }

    /// The response is full of tokens, and an error ends in the job log.
    #[test]
    fn neither_errors_nor_debug_output_quote_a_secret() {
        let wrong = br#"{"credentials":"canary"}"#;
        let error = Payload::parse(wrong).unwrap_err();
        assert_eq!(error.to_string(), "field `credentials` of the job response has an unexpected form");

        let payload = Payload::parse(
            br#"{"git_info":{"repo_url":"https://u:canary@host/a/b.git"},
                 "variables":[{"key":"K","value":"canary"}],"credentials":[{"password":"canary"}]}"#,
        )
        .unwrap();
        assert!(!format!("{payload:?}").contains("canary"));
    }

    #[test]
    fn a_cut_file_is_reported_by_line_and_column() {
        assert_eq!(
            Payload::parse(b"{\n \"id\": 7").unwrap_err(),
            PayloadError::Syntax { line: 2, column: 8 }
        );
    }

    proptest! {
        /// A file of another origin gives an error, never a panic.
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes: Vec<u8>) {
            let _ = Payload::parse(&bytes);
        }
    }
}
