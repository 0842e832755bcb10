//! An image that is defined in Nix, with everything at hand to build it.

use std::collections::BTreeMap;

use super::spec_place::DefinitionOptions;
use super::workplace::Workplace;
use crate::failure::Failure;
use crate::pipeline::NixBuild;
use crate::source::nix::Nix;
use crate::spec::Installable;
use crate::stage::Driver;

/// What is wanted of a project's expressions, and a place to build it in.
pub(super) struct NixPlace<'a> {
    wanted: &'a Installable,
    place: Workplace<'a>,
    nix: Nix,
    annotations: BTreeMap<String, String>,
}

impl<'a> NixPlace<'a> {
    /// Opens the project that `wanted` is of.
    pub(super) fn open(
        wanted: &'a Installable,
        options: &DefinitionOptions,
        driver: &'a Driver<'a>,
    ) -> Result<Self, Failure> {
        let place = Workplace::open(&options.project, driver)?;
        let nix = place.nix(&driver.sandbox()?);
        let revision = place.commit().map(|commit| commit.revision);
        let revision = revision.map(|revision| ("org.opencontainers.image.revision".to_owned(), revision));
        Ok(Self { wanted, place, nix, annotations: revision.into_iter().collect() })
    }

    /// The build of what is wanted.
    pub(super) fn build(&self) -> NixBuild<'_> {
        NixBuild {
            wanted: self.wanted,
            project: &self.place.project,
            nix: &self.nix,
            roots: &self.place.roots,
            annotations: self.annotations.clone(),
            now: self.place.driver.now,
        }
    }
}
