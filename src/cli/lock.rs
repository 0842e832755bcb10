//! `nixlayer lock`: writes the lock of a spec, or says whether it is current.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::{Scratch, interrupted};
use crate::failure::Failure;
use crate::folder::Folder;
use crate::lock::{self, Lock, LockedSystem};
use crate::nix::System;
use crate::pipeline::{Event, Locking, Size, Update, read_lock, resolve};
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
    tokio::select! {
        locked = write_or_check(arguments, driver) => locked,
        asked = interrupted() => {
            asked?;
            Err(Failure::system("interrupted"))
        }
    }
}

async fn write_or_check(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    let project_dir = arguments.project.canonicalize().map_err(|error| {
        let name = arguments.project.display();
        Failure::build(error, format!("`{name}` is to be the project's folder: name one that exists"))
    })?;
    let project = Folder::open(&project_dir)?;
    let spec = ImageSpec::parse(&arguments.spec, &project.read(&arguments.spec, ImageSpec::MAX_FILE)?)?;
    let file = lock::file_name(&arguments.spec);
    // A lock that cannot be read any more is written anew.
    let earlier = match read_lock(&project, &arguments.spec) {
        Ok(earlier) => earlier,
        Err(error) if arguments.check => return Err(error.into()),
        Err(error) => {
            say(&format!("`{file}` is written anew: {error}"));
            None
        }
    };
    if arguments.check {
        match &earlier {
            Some(earlier) => drop(resolve(&spec, &project, earlier)?),
            None => return Err(not_current(&file, "there is none", &arguments.spec)),
        }
    }
    let scratch = Scratch::new()?;
    let [roots, fetched, work] = ["roots", "fetched", "work"].map(|name| scratch.0.join(name));
    for folder in [&roots, &fetched, &work] {
        std::fs::create_dir(folder).map_err(Failure::cannot("make a scratch folder"))?;
    }
    let nix = driver.nix(&driver.sandbox()?, &fetched, &work);
    if arguments.check && !nix.is_installed() {
        say(&format!(
            "`{file}` is that of `{}`; whether packages have changed, only Nix could tell",
            arguments.spec
        ));
        return Ok(());
    }
    let lock = Locking {
        spec: &spec,
        project: &project,
        nix: &nix,
        caches: &*driver.binary_caches(&spec, &project)?,
        roots: &roots,
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
    changes.iter().for_each(|line| say(line));
    if earlier.as_ref() == Some(&lock) {
        say(&format!("`{file}` is current"));
        return Ok(());
    }
    if arguments.check {
        let change = changes.first().map_or("the package set is another one", String::as_str);
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

fn say(line: &str) {
    // Whoever closed standard output does not want to know.
    let _ = writeln!(io::stdout(), "{line}");
}
