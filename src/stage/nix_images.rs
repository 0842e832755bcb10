//! An image job whose image is defined in Nix, or several.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::image::{ImageJob, Pushed};
use super::log::Log;
use crate::failure::Failure;
use crate::folder::Folder;
use crate::job::annotations;
use crate::oci::{Repository, Tag};
use crate::pipeline::{BuildError, Event, NixBuild, NixImage, usual_reuse};
use crate::publish::Destination;
use crate::spec::Installable;

impl ImageJob<'_> {
    /// What can be known of an expression before it is evaluated, which may take long and need what the job's script
    /// is yet to make.
    pub(super) async fn check_nix(&self) -> Result<(), Failure> {
        if !self.nix.is_installed() {
            return Err(Failure::build(
                "this host has no Nix, and the image is defined in it",
                "write the image as a spec and lock it with `nixlayer lock`, or install Nix here",
            ));
        }
        self.nix.version().await?;
        match &self.request.repository {
            Some(name) => Ok(self.registry.check_push(&self.job.repository(name)?).await?),
            // Several images go to repositories below this one, which must not be made in vain.
            None => Ok(self.registry.check_pull(&self.job.own_repository()?).await?),
        }
    }

    /// What is wanted becomes images in the registry, which `pushed` is told of one by one.
    pub(super) async fn build_nix(
        &self,
        wanted: &Installable,
        project: &Folder,
        log: &Log,
        pushed: &mut Vec<Pushed>,
    ) -> Result<(), Failure> {
        let build = NixBuild {
            wanted,
            project,
            nix: self.nix,
            roots: &self.folders.roots(),
            variables: self.job.public_variables().clone(),
            annotations: annotations::of_commit(self.job, None, None),
            now: self.driver.now,
        };
        let watch = |event: Event| log.line(event.to_string());
        let images = {
            let _section = log.section("nixlayer_packages", "Packages");
            build.prepare(&watch).await
        };
        let images = images.inspect_err(|error| {
            if matches!(error, BuildError::Nix(error) if error.has_log()) {
                self.keep_nix_log(project, log);
            }
        })?;
        let places = self.places(&images)?;
        let variable = |name: &str| self.job.lookup(name).map(str::to_owned);
        let _section = log.section("nixlayer_layers", "Layers");
        for (image, (repository, tags)) in images.iter().zip(places) {
            if images.len() > 1 {
                log.line(format!("{repository}:"));
            }
            let from = usual_reuse(&repository, &variable);
            let mut reuse = self.driver.reuse(from, self.request.verify_layers, &|line| log.line(line))?;
            let before = pushed
                .iter()
                .filter_map(|image| Some((image.repository.clone(), image.tags.first()?.clone())));
            reuse.add_pushed(&before.collect::<Vec<_>>(), Some(&repository));
            let destination = Destination::Registry {
                registry: Arc::clone(&self.registry),
                repository: repository.clone(),
            };
            let effort = self.driver.effort(Some(repository.registry()));
            let published = image.publish(&destination, &tags, effort, &reuse, &watch).await?;
            pushed.push(Pushed { repository, tags, published });
        }
        Ok(())
    }

    /// Where each image goes: one to the repository that is asked for, several below it under their own names.
    fn places(&self, images: &[NixImage]) -> Result<Vec<(Repository, Vec<Tag>)>, Failure> {
        let asked = self.request.repository.as_deref().unwrap_or_default();
        let mut taken = BTreeMap::new();
        let mut places = Vec::new();
        for image in images {
            let name = match (images.len(), asked) {
                (1, _) => asked.to_owned(),
                (_, "") => image.name.clone(),
                (_, above) => format!("{above}/{}", image.name),
            };
            let repository = self.job.repository(&name)?;
            let tags = if self.request.tags.is_empty() { image.tags()? } else { self.request.tags.clone() };
            for tag in &tags {
                let reference = repository.with_tag(tag);
                if let Some(other) = taken.insert(reference.clone(), &image.origin) {
                    return Err(Failure::build(
                        format!("two images would be `{reference}`: `{other}` and `{}`", image.origin),
                        "give them names or tags of their own, or name one behind a `#` in `NIXLAYER_SPEC`",
                    ));
                }
            }
            places.push((repository, tags));
        }
        Ok(places)
    }
}
