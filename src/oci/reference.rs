//! Where an image lies: a registry's repository, and the tags in it.

use std::fmt;
use std::str::FromStr;

use oci_client::Reference;

/// A repository on a registry, such as `registry.example.com:5050/team/app`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    registry: String,
    name: String,
}

/// A mutable name of an image in its repository (distribution specification, "Pulling manifests").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(String);

/// Why a text names no repository or no tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The text is no repository.
    #[error("`{text}` is not a repository such as `registry.example.com/group/project`: {reason}")]
    Repository {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The text is no tag.
    #[error("`{0}` is not a tag: 1 to 128 letters, digits, `_`, `.` or `-`, the first no `.` or `-`")]
    Tag(String),
}

impl Repository {
    /// The repository `name` on the registry at `registry`, a host with an optional port.
    pub fn new(registry: &str, name: &str) -> Result<Self, ReferenceError> {
        let text = format!("{registry}/{name}");
        let repository: Self = text.parse()?;
        if repository.registry == registry && repository.name == name {
            Ok(repository)
        } else {
            Err(ReferenceError::Repository { text, reason: "the host has neither dot nor port".to_owned() })
        }
    }

    /// Host and optional port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path on the registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a client pulls: `REPOSITORY:TAG`.
    pub fn with_tag(&self, tag: &Tag) -> String {
        format!("{self}:{tag}")
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error = |reason: String| ReferenceError::Repository { text: text.to_owned(), reason };
        let reference = Reference::try_from(text).map_err(|cause| error(cause.to_string()))?;
        if text.contains('@') || text.rsplit('/').next().is_some_and(|last| last.contains(':')) {
            return Err(error("it names a tag or digest as well".to_owned()));
        }
        Ok(Self { registry: reference.registry().to_owned(), name: reference.repository().to_owned() })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.name)
    }
}

impl Tag {
    /// The tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let good = matches!(text.len(), 1..=128)
            && word(text.as_bytes()[0])
            && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if good { Ok(Self(text.to_owned())) } else { Err(ReferenceError::Tag(text.to_owned())) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_port_and_path_come_apart() {
        let repository: Repository = "registry.example.com:5050/team/app/web".parse().unwrap();

        assert_eq!(repository.registry(), "registry.example.com:5050");
        assert_eq!(repository.name(), "team/app/web");
        assert_eq!(repository.to_string(), "registry.example.com:5050/team/app/web");
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        for text in [
            "",
            "host.example/",
            "host.example/Team/app",
            "host.example/app:tag",
            "host.example/a b",
            "host.example/../x",
        ] {
            assert!(text.parse::<Repository>().is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn tags_follow_the_distribution_specification() {
        for good in ["latest", "1.2.3", "_x", "A-b_c.D", &"x".repeat(128)] {
            assert_eq!(good.parse::<Tag>().unwrap().as_str(), good);
        }
        for bad in ["", ".x", "-x", "a/b", "a b", "ä", "a:b", "$X", &"x".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?} passed");
        }
    }
}
