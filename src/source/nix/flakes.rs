//! The flakes that lie in folders of the project, and what each is made of.
//!
//! In a Git checkout it is what Git tracks, with the contents that the files have now, as Nix has it: the store is for
//! everybody to read, and files that Git ignores hold secrets. Anywhere else it is all that is in the folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::checkout::Tracked;
use super::expression::quoted;
use super::{Nix, NixError, Progress, Said};
use crate::folder::Folder;
use crate::nix::STORE_DIR;
use crate::oci::Digest;
use crate::sandbox::Sandbox;
use crate::spec::ProjectPath;

/// Flakes of the project by their folders.
#[derive(Debug, Default)]
pub(super) struct Flakes(BTreeMap<String, Source>);

#[derive(Debug)]
struct Source {
    folder: PathBuf,
    /// Nothing where the folder is in no checkout.
    tracked: Option<Tracked>,
}

impl Nix {
    /// Finds out what the flakes in `folders` are made of, and says where that is not all.
    pub(super) async fn flakes(
        &self,
        folders: impl Iterator<Item = &ProjectPath>,
        project: &Folder,
        progress: Progress<'_>,
    ) -> Result<Flakes, NixError> {
        let mut flakes = Flakes::default();
        let top = self.place_of(project);
        for name in folders.map(ProjectPath::as_str) {
            if flakes.0.contains_key(name) {
                continue;
            }
            // Some versions of Nix follow links on the way to the folder, and others show them to a filter.
            let below = if name == "." { None } else { project.dir().canonicalize(name).ok() };
            let folder: PathBuf =
                top.join(below.as_deref().unwrap_or(Path::new(name))).components().collect();
            let tracked = self.tracked(&folder, &top).await?;
            if let Some(tracked) = &tracked {
                if !tracked.files.contains(&b"flake.nix"[..]) {
                    return Err(tracked.lacks(name, "flake.nix", None));
                }
                if let Some(note) = tracked.note(name) {
                    progress(&note);
                }
            }
            flakes.0.insert(name.to_owned(), Source { folder, tracked });
        }
        Ok(flakes)
    }

    /// Where evaluation finds the project, with no link on the way.
    fn place_of(&self, project: &Folder) -> PathBuf {
        match self.sandbox {
            // It shows the project at the path by which we know it.
            Sandbox::Bubblewrap(_) => project.path().to_owned(),
            Sandbox::None => project.path().canonicalize().unwrap_or(project.path().to_owned()),
        }
    }
}

impl Flakes {
    /// A set of the flakes' outputs, by their folders.
    pub(super) fn expression(&self) -> String {
        let flakes = self
            .0
            .iter()
            .map(|(name, source)| format!("{} = builtins.getFlake ({});", quoted(name), source.expression()));
        format!("{{ {} }}", flakes.collect::<Vec<_>>().join("\n"))
    }

    /// The same error; or that a file is not tracked, if it is of that one and the file is there.
    pub(super) fn explain(&self, error: NixError, project: &Folder) -> NixError {
        let NixError::Refused { said } = &error else { return error };
        let named =
            said.error.split('\'').filter_map(|text| text.strip_prefix(STORE_DIR)?.split_once("-source/"));
        for (_, file) in named {
            for (name, Source { tracked, .. }) in &self.0 {
                let is_there = || project.dir().symlink_metadata(Path::new(name).join(file)).is_ok();
                match tracked {
                    Some(tracked) if !tracked.has(file) && is_there() => {
                        return tracked.lacks(name, file, Some(said.clone()));
                    }
                    Some(_) | None => {}
                }
            }
        }
        error
    }
}

impl Source {
    /// The reference to a copy in the store. A clone's settings hold the job's token, so these are never in it.
    fn expression(&self) -> String {
        let folder = quoted(&self.folder.to_string_lossy());
        let filter = match &self.tracked {
            None => r#"path: _: baseNameOf path != ".git""#.to_owned(),
            // By the hashes of their names, which may have any bytes.
            Some(tracked) => format!(
                r#"let
    start = builtins.stringLength (toString root) + 1;
    files = {{ {} }};
    folders = {{ {} }};
  in path: type: baseNameOf path != ".git" && (if type == "directory" then folders else files)
    ? ${{builtins.hashString "sha256" (builtins.substring start (builtins.stringLength path) path)}}"#,
                hashes(tracked.files.iter().map(Vec::as_slice)),
                hashes(tracked.folders().into_iter())
            ),
        };
        format!(
            r#""path:" + builtins.unsafeDiscardStringContext (let root = /. + {folder}; in builtins.path {{
  name = "source";
  path = root;
  filter = {filter};
}})"#
        )
    }
}

fn hashes<'a>(names: impl Iterator<Item = &'a [u8]>) -> String {
    names.map(|name| format!("\"{}\" = 0; ", Digest::of(name).hex())).collect()
}

impl Tracked {
    /// The folders that the files are in.
    fn folders(&self) -> BTreeSet<&[u8]> {
        let mut folders = BTreeSet::new();
        for file in &self.files {
            let ends = file.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            folders.extend(ends.map(|(end, _)| &file[..end]));
        }
        folders
    }

    /// Whether a file or folder is there for Nix.
    fn has(&self, file: &str) -> bool {
        self.files.contains(file.as_bytes()) || self.folders().contains(file.as_bytes())
    }

    fn lacks(&self, folder: &str, file: &str, said: Option<Said>) -> NixError {
        let ignored = !self.others.contains(file.as_bytes());
        let file = Path::new(folder).join(file);
        let file = file.strip_prefix(".").unwrap_or(&file).display().to_string();
        NixError::Untracked { file, ignored, said }
    }

    /// A line on the files that nobody meant to leave out.
    fn note(&self, folder: &str) -> Option<String> {
        let first = String::from_utf8_lossy(self.others.first()?).escape_debug().to_string();
        Some(match self.others.len() {
            1 => format!("the flake `{folder}` is without 1 file that Git does not track, `{first}`"),
            number => format!(
                "the flake `{folder}` is without {number} files that Git does not track, such as `{first}`"
            ),
        })
    }
}
