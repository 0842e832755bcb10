//! `nixlayer build`: the same as an image job, outside GitLab.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use jiff::Timestamp;
use oci_client::Reference;

use super::{Scratch, credentials, interrupted};
use crate::failure::Failure;
use crate::folder::Folder;
use crate::oci::reference::ReferenceError;
use crate::oci::{Repository, Tag};
use crate::pipeline::{self, Build, Event, Totals, read_lock};
use crate::publish::{Destination, OciLayout};
use crate::spec::ImageSpec;
use crate::stage::Driver;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The spec, beneath the project's folder
    spec: String,
    /// Where the image goes: `HOST/REPOSITORY[:TAG]` or `oci:FOLDER`; may be given several times
    #[arg(long, required = true, value_name = "DEST")]
    to: Vec<Target>,
    /// The folder that the spec's own paths start from
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    project: PathBuf,
    /// Makes every layer, and compares what comes of it with what records say of it
    #[arg(long)]
    verify_layers: bool,
    /// Asks Nix what the spec means, also if there is a lock
    #[arg(long)]
    no_lock: bool,
}

/// Where an image goes, and under which tag if not the spec's.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Registry { repository: Repository, tag: Option<Tag> },
    OciLayout(PathBuf),
}

impl Target {
    /// Host and port of the registry, if it goes to one.
    fn registry(&self) -> Option<&str> {
        match self {
            Self::Registry { repository, .. } => Some(repository.registry()),
            Self::OciLayout(_) => None,
        }
    }
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(folder) = text.strip_prefix("oci:") {
            return if folder.is_empty() {
                Err("a folder follows `oci:`".to_owned())
            } else {
                Ok(Self::OciLayout(folder.into()))
            };
        }
        let text = text.strip_prefix("docker://").unwrap_or(text);
        let reference = Reference::try_from(text).map_err(|error| error.to_string())?;
        if reference.digest().is_some() {
            return Err("the digest of an image follows from what is in it: name a tag".to_owned());
        }
        let named = text.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let tag = reference.tag().filter(|_| named).map(str::parse).transpose();
        let repository = Repository::new(reference.registry(), reference.repository());
        Ok(Self::Registry {
            repository: repository.map_err(|error| error.to_string())?,
            tag: tag.map_err(|error: ReferenceError| error.to_string())?,
        })
    }
}

/// Builds the spec and puts the image wherever it shall go.
pub(super) async fn build(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    tokio::select! {
        built = build_image(arguments, driver) => built,
        asked = interrupted() => {
            asked?;
            Err(Failure::system("interrupted"))
        }
    }
}

async fn build_image(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    let project_dir = arguments.project.canonicalize().map_err(|error| {
        Failure::build(
            error,
            format!("`{}` is to be the project's folder: name one that exists", arguments.project.display()),
        )
    })?;
    let project = Folder::open(&project_dir)?;
    let bytes = project.read(&arguments.spec, ImageSpec::MAX_FILE)?;
    let spec = ImageSpec::parse(&arguments.spec, &bytes)?;

    let scratch = Scratch::new()?;
    let [roots, fetched, work] = ["roots", "fetched", "work"].map(|name| scratch.0.join(name));
    for folder in [&roots, &fetched, &work] {
        std::fs::create_dir(folder).map_err(Failure::cannot("make a scratch folder"))?;
    }
    let variable = |name: &str| Some(driver.host.get(OsStr::new(name))?.to_string_lossy().into_owned());
    let commit = Commit::of(&project_dir);
    let created = spec.created.resolve(driver.now, commit.as_ref().map(|commit| commit.time));
    let mut annotations = BTreeMap::from([("title", spec.name.clone()), ("created", created.to_string())]);
    annotations.extend(commit.map(|commit| ("revision", commit.revision)));
    let standard = |(key, value)| (format!("org.opencontainers.image.{key}"), value);
    let off =
        arguments.no_lock || variable("NIXLAYER_LOCK").is_some_and(|value| value.eq_ignore_ascii_case("off"));
    let lock = if off { None } else { read_lock(&project, &arguments.spec)? };
    let sandbox = match driver.sandbox() {
        Ok(sandbox) => Some(sandbox),
        // With a lock, only commands need one.
        Err(_) if lock.is_some() => None,
        Err(failure) => return Err(failure),
    };
    let nix = sandbox.as_ref().map(|sandbox| driver.nix(sandbox, &fetched, &work));
    let build = Build {
        spec: &spec,
        project: &project,
        lock: lock.as_ref(),
        caches: &driver.binary_caches(&spec, &project, lock.is_some())?,
        nix: nix.as_ref(),
        sandbox: sandbox.as_ref(),
        roots: &roots,
        scratch: &work,
        variable: &variable,
        annotations: annotations.into_iter().map(standard).collect(),
        created,
    };
    let show = |event: Event| say(&event.to_string());
    let prepared = build.prepare(&show).await?;
    for target in &arguments.to {
        let (destination, tags) = destination(target, &spec, driver, &variable)?;
        let from = match target {
            Target::Registry { repository, .. } => pipeline::reuse_from(&spec, repository, &variable)?,
            Target::OciLayout(_) => Vec::new(),
        };
        let reuse = driver.reuse(from, arguments.verify_layers, &say)?;
        let effort = driver.effort(target.registry());
        let published = prepared.publish(&destination, &tags, effort, &reuse, &show).await?;
        say(&Totals::of(&published.layers).to_string());
        say(&format!("digest: {}", published.digest));
    }
    Ok(())
}

fn destination(
    target: &Target,
    spec: &ImageSpec,
    driver: &Driver<'_>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(Destination, Vec<Tag>), Failure> {
    let of_spec = || pipeline::tags(spec, variable, &say).map_err(Failure::from);
    match target {
        Target::OciLayout(folder) => {
            Ok((Destination::OciLayout(Arc::new(OciLayout::open(folder.clone())?)), of_spec()?))
        }
        Target::Registry { repository, tag } => {
            let credentials = credentials::for_registry(repository.registry(), driver.host)?;
            let (host, token_host) = match repository.registry() {
                // The name in references to Docker's own registry is not where it answers.
                "docker.io" => ("registry-1.docker.io", Some("auth.docker.io")),
                host => (host, None),
            };
            let registry = Arc::new(driver.registry(host, credentials, token_host)?);
            let tags = match tag {
                Some(tag) => vec![tag.clone()],
                None => of_spec()?,
            };
            Ok((Destination::Registry { registry, repository: repository.clone() }, tags))
        }
    }
}

/// The commit that a project's folder is at.
struct Commit {
    time: Timestamp,
    revision: String,
}

impl Commit {
    /// Nothing where there is no Git repository.
    fn of(project: &Path) -> Option<Self> {
        // Settings of a repository may name programs to check signatures with.
        let output = Command::new("git")
            .args(["-c", "log.showSignature=false", "-C"])
            .arg(project)
            .args(["log", "-1", "--no-show-signature", "--format=%cI %H"])
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (time, revision) = text.trim().split_once(' ')?;
        Some(Self { time: time.parse().ok()?, revision: revision.to_owned() })
    }
}

fn say(line: &str) {
    // Whoever closed standard output does not want to know.
    let _ = writeln!(io::stdout(), "{line}");
}
