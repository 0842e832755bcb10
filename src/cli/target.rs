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
    OciLayout { folder: PathBuf, tag: Option<Tag> },
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
        let Some(layout) = text.strip_prefix("oci:") else { return text.parse().map(Self::Registry) };
        let (folder, tag) = with_tag(layout)?;
        match folder {
            "" => Err("a folder follows `oci:`".to_owned()),
            folder => Ok(Self::OciLayout { folder: folder.into(), tag }),
        }
    }
}

impl std::str::FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix("docker://").unwrap_or(text);
        if let Some((_, digest)) = text.rsplit_once('@') {
            if !digest.starts_with("sha256:") {
                let fix = "log in with `skopeo login`, `podman login` or `docker login`";
                return Err(format!("credentials have no place here: {fix}"));
            }
            return Err("the digest of an image follows from what is in it: name a tag".to_owned());
        }
        // What has no host would be on Docker's registry, which hardly anybody means here.
        let host = text.split_once('/').map_or("", |(host, _)| host);
        if !host.contains(['.', ':']) && host != "localhost" {
            return Err("write `HOST/REPOSITORY[:TAG]`, for Docker's registry `docker.io/NAME`".to_owned());
        }
        let (repository, tag) = with_tag(text)?;
        Ok(Self { repository: repository.parse().map_err(|error: ReferenceError| error.to_string())?, tag })
    }
}

/// A place and the tag behind it, as far as there is one.
fn with_tag(text: &str) -> Result<(&str, Option<Tag>), String> {
    match text.rsplit_once(':') {
        Some((place, tag)) if !tag.contains('/') => {
            Ok((place, Some(tag.parse().map_err(|error: ReferenceError| error.to_string())?)))
        }
        Some(_) | None => Ok((text, None)),
    }
}

impl Image {
    /// The registry, entered with the credentials of the person at the keyboard.
    pub(super) fn registry(&self, driver: &Driver<'_>) -> Result<Registry, Failure> {
        let credentials = credentials::for_repository(&self.repository, driver.host)?;
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
            Self::OciLayout { folder, .. } => {
                Ok(Destination::OciLayout(Arc::new(OciLayout::open(folder.clone())?)))
            }
            Self::Registry(image) => image.destination(driver),
        }
    }

    /// The tag that it names.
    pub(super) fn tag(&self) -> Option<&Tag> {
        match self {
            Self::Registry(Image { tag, .. }) | Self::OciLayout { tag, .. } => tag.as_ref(),
        }
    }

    /// The repository, if it goes to one.
    pub(super) fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Registry(image) => Some(&image.repository),
            Self::OciLayout { .. } => None,
        }
    }

    /// The same for one of several images: a repository or folder below.
    pub(super) fn below(&self, name: &str) -> Result<Self, Failure> {
        match self {
            // What is no name in a registry could lead out of the folder.
            Self::OciLayout { folder, tag } => {
                below("localhost", name)?;
                Ok(Self::OciLayout { folder: folder.join(name), tag: tag.clone() })
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
                Self::OciLayout { folder, .. } => say(&format!("image:  oci:{}:{tag}", folder.display())),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_stands_behind_the_last_colon() {
        let of_layout = |text: &str| match text.parse().unwrap() {
            Target::OciLayout { folder, tag } => (folder.display().to_string(), tag),
            Target::Registry(image) => panic!("{image:?}"),
        };

        assert_eq!(of_layout("oci:images/app"), ("images/app".to_owned(), None));
        assert_eq!(of_layout("oci:app:1.2"), ("app".to_owned(), Some("1.2".parse().unwrap())));
        assert_eq!(of_layout("oci:a:b/app"), ("a:b/app".to_owned(), None));
        for text in ["oci:", "oci::1", "oci:app:1+b", "localhost:5000/app:1+b"] {
            text.parse::<Target>().unwrap_err();
        }
    }
}
