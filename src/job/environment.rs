//! The environment in which GitLab Runner calls its driver.
//!
//! Names with the prefix `CUSTOM_ENV_` are job variables, and any of them may come from the author
//! of the job. Names without it come from the runner or its administrator: a job variable never
//! appears without the prefix.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::secret::Secret;

/// What precedes the name of every job variable.
const JOB_VARIABLE_PREFIX: &str = "CUSTOM_ENV_";

/// The runner's part of a process environment, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// All job variables by name without the prefix, expanded, the last of each name.
    pub job_variables: BTreeMap<String, Secret>,
    /// The file with the job response; since runner 14.1.
    pub job_response_file: Option<PathBuf>,
    /// The exit code that means: the job's author can fix it.
    pub build_failure: u8,
    /// The exit code that means: the author cannot.
    pub system_failure: u8,
    /// Where the exit code of a failed script goes; since runner 17.9.
    pub build_exit_code_file: Option<PathBuf>,
}

/// The runner gave an exit code that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is `{value}`, not an exit code from 1 to 255")]
pub struct EnvironmentError {
    name: &'static str,
    value: String,
}

impl Environment {
    /// Picks the runner's names out of a process environment.
    ///
    /// Outside a runner the exit codes are those that it has always used, 1 and 2.
    pub fn parse(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, EnvironmentError> {
        let mut environment = Self {
            job_variables: BTreeMap::new(),
            job_response_file: None,
            build_failure: 1,
            system_failure: 2,
            build_exit_code_file: None,
        };
        for (name, value) in variables {
            match name.to_str() {
                Some("JOB_RESPONSE_FILE") => environment.job_response_file = path(value),
                Some("BUILD_EXIT_CODE_FILE") => environment.build_exit_code_file = path(value),
                Some("BUILD_FAILURE_EXIT_CODE") => {
                    environment.build_failure = exit_code("BUILD_FAILURE_EXIT_CODE", &value)?;
                }
                Some("SYSTEM_FAILURE_EXIT_CODE") => {
                    environment.system_failure = exit_code("SYSTEM_FAILURE_EXIT_CODE", &value)?;
                }
                Some(name) => {
                    if let Some(key) = name.strip_prefix(JOB_VARIABLE_PREFIX) {
                        let value = Secret::from(value.to_string_lossy().into_owned());
                        environment.job_variables.insert(key.to_owned(), value);
                    }
                }
                None => {}
            }
        }
        Ok(environment)
    }
}

fn path(value: OsString) -> Option<PathBuf> {
    Some(PathBuf::from(value)).filter(|path| !path.as_os_str().is_empty())
}

fn exit_code(name: &'static str, value: &OsString) -> Result<u8, EnvironmentError> {
    let error = || EnvironmentError { name, value: value.to_string_lossy().into_owned() };
    let code: u8 = value.to_str().and_then(|text| text.parse().ok()).ok_or_else(error)?;
    if code == 0 { Err(error()) } else { Ok(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
        Environment::parse(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn a_job_variable_never_becomes_a_word_of_the_runner() {
        let environment = parse(&[
            ("JOB_RESPONSE_FILE", "/run/attempt/response.json"),
            ("CUSTOM_ENV_JOB_RESPONSE_FILE", "/evil"),
            ("BUILD_FAILURE_EXIT_CODE", "41"),
            ("CUSTOM_ENV_SYSTEM_FAILURE_EXIT_CODE", "0"),
            ("SYSTEM_FAILURE_EXIT_CODE", "42"),
            ("PATH", "/bin"),
        ])
        .unwrap();

        assert_eq!(environment.job_response_file, Some("/run/attempt/response.json".into()));
        assert_eq!((environment.build_failure, environment.system_failure), (41, 42));
        assert_eq!(environment.job_variables["JOB_RESPONSE_FILE"].expose(), "/evil");
        assert_eq!(environment.job_variables.len(), 2);
    }

    #[test]
    fn file_variables_keep_their_lines() {
        let environment = parse(&[("CUSTOM_ENV_CA", "first\nA=b\nlast\n")]).unwrap();

        assert_eq!(environment.job_variables["CA"].expose(), "first\nA=b\nlast\n");
    }

    #[test]
    fn what_is_no_exit_code_is_named() {
        for value in ["", "0", "-1", "256", "one"] {
            let error = parse(&[("SYSTEM_FAILURE_EXIT_CODE", value)]).unwrap_err();

            assert_eq!(
                error.to_string(),
                format!("`SYSTEM_FAILURE_EXIT_CODE` is `{value}`, not an exit code from 1 to 255")
            );
        }
    }

    #[test]
    fn outside_a_runner_the_usual_exit_codes_hold() {
        let environment = parse(&[("JOB_RESPONSE_FILE", ""), ("BUILD_EXIT_CODE_FILE", "")]).unwrap();

        assert_eq!((environment.build_failure, environment.system_failure), (1, 2));
        assert_eq!((environment.job_response_file, environment.build_exit_code_file), (None, None));
    }
}
