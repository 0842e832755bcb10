//! Files of the project that a spec names.

use std::fmt;
use std::str::FromStr;

/// A file or folder beneath the project's folder, such as `nix/images`.
///
/// It has neither a leading `/` nor `..`, so it stays beneath in every reading but through symbolic
/// links, which whoever opens it must refuse. The project's folder itself is `.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectPath(String);

/// Why a text names nothing in the project.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a path in the project: {reason}")]
pub struct ProjectPathError {
    text: String,
    reason: &'static str,
}

impl ProjectPath {
    /// The path without a leading `./` or trailing `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ProjectPathError {
    pub(super) fn reason(&self) -> &'static str {
        self.reason
    }
}

impl FromStr for ProjectPath {
    type Err = ProjectPathError;

    fn from_str(text: &str) -> Result<Self, ProjectPathError> {
        let error = |reason| Err(ProjectPathError { text: text.to_owned(), reason });
        if text.is_empty() {
            return error("it is empty");
        }
        if text.starts_with('/') {
            return error("it is absolute");
        }
        if text.chars().any(char::is_control) {
            return error("it has control characters");
        }
        if text.starts_with('~') || text.starts_with('-') {
            return error("it starts with `~` or `-`");
        }
        let components: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if components.contains(&"..") {
            return error("`..` may lead out of the project");
        }
        Ok(Self(if components.is_empty() { ".".to_owned() } else { components.join("/") }))
    }
}

impl fmt::Display for ProjectPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_path_are_equal() {
        for (text, path) in [("./a/b", "a/b"), ("a//b/", "a/b"), ("a/./b", "a/b"), (".", "."), ("./", ".")] {
            assert_eq!(text.parse::<ProjectPath>().unwrap().as_str(), path);
        }
    }

    #[test]
    fn nothing_leads_out_of_the_project() {
        for text in ["", "/etc/passwd", "..", "a/../../b", "./..", "a\0b", "a\nb", "~/x", "-x"] {
            assert!(text.parse::<ProjectPath>().is_err(), "{text:?} passed");
        }
    }
}
