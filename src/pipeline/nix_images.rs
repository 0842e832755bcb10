//! Images that are defined in Nix and not in a spec: finds them, and what kind each is.
//!
//! Nobody says which kind it is. What makes a layered image of `dockerTools` hands over its `conf.json`, or is made
//! from it: then only that is built, and neither an archive nor the script that would write one.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use jiff::Timestamp;

use super::event::Quota;
use super::nix_image::NixImage;
use super::{BuildError, Event, layered};
use crate::folder::Folder;
use crate::nix::{StorePath, System};
use crate::oci::Tag;
use crate::source::docker_tools::{LayeredImage, MAX_CONF, store_mode};
use crate::source::nix::{ImageValue, Nix};
use crate::source::{nix2container, store_file};
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
        let found = self.nix.images(&wanted, self.project.path(), System::HOST, self.roots, &say).await?;
        let mut images = Vec::new();
        for value in found {
            images.extend(self.images(&value, on_event, &quota).await?);
        }
        Ok(images)
    }

    /// What is wanted, if the project has it. A folder without a `default.nix` is meant for its flake.
    fn wanted(&self) -> Result<Installable, BuildError> {
        let has =
            |folder: &ProjectPath, file: &str| self.project.has_file(&format!("{}/{file}", folder.as_str()));
        match self.wanted {
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
        let stream = self.nix.stream(&value.derivation.drv).await?;
        if let Some(conf) = value.conf.as_ref().or(stream.conf.as_ref()) {
            let path = self.nix.realise_image(conf, self.roots, &say).await?;
            let script = stream.script.and_then(|script| read(&script, MAX_SCRIPT).ok());
            let mode = script.map(|script| store_mode(&String::from_utf8_lossy(&script)));
            return Ok(vec![self.layered(&path, mode, on_event).await?]);
        }
        let path = self.nix.realise_image(&value.derivation, self.roots, &say).await?;
        let tag: Option<Tag> = value.image_tag.as_deref().and_then(|tag| tag.parse().ok());
        if path.name().ends_with(".json") {
            let called = value.image_name.as_deref().unwrap_or(path.name().trim_end_matches(".json"));
            return Ok(vec![self.planned(&path, called, tag, on_event).await?]);
        }
        let called = (value.image_name.as_deref(), tag.as_ref());
        NixImage::of_archive(&path, called, &|title| self.annotations(title, None)).await
    }

    async fn layered(
        &self,
        conf: &StorePath,
        store_mode: Option<u32>,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<NixImage, BuildError> {
        let closure = self.nix.closure(std::slice::from_ref(conf)).await?;
        let bytes = read(conf, MAX_CONF)?;
        let image = LayeredImage::parse(&bytes, store_mode)
            .map_err(|source| BuildError::Conf { conf: conf.clone(), source })?;
        let (name, tag) = (image.name.clone(), image.tag.clone());
        let title = name.rsplit('/').next().unwrap_or_default();
        let annotations = self.annotations(title, Some(&image.created.to_text(self.now)));
        let layers = layered::prepare(image, closure, annotations, self.now, on_event)?;
        Ok(NixImage::of_layers(&name, Some(tag), layers))
    }

    async fn planned(
        &self,
        image_json: &StorePath,
        name: &str,
        tag: Option<Tag>,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<NixImage, BuildError> {
        let closure = self.nix.closure(std::slice::from_ref(image_json)).await?;
        let image = nix2container::Image::parse(image_json.name(), &read(image_json, MAX_CONF)?)?;
        let title = name.rsplit('/').next().unwrap_or_default();
        let annotations = self.annotations(title, Some(&image.created));
        let layers = super::nix2container::prepare(image, closure, annotations, on_event)?;
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

/// The file at a store path; the rest of one that is longer than `limit` is left out.
fn read(path: &StorePath, limit: u64) -> Result<Vec<u8>, BuildError> {
    let mut bytes = Vec::new();
    store_file::open(&path.to_path_buf())
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|source| BuildError::Unreadable { path: path.clone(), source })?;
    Ok(bytes)
}
