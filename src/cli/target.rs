//! Where an image goes, as the command line names it.

use std::path::PathBuf;
use std::sync::Arc;

use super::{credentials, say};
use crate::failure::Failure;
use crate::oci::reference::ReferenceError;
use crate::oci::{Repository, Tag};
use crate::pipeline::{Published, Totals};
use crate::publish::{Destination, OciLayout, Registry};
use crate::stage::Driver;

/// Where an image goes, and under which tag if not its own.
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
        // What has no host would be on Docker's registry, which hardly anybody means here.
        let host = text.split_once('/').map_or("", |(host, _)| host);
        if !host.contains(['.', ':']) && host != "localhost" {
            return Err("write `HOST/REPOSITORY[:TAG]`, for Docker's registry `docker.io/NAME`".to_owned());
        }
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

    /// Where the image goes.
    pub(super) fn destination(&self, driver: &Driver<'_>) -> Result<Destination, Failure> {
        let registry = Arc::new(self.registry(driver)?);
        Ok(Destination::Registry { registry, repository: self.repository.clone() })
    }
}

impl Target {
    /// Where the image goes.
    pub(super) fn destination(&self, driver: &Driver<'_>) -> Result<Destination, Failure> {
        match self {
            Self::OciLayout(folder) => Ok(Destination::OciLayout(Arc::new(OciLayout::open(folder.clone())?))),
            Self::Registry(image) => image.destination(driver),
        }
    }

    /// The tag that it names.
    pub(super) fn tag(&self) -> Option<&Tag> {
        match self {
            Self::Registry(image) => image.tag.as_ref(),
            Self::OciLayout(_) => None,
        }
    }

    /// The repository, if it goes to one.
    pub(super) fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Registry(image) => Some(&image.repository),
            Self::OciLayout(_) => None,
        }
    }

    /// The same for one of several images: a repository or folder below.
    pub(super) fn below(&self, name: &str) -> Result<Self, Failure> {
        match self {
            // What is no name in a registry could lead out of the folder.
            Self::OciLayout(folder) => {
                below("localhost", name)?;
                Ok(Self::OciLayout(folder.join(name)))
            }
            Self::Registry(Image { repository, tag }) => {
                let repository = below(&repository.to_string(), name)?;
                Ok(Self::Registry(Image { repository, tag: tag.clone() }))
            }
        }
    }

    /// Says what a push came to, and where the image is now.
    pub(super) fn summarise(&self, published: &Published) {
        say(&Totals::of(&published.layers).to_string());
        say(&format!("digest: {}", published.digest));
        for tag in &published.tags {
            match self {
                Self::Registry(Image { repository, .. }) => {
                    say(&format!("image:  {}", repository.with_tag(tag)))
                }
                Self::OciLayout(folder) => say(&format!("image:  oci:{}:{tag}", folder.display())),
            }
        }
    }

    /// Host and port of the registry, if it goes to one.
    pub(super) fn host(&self) -> Option<&str> {
        self.repository().map(Repository::registry)
    }
}

fn below(place: &str, name: &str) -> Result<Repository, Failure> {
    format!("{place}/{name}")
        .parse()
        .map_err(|error: ReferenceError| Failure::build(error, "give the image a name that a registry takes"))
}
