//! One image that is defined in Nix, on its way to a destination.

use std::collections::BTreeMap;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::event::Patience;
use super::{ArchivePush, BuildError, Effort, Event, Outlook, Prepared, Published, Reuse, blocking};
use crate::nix::StorePath;
use crate::oci::Tag;
use crate::publish::Destination;
use crate::source::archive::{ArchiveSource, Form, Select};
use crate::source::store_file;

/// So many repositories no project has for one job.
const MOST_IMAGES: usize = 100;

/// An image whose parts are known.
pub struct NixImage {
    /// What it is called: the last part of its name, in lower case.
    pub name: String,
    /// Where it is defined, as one would name that.
    pub origin: String,
    tags: Vec<String>,
    content: Content,
}

enum Content {
    /// Layers that can be made.
    Layers(Box<Prepared<'static>>),
    /// An image that is finished.
    Archive { source: Arc<ArchiveSource>, select: Select, annotations: BTreeMap<String, String> },
}

impl NixImage {
    /// An image of this name and tag whose layers can be made.
    pub(super) fn of_layers(name: &str, tag: Option<&str>, layers: Prepared<'static>) -> Self {
        Self {
            name: last_part(name).to_lowercase(),
            origin: name.to_owned(),
            tags: tag.iter().map(|&tag| tag.to_owned()).collect(),
            content: Content::Layers(Box::new(layers)),
        }
    }

    /// The images of the archive or image layout at a store path. One is called `name` and `tag` if both are known;
    /// otherwise they are what the archive calls them, or else `fallback`. `annotations` gives those of a title.
    pub(super) async fn of_archive(
        path: &StorePath,
        (name, tag): (Option<&str>, Option<&str>),
        fallback: &str,
        annotations: &dyn Fn(&str) -> BTreeMap<String, String>,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<Vec<Self>, BuildError> {
        let unreadable = |error| BuildError::Unreadable { path: path.clone(), source: error };
        let place = store_file::resolve(&path.to_path_buf()).map_err(unreadable)?;
        let shown = path.to_string();
        let source = if place.is_dir() {
            let folder = Dir::open_ambient_dir(&place, ambient_authority()).map_err(unreadable)?;
            if !folder.exists("oci-layout") {
                return Err(BuildError::NoImage { name: path.name().to_owned() });
            }
            ArchiveSource::folder(&shown, folder)
        } else {
            let file = store_file::open(&path.to_path_buf()).map_err(unreadable)?;
            ArchiveSource::file(&shown, Form::Any, file)?
        };
        let source = Arc::new(source);
        let image = |name: &str, tags: Vec<&str>, select| {
            let origin = name.to_owned();
            let name = last_part(name).to_lowercase();
            let annotations = annotations(&name);
            let content = Content::Archive { source: Arc::clone(&source), select, annotations };
            Self { origin, name, tags: tags.into_iter().map(str::to_owned).collect(), content }
        };
        if let (Some(name), Some(tag)) = (name, tag) {
            return Ok(vec![image(name, vec![tag], Select::Only)]);
        }
        let read = Arc::clone(&source);
        let images = blocking(move || read.list());
        let event = Event::Said("looking for the images in the archive".to_owned());
        let images = Patience::new().during(images, event, on_event).await??;
        if images.len() > MOST_IMAGES {
            return Err(BuildError::TooManyImages { images: images.len(), most: MOST_IMAGES });
        }
        let images = images.iter().map(|listed| {
            let (own, mut own_tags) = name_and_tags(&listed.names);
            if let Some(tag) = tag {
                own_tags = vec![tag];
            }
            image(name.or(own).unwrap_or(fallback), own_tags, Select::At(listed.place()))
        });
        Ok(images.collect())
    }

    /// The tags that it says are its own; `latest` if it says none. One that a registry does not take must not become
    /// another.
    pub fn tags(&self) -> Result<Vec<Tag>, BuildError> {
        if self.tags.is_empty() {
            return Ok(vec![Tag::latest()]);
        }
        let parsed = self.tags.iter().map(|own| own.parse());
        let parsed: Result<_, _> = parsed.collect();
        parsed.map_err(|reason| BuildError::Tag { image: self.origin.clone(), reason })
    }

    /// `given`, or else its own [`tags`](Self::tags).
    pub fn tags_or(&self, given: Option<&Tag>) -> Result<Vec<Tag>, BuildError> {
        given.map_or_else(|| self.tags(), |tag| Ok(vec![tag.clone()]))
    }

    /// What [`publish`](Self::publish) would do; none of an image that is finished, of which nothing is built.
    pub async fn outlook(
        &self,
        against: Option<(&Destination, &[Tag])>,
        reuse: &Reuse,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<Option<Outlook>, BuildError> {
        match &self.content {
            Content::Layers(prepared) => prepared.outlook(against, reuse, on_event).await.map(Some),
            Content::Archive { .. } => Ok(None),
        }
    }

    /// Brings the image to its destination, and lets `tags` name it.
    pub async fn publish(
        &self,
        destination: &Destination,
        tags: &[Tag],
        effort: Effort,
        reuse: &Reuse,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<Published, BuildError> {
        match &self.content {
            Content::Layers(prepared) => prepared.publish(destination, tags, effort, reuse, on_event).await,
            Content::Archive { source, select, annotations } => {
                let push = ArchivePush { source, select, annotations: annotations.clone() };
                push.publish(destination, tags, effort, reuse, on_event).await
            }
        }
    }
}

/// The name and tag in a `RepoTag`, or the tag that the name in an image layout may be.
fn split(called: &str) -> (Option<&str>, Option<&str>) {
    match called.rsplit_once(':') {
        Some((name, own)) if !own.contains('/') => (Some(name), Some(own)),
        None if !called.contains('/') => (None, Some(called)),
        Some(_) | None => (Some(called), None),
    }
}

/// What an image with these names is called first, and the tags that it has under that.
fn name_and_tags(names: &[String]) -> (Option<&str>, Vec<&str>) {
    let mut own = names.iter().map(|called| split(called));
    let Some((name, first)) = own.next() else { return (None, Vec::new()) };
    let mut tags: Vec<&str> = first.into_iter().collect();
    for tag in own.filter(|(other, _)| *other == name).filter_map(|(_, tag)| tag) {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    (name, tags)
}

/// What an image is called, without where it is.
pub(super) fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_all_tags_of_its_first_name() {
        for (names, expected) in [
            (&["app:1", "app:latest", "app:1", "other:2"][..], (Some("app"), vec!["1", "latest"])),
            (&["1", "latest"], (None, vec!["1", "latest"])),
            (&["registry.example/app", "registry.example/app:2"], (Some("registry.example/app"), vec!["2"])),
            (&[], (None, vec![])),
        ] {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(name_and_tags(&names), expected, "{names:?}");
        }
    }

    #[test]
    fn an_archive_calls_its_images_by_name_and_tag() {
        for (called, expected) in [
            ("registry.example:5000/team/app:1.2", (Some("registry.example:5000/team/app"), Some("1.2"))),
            ("registry.example:5000/team/app", (Some("registry.example:5000/team/app"), None)),
            ("team/app", (Some("team/app"), None)),
            ("app:1.2", (Some("app"), Some("1.2"))),
            ("1.2", (None, Some("1.2"))),
        ] {
            assert_eq!(split(called), expected, "{called}");
        }
    }
}
