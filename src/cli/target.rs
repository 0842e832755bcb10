//! Where an image goes, as the command line names it.

use std::path::PathBuf;
use std::sync::Arc;

use super::workplace::Workplace;
use super::{credentials, say};
use crate::failure::Failure;
use crate::oci::reference::ReferenceError;
use crate::oci::{Repository, Tag};
use crate::pipeline::{self, Reuse};
use crate::publish::{Destination, OciLayout, Registry};
use crate::stage::Driver;

/// Where an image goes, and under which tag if not the spec's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Registry(Image),
    OciLayout(PathBuf),
}

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) repository: Repository,
    pub(super) tag: Option<Tag>,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("oci:") {
            Some("") => Err("a folder follows `oci:`".to_owned()),
            Some(folder) => Ok(Self::OciLayout(folder.into())),
            None => text.parse().map(Self::Registry),
        }
    }
}

impl std::str::FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix("docker://").unwrap_or(text);
        if text.contains('@') {
            return Err("the digest of an image follows from what is in it: name a tag".to_owned());
        }
        let error = |error: ReferenceError| error.to_string();
        let (repository, tag) = match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            Some(_) | None => (text, None),
        };
        Ok(Self {
            repository: repository.parse().map_err(error)?,
            tag: tag.map(str::parse).transpose().map_err(error)?,
        })
    }
}

impl Image {
    /// The registry, entered with the credentials of the person at the keyboard.
    pub(super) fn registry(&self, driver: &Driver<'_>) -> Result<Registry, Failure> {
        let credentials = credentials::for_registry(self.repository.registry(), driver.host)?;
        let (host, token_host) = match self.repository.registry() {
            // The name in references to Docker's own registry is not where it answers.
            "docker.io" => ("registry-1.docker.io", Some("auth.docker.io")),
            host => (host, None),
        };
        driver.registry(host, credentials, token_host)
    }

    /// Where the image of a spec goes, and under which tags.
    pub(super) fn destination(&self, place: &Workplace<'_>) -> Result<(Destination, Vec<Tag>), Failure> {
        let registry = Arc::new(self.registry(place.driver())?);
        let tags = match &self.tag {
            Some(tag) => vec![tag.clone()],
            None => pipeline::tags(&place.spec, &place.variable(), &say)?,
        };
        Ok((Destination::Registry { registry, repository: self.repository.clone() }, tags))
    }

    /// What may spare the push of a spec its layers.
    pub(super) fn reuse(&self, place: &Workplace<'_>, verify: bool) -> Result<Reuse, Failure> {
        let from = pipeline::reuse_from(&place.spec, &self.repository, &place.variable())?;
        place.driver().reuse(from, verify, &say)
    }
}

impl Target {
    /// Where the image of a spec goes, and under which tags.
    pub(super) fn destination(&self, place: &Workplace<'_>) -> Result<(Destination, Vec<Tag>), Failure> {
        match self {
            Self::OciLayout(folder) => {
                let layout = Arc::new(OciLayout::open(folder.clone())?);
                let tags = pipeline::tags(&place.spec, &place.variable(), &say)?;
                Ok((Destination::OciLayout(layout), tags))
            }
            Self::Registry(image) => image.destination(place),
        }
    }

    /// What may spare the build of a spec its layers.
    pub(super) fn reuse(&self, place: &Workplace<'_>, verify: bool) -> Result<Reuse, Failure> {
        match self {
            Self::OciLayout(_) => place.driver().reuse(Vec::new(), verify, &say),
            Self::Registry(image) => image.reuse(place, verify),
        }
    }

    /// Host and port of the registry, if it goes to one.
    pub(super) fn host(&self) -> Option<&str> {
        match self {
            Self::Registry(image) => Some(image.repository.registry()),
            Self::OciLayout(_) => None,
        }
    }
}
