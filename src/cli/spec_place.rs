//! A spec with everything at hand to build it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::say;
use super::workplace::Workplace;
use crate::failure::Failure;
use crate::lock::Lock;
use crate::oci::{Repository, Tag};
use crate::pipeline::{self, Build, Reuse, read_lock};
use crate::sandbox::Sandbox;
use crate::source::binary_cache::BinaryCaches;
use crate::source::nix::Nix;
use crate::spec::{Definition, ImageSpec};
use crate::stage::Driver;

/// How the definition of an image is read.
#[derive(Debug, clap::Args)]
pub(super) struct DefinitionOptions {
    /// The folder that the definition's own paths start from
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    pub(super) project: PathBuf,
    /// Asks Nix what a spec means, also if there is a lock
    #[arg(long)]
    no_lock: bool,
}

/// Gives the value of a variable of the environment.
type Lookup<'a> = Box<dyn Fn(&str) -> Option<String> + Sync + 'a>;

/// A spec, and a place to build it in.
pub(super) struct SpecPlace<'a> {
    spec: ImageSpec,
    place: Workplace<'a>,
    lock: Option<Lock>,
    caches: Arc<BinaryCaches>,
    sandbox: Option<Sandbox>,
    nix: Option<Nix>,
    annotations: BTreeMap<String, String>,
    created: Timestamp,
    variable: Lookup<'a>,
}

/// The name of a spec; what is defined in Nix is none.
pub(super) fn spec_file(definition: &str) -> Result<String, Failure> {
    match definition.parse()? {
        Definition::Spec(file) => Ok(file),
        Definition::Nix(installable) => Err(Failure::build(
            format!("`{installable}` is no image spec"),
            "name a spec that ends in `.yaml`; what is defined in Nix has no lock, and is explained once it is pushed",
        )),
    }
}

impl<'a> SpecPlace<'a> {
    /// Reads the spec in `file`, beneath the project's folder.
    pub(super) fn open(
        file: &str,
        options: &DefinitionOptions,
        driver: &'a Driver<'a>,
    ) -> Result<Self, Failure> {
        let place = Workplace::open(&options.project, driver)?;
        let spec = ImageSpec::parse(file, &place.project.read(file, ImageSpec::MAX_FILE)?)?;
        let commit = place.commit();
        let created = spec.created.resolve(driver.now, commit.as_ref().map(|commit| commit.time));
        let mut annotations =
            BTreeMap::from([("title", spec.name.clone()), ("created", created.to_string())]);
        annotations.extend(commit.map(|commit| ("revision", commit.revision)));
        let standard = |(key, value)| (format!("org.opencontainers.image.{key}"), value);
        let off = options.no_lock
            || place.variable("NIXLAYER_LOCK").is_some_and(|value| value.eq_ignore_ascii_case("off"));
        let lock = if off { None } else { read_lock(&place.project, file)? };
        let sandbox = match driver.sandbox() {
            Ok(sandbox) => Some(sandbox),
            // With a lock, only commands need one.
            Err(_) if lock.is_some() => None,
            Err(failure) => return Err(failure),
        };
        let nix = sandbox.as_ref().map(|sandbox| place.nix(sandbox));
        let caches = driver.binary_caches(&spec, &place.project, lock.is_some())?;
        let host = driver.host;
        let variable =
            move |name: &str| Some(host.get(std::ffi::OsStr::new(name))?.to_string_lossy().into_owned());
        Ok(Self {
            spec,
            place,
            lock,
            caches,
            sandbox,
            nix,
            annotations: annotations.into_iter().map(standard).collect(),
            created,
            variable: Box::new(variable),
        })
    }

    /// The build of the spec.
    pub(super) fn build(&self) -> Build<'_> {
        Build {
            spec: &self.spec,
            project: &self.place.project,
            lock: self.lock.as_ref(),
            caches: &self.caches,
            nix: self.nix.as_ref(),
            sandbox: self.sandbox.as_ref(),
            roots: &self.place.roots,
            scratch: &self.place.work,
            variable: &*self.variable,
            annotations: self.annotations.clone(),
            created: self.created,
        }
    }

    /// The tags that the image gets if nobody names another.
    pub(super) fn tags(&self) -> Result<Vec<Tag>, Failure> {
        Ok(pipeline::tags(&self.spec, &*self.variable, &say)?)
    }

    /// What may spare a push to `repository` its layers.
    pub(super) fn reuse(&self, repository: Option<&Repository>, verify: bool) -> Result<Reuse, Failure> {
        let from = match repository {
            Some(repository) => pipeline::reuse_from(&self.spec, repository, &*self.variable)?,
            None => Vec::new(),
        };
        self.place.driver.reuse(from, verify, &say)
    }
}
