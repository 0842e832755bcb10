//! Images that are defined in Nix and not in a spec: finds them, and what kind each is.
//!
//! Nobody says which kind it is. What makes a layered image of `dockerTools` is made from its `conf.json`: then only that
//! is built, and neither an archive nor the script that would write one.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use jiff::Timestamp;

use super::event::{Patience, Quota};
use super::layered::Layered;
use super::nix_image::{NixImage, last_part};
use super::{BuildError, Event, blocking, nix2container};
use crate::folder::Folder;
use crate::nix::StorePath;
use crate::source::docker_tools::{LayeredImage, MAX_CONF, store_mode};
use crate::source::nix::{ImageValue, Nix};
use crate::source::nix2container::Image;
use crate::source::store_file;
use crate::spec::{AttrPath, Flake, Installable, ProjectPath};

/// More than any script has that is read for what it says of modes.
const MAX_SCRIPT: u64 = 1 << 20;

/// What images are built from that are defined in Nix.
pub struct NixBuild<'a> {
    /// What is wanted.
    pub wanted: &'a Installable,
    /// The project, which the expression sees.
    pub project: &'a Folder,
    /// Evaluates and builds.
    pub nix: &'a Nix,
    /// A folder for garbage collector roots, to be kept until the images are published.
    pub roots: &'a Path,
    /// Variables of the job, those that GitLab lists as public; on the command line, all of the environment. An
    /// expression sees those called `CI_…` but `CI_REPOSITORY_URL` and what has `TOKEN`, `PASSWORD`, `JWT`, `SECRET` or
    /// `PRIVATE_KEY` in its name.
    pub variables: BTreeMap<String, String>,
    /// Annotations of the manifests.
    pub annotations: BTreeMap<String, String>,
    /// What `now` means.
    pub now: Timestamp,
}

impl NixBuild<'_> {
    /// Finds the images, and builds what they are made of.
    pub async fn prepare(&self, on_event: &(dyn Fn(Event) + Sync)) -> Result<Vec<NixImage>, BuildError> {
        let quota = Quota::new(on_event);
        let wanted = self.wanted()?;
        let say = |line: &str| quota.say(line);
        let found = self.nix.images(&wanted, self.project, &self.variables, self.roots, &say).await?;
        for set in &found.passed {
            quota.say(&format!(
                "`{set}` is a set without `recurseForDerivations = true`: what is in it is left out, unless it is named"
            ));
        }
        let mut images = Vec::new();
        for value in found.images {
            let place = wanted.below(&value.place);
            let of_value = self.images(&value, on_event, &quota).await?;
            let several = of_value.len() > 1;
            for mut image in of_value {
                image.origin = if several { format!("{}` of `{place}", image.origin) } else { place.clone() };
                images.push(image);
            }
        }
        Ok(images)
    }

    /// What is wanted, if the project has it. A folder without a `default.nix` is meant for its flake.
    fn wanted(&self) -> Result<Installable, BuildError> {
        let has =
            |folder: &ProjectPath, file: &str| self.project.has_file(&format!("{}/{file}", folder.as_str()));
        match self.wanted {
            Installable::File { path, .. }
                if path.as_str().rsplit('/').next() == Some("flake.nix")
                    && self.project.has_file(path.as_str()) =>
            {
                let folder = path.as_str().rsplit_once('/').map_or(".", |(folder, _)| folder);
                return Err(BuildError::FlakeFile { folder: folder.to_owned() });
            }
            Installable::File { path, .. } if self.project.leads_out(path.as_str()) => {
                return Err(BuildError::LeadsOut { path: path.clone() });
            }
            Installable::File { path, .. }
                if self.project.has_file(path.as_str()) || has(path, "default.nix") => {}
            Installable::File { path, attribute: None } if has(path, "flake.nix") => {
                let (flake, output) = (Flake::Folder(path.clone()), AttrPath::of("default"));
                return Ok(Installable::FlakeOutput { flake, output });
            }
            Installable::File { path, .. } => return Err(BuildError::NoExpression { path: path.clone() }),
            Installable::FlakeOutput { flake: Flake::Folder(path), .. } if !has(path, "flake.nix") => {
                return Err(BuildError::NoFlake { path: path.clone() });
            }
            Installable::FlakeOutput { .. } => {}
        }
        Ok(self.wanted.clone())
    }

    /// What one value means: an image, or those of an archive.
    async fn images(
        &self,
        value: &ImageValue,
        on_event: &(dyn Fn(Event) + Sync),
        quota: &Quota<'_>,
    ) -> Result<Vec<NixImage>, BuildError> {
        let say = |line: &str| quota.say(line);
        let reading = value.clone();
        if let Some(stream) = blocking(move || reading.stream()).await? {
            let path = self.nix.realise_image(&stream.conf, self.roots, &say).await?;
            return Ok(vec![self.layered(&path, stream.script, on_event).await?]);
        }
        let path = self.nix.realise_image(&value.derivation, self.roots, &say).await?;
        let tag = value.image_tag.as_deref();
        let place = value.place.join(".");
        let place = Some(place.as_str()).filter(|place| !place.is_empty());
        if path.name().ends_with(".json") {
            let file = place.unwrap_or(path.name().trim_end_matches(".json"));
            let called = value.image_name.as_deref().unwrap_or(file);
            return Ok(vec![self.planned(&path, called, tag, on_event).await?]);
        }
        let called = (value.image_name.as_deref(), tag);
        let annotations = |title: &str| self.annotations(title, None);
        NixImage::of_archive(&path, called, place.unwrap_or(path.name()), &annotations, on_event).await
    }

    async fn layered(
        &self,
        conf: &StorePath,
        script: Option<StorePath>,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<NixImage, BuildError> {
        let closure = self.nix.closure(std::slice::from_ref(conf)).await?;
        let conf = conf.clone();
        let image = blocking(move || {
            let script = script.and_then(|script| read(&script, MAX_SCRIPT).ok());
            let mode = script.map(|script| store_mode(&String::from_utf8_lossy(&script)));
            let image = LayeredImage::parse(&read(&conf, MAX_CONF)?, mode);
            let image = image.map_err(|source| BuildError::Conf { conf, source })?;
            Layered::read(image, closure)
        });
        // A base image may take a while to read.
        let event = Event::Said("reading the base image".to_owned());
        let image = Patience::new().during(image, event, on_event).await??;
        let (name, tag) = (image.name().to_owned(), image.tag().to_owned());
        let annotations = self.annotations(last_part(&name), Some(&image.created(self.now)));
        Ok(NixImage::of_layers(&name, Some(&tag), image.prepare(annotations, self.now, on_event)))
    }

    async fn planned(
        &self,
        image_json: &StorePath,
        name: &str,
        tag: Option<&str>,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<NixImage, BuildError> {
        let closure = self.nix.closure(std::slice::from_ref(image_json)).await?;
        let path = image_json.clone();
        let image = blocking(move || -> Result<Image, BuildError> {
            Ok(Image::parse(path.name(), &read(&path, MAX_CONF)?)?)
        });
        let image = image.await??;
        let annotations = self.annotations(last_part(name), Some(&image.created));
        let layers = nix2container::prepare(image, closure, annotations, on_event)?;
        Ok(NixImage::of_layers(name, tag, layers))
    }

    /// Annotations of an image; what is finished says itself when it was created.
    fn annotations(&self, title: &str, created: Option<&str>) -> BTreeMap<String, String> {
        let own = [("title", Some(title)), ("created", created)].into_iter();
        let own = own
            .filter_map(|(key, value)| Some((format!("org.opencontainers.image.{key}"), value?.to_owned())));
        self.annotations.clone().into_iter().chain(own).collect()
    }
}

/// The whole file at a store path.
fn read(path: &StorePath, limit: u64) -> Result<Vec<u8>, BuildError> {
    let mut bytes = Vec::new();
    store_file::open(&path.to_path_buf())
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|source| BuildError::Unreadable { path: path.clone(), source })?;
    if bytes.len() as u64 > limit {
        return Err(BuildError::TooLarge { path: path.clone(), limit });
    }
    Ok(bytes)
}
