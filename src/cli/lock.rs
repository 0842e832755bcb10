//! `nixlayer lock`: writes the lock of a spec, or says whether it is current.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::spec_place::spec_file;
use super::workplace::Workplace;
use super::{say, until_interrupted};
use crate::failure::Failure;
use crate::lock::{self, Lock, LockError, LockedSystem};
use crate::nix::System;
use crate::pipeline::{Event, LockFileError, Locking, Size, Update, read_lock, resolve};
use crate::sandbox::Sandbox;
use crate::spec::ImageSpec;
use crate::stage::Driver;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The spec, beneath the project's folder
    #[arg(default_value = "image.yaml")]
    spec: String,
    /// The folder that the spec's own paths start from
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    project: PathBuf,
    /// Writes nothing, and fails if there is something to write
    #[arg(long, conflicts_with = "update")]
    check: bool,
    /// Looks packages up anew, though the lock has them: those of these names, or all
    #[arg(long, value_name = "NAME", num_args = 0..)]
    update: Option<Vec<String>>,
    /// A system that the lock shall hold, such as `aarch64-linux`; may be given several times
    /// [default: those that it holds, and the spec's]
    #[arg(long, value_name = "SYSTEM")]
    system: Vec<System>,
}

pub(super) async fn lock(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    until_interrupted(write_or_check(arguments, driver)).await
}

async fn write_or_check(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    let place = Workplace::open(&arguments.project, driver)?;
    let project = &place.project;
    let spec_file = spec_file(&arguments.spec)?;
    let spec = ImageSpec::parse(&spec_file, &project.read(&spec_file, ImageSpec::MAX_FILE)?)?;
    let file = lock::file_name(&arguments.spec);
    let earlier = match read_lock(project, &arguments.spec) {
        Ok(earlier) => earlier,
        // One that a merge has broken is written anew, unless it is to be kept in part.
        Err(LockFileError::Lock(
            error @ (LockError::Json { .. } | LockError::Closure { .. } | LockError::Undescribed { .. }),
        )) if !arguments.check && !matches!(&arguments.update, Some(names) if !names.is_empty()) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            say(&format!("{error}{}; it is written anew", cause.unwrap_or_default()));
            None
        }
        Err(error) => return Err(error.into()),
    };
    if arguments.check {
        match &earlier {
            Some(earlier) => drop(resolve(&spec, project, earlier)?),
            None => return Err(not_current(&file, "there is none", &arguments.spec)),
        }
    }
    // Without a sandbox, Nix is not run either; here it is only looked for.
    let sandbox = driver.sandbox();
    let nix = place.nix(sandbox.as_ref().unwrap_or(&Sandbox::None));
    if !nix.is_installed() {
        if !arguments.check {
            return Err(Failure::build(
                "there is no Nix on this machine, which alone knows what the spec means",
                "run `nixlayer lock` where Nix is, or say in `nix.programs` of the configuration where it is",
            ));
        }
        say(&format!(
            "`{file}` is that of `{}`; whether packages have changed, only Nix could tell",
            arguments.spec
        ));
        return Ok(());
    }
    sandbox?;
    let lock = Locking {
        spec: &spec,
        project,
        nix: &nix,
        caches: &*driver.binary_caches(&spec, project, true)?,
        roots: &place.roots,
        earlier: earlier.as_ref(),
        update: match &arguments.update {
            None => Update::Nothing,
            Some(names) if names.is_empty() => Update::Everything,
            Some(names) => Update::Names(names.iter().cloned().collect()),
        },
        systems: systems(arguments, &spec, earlier.as_ref()),
    };
    let lock = lock.lock(&|event: Event| say(&event.to_string())).await?;
    let empty = LockedSystem::default();
    let mut changes = Vec::new();
    for (system, now) in &lock.systems {
        let before = earlier.as_ref().and_then(|earlier| earlier.systems.get(system)).unwrap_or(&empty);
        changes.extend(differences(*system, before, now));
    }
    for (system, before) in earlier.iter().flat_map(|earlier| &earlier.systems) {
        // Who checks one system does not ask for the others.
        if !lock.systems.contains_key(system) && !arguments.check {
            changes.push(format!("{system} is left out, with {} names", before.packages.len()));
        }
    }
    changes.iter().for_each(|line| say(line));
    let same = earlier.as_ref().is_some_and(|earlier| {
        let mut asked = earlier.clone();
        if arguments.check {
            asked.systems.retain(|system, _| lock.systems.contains_key(system));
        }
        asked == lock
    });
    if same {
        say(&format!("`{file}` is current"));
        return Ok(());
    }
    if arguments.check {
        let change = changes
            .first()
            .map_or("what it says of the package set or of store paths differs", String::as_str);
        return Err(not_current(&file, change, &arguments.spec));
    }
    project.write(&file, lock.to_json().as_bytes())?;
    for (system, locked) in &lock.systems {
        let (paths, size) = (locked.closure.len(), Size(locked.closure.nar_size()));
        say(&format!("{system}: {} names, {paths} store paths, {size} unpacked", locked.packages.len()));
    }
    say(&format!("`{file}` is written: commit it beside `{}`", arguments.spec));
    Ok(())
}

/// Those that were asked for, else those that the lock holds and the spec's own.
fn systems(arguments: &Arguments, spec: &ImageSpec, earlier: Option<&Lock>) -> BTreeSet<System> {
    if !arguments.system.is_empty() {
        return arguments.system.iter().copied().collect();
    }
    let held = earlier.into_iter().flat_map(|earlier| earlier.systems.keys().copied());
    held.chain([spec.system.unwrap_or(System::HOST)]).collect()
}

/// What is named otherwise than before, a line each.
fn differences(system: System, before: &LockedSystem, now: &LockedSystem) -> Vec<String> {
    let names: BTreeSet<&String> = before.packages.keys().chain(now.packages.keys()).collect();
    let path =
        |locked: &LockedSystem, name: &String| Some(locked.packages.get(name)?.path.base_name().to_owned());
    let changes = names.into_iter().filter_map(|name| match (path(before, name), path(now, name)) {
        (Some(before), Some(now)) if before == now => None,
        (Some(before), Some(now)) => Some(format!("{system}: {name} was {before}, is {now}")),
        (None, Some(now)) => Some(format!("{system}: {name} is {now}")),
        (Some(before), None) => Some(format!("{system}: {name} was {before}, is gone")),
        (None, None) => None,
    });
    changes.collect()
}

fn not_current(file: &str, why: &str, spec: &str) -> Failure {
    Failure::build(
        format!("`{file}` is not current: {why}"),
        format!("run `nixlayer lock {spec}`, and commit the file that it writes"),
    )
}
