//! Where an image lies: a registry's repository, and the tags in it.

use std::fmt;
use std::str::FromStr;

const DOCKER_HUB: &str = "docker.io";

/// How Docker's own registry was called once.
const DOCKER_HUB_LEGACY: &str = "index.docker.io";

/// The most bytes of a name, by the `reference` package of distribution.
const MOST_NAME: usize = 255;

/// A repository on a registry, such as `registry.example.com:5050/team/app`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    registry: String,
    name: String,
}

/// A mutable name of an image in its repository (distribution specification, "Pulling manifests").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// `latest`: what clients mean who name no tag.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }
}

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

    /// What has no host is on Docker's own registry, as everywhere (distribution's `reference` package).
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let error =
            |reason: &str| ReferenceError::Repository { text: text.to_owned(), reason: reason.to_owned() };
        if text.contains('@') || text.rsplit('/').next().is_some_and(|last| last.contains(':')) {
            return Err(error("it names a tag or digest as well"));
        }
        let (registry, name) = match text.split_once('/') {
            Some((host, name)) if host.contains(['.', ':']) || host == "localhost" => (host, name),
            Some(_) | None => (DOCKER_HUB, text),
        };
        let registry = if registry == DOCKER_HUB_LEGACY { DOCKER_HUB } else { registry };
        if !is_host(registry) {
            return Err(error("what comes before the first `/` is not a host"));
        }
        if !name.split('/').all(is_name_component) {
            return Err(error("names have lower-case letters, digits, and single `.`, `_` or `-` between"));
        }
        let official = registry == DOCKER_HUB && !name.contains('/');
        let name = if official { format!("library/{name}") } else { name.to_owned() };
        if name.len() > MOST_NAME {
            return Err(error("it is longer than 255 characters"));
        }
        Ok(Self { registry: registry.to_owned(), name })
    }
}

/// A host name or IPv4 address, with a port or without.
fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    name.split('.').all(is_label) && port.is_none_or(is_port)
}

/// A part of a name between two `/` (distribution specification, "Pulling manifests").
fn is_name_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = component.split(|char: char| u8::try_from(char).is_ok_and(is_word));
    let good = |separator: &str| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    };
    let ends = [component.bytes().next(), component.bytes().last()];
    ends.iter().all(|end| end.is_some_and(is_word)) && separators.into_iter().all(good)
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
    use proptest::prelude::*;

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

    proptest! {
        /// What the `oci-client` crate reads is read the same, but for a host or name with capitals where neither
        /// registry nor name can have them. (It compiles an expression for that, which takes as long as a push.)
        #[test]
        fn repositories_are_those_of_the_standard(
            text in prop_oneof![
                "[a-zA-Z0-9._:/-]{0,24}",
                "(localhost|[a-c]{1,2}(\\.[a-c]{1,2}){0,2}|index\\.docker\\.io|docker\\.io)(:[0-9]{1,4})?(/[a-b0._-]{1,5}){0,3}",
            ],
        ) {
            let theirs = oci_client::Reference::try_from(text.as_str()).ok();
            let named = text.rsplit('/').next().is_some_and(|last| last.contains(':'));
            let theirs = theirs.filter(|it| !named && it.repository().bytes().all(|byte| !byte.is_ascii_uppercase()));
            let ours = text.parse::<Repository>().ok();

            let theirs = theirs.map(|it| (it.registry().to_owned(), it.repository().to_owned()));
            prop_assert_eq!(ours.map(|it| (it.registry, it.name)), theirs);
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
