//! An image that is defined in Nix, with everything at hand to build it.

use std::collections::BTreeMap;

use super::say;
use super::spec_place::DefinitionOptions;
use super::workplace::Workplace;
use crate::failure::Failure;
use crate::oci::Repository;
use crate::pipeline::{NixBuild, Reuse, usual_reuse};
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

    /// What may spare a push to `repository` its layers.
    pub(super) fn reuse(&self, repository: Option<&Repository>, verify: bool) -> Result<Reuse, Failure> {
        let variable = |name: &str| self.place.variable(name);
        let from = repository.map(|repository| usual_reuse(repository, &variable));
        self.place.driver.reuse(from.unwrap_or_default(), verify, &say)
    }

    fn variables(&self) -> BTreeMap<String, String> {
        let host = self.place.driver.host.iter();
        host.filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_str()?.to_owned())))
            .collect()
    }

    /// The build of what is wanted.
    pub(super) fn build(&self) -> NixBuild<'_> {
        NixBuild {
            wanted: self.wanted,
            project: &self.place.project,
            nix: &self.nix,
            roots: &self.place.roots,
            variables: self.variables(),
            annotations: self.annotations.clone(),
            now: self.place.driver.now,
        }
    }
}
