//! What a command is asked to make an image of; and where that is none of the project's, what was meant.

use std::path::{Component, Path};

use super::push;
use super::spec_place::DefinitionOptions;
use crate::failure::Failure;
use crate::spec::{Definition, DefinitionError};

/// Reads what stands for an image. What is an image already, or lies elsewhere, is told how to name it.
pub(super) fn read(text: &str, options: &DefinitionOptions) -> Result<Definition, Failure> {
    let at = options.project.join(text);
    if is_finished(&at) {
        let shown = shown(text, options);
        let error = format!("`{text}` is an image that is finished, or a program that writes one");
        return Err(Failure::build(error, format!("push it: `nixlayer push {shown} DEST`")));
    }
    let read = text.parse().map_err(|error: DefinitionError| Failure::from(error));
    match (read, elsewhere(text, options)) {
        (read, None) => read,
        (Err(failure), Some(fix)) => Err(failure.fix(fix)),
        (Ok(_), Some(fix)) => {
            Err(Failure::build(format!("`{text}` is not beneath the project's folder"), fix))
        }
    }
}

/// Whether there is what `nixlayer push` takes, and no definition of an image.
fn is_finished(path: &Path) -> bool {
    let has = |file: &str| path.join(file).exists();
    // Nix code may begin as scripts do.
    let is_definition =
        path.extension().is_some_and(|ending| ["nix", "yaml", "yml"].map(AsRef::as_ref).contains(&ending));
    match path.is_dir() {
        true => has("oci-layout") && !has("default.nix") && !has("flake.nix"),
        false => !is_definition && push::takes_file(path),
    }
}

/// How to name what lies beneath another folder than the project's.
fn elsewhere(text: &str, options: &DefinitionOptions) -> Option<String> {
    let (path, attribute) = text.find('#').map_or((text, ""), |at| text.split_at(at));
    let first = Path::new(path).components().next()?;
    matches!(first, Component::RootDir | Component::ParentDir).then(|| {
        let at = shown(path, options);
        let (folder, name) = match (Path::new(&at).parent(), Path::new(&at).file_name()) {
            (Some(folder), Some(name)) if !Path::new(&at).is_dir() => (folder, name.to_string_lossy()),
            _ => (Path::new(&at), ".".into()),
        };
        format!("name its folder as the project's: `{name}{attribute} --project {}`", folder.display())
    })
}

/// The path as it is from where the command runs.
fn shown(path: &str, options: &DefinitionOptions) -> String {
    let here = options.project == Path::new(".");
    if here { path.to_owned() } else { options.project.join(path).display().to_string() }
}
