//! Which files of a folder Git tracks.
//!
//! Git itself says it, as it does to Nix' own commands. It runs in a sandbox that shows it the checkout and programs, since
//! the settings of a repository can name programs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{Nix, NixError, SILENT};
use crate::sandbox::View;

/// How far above a folder its checkout is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Checkouts {
    /// Up to the project's folder: what lies above that of a job is not the job's.
    #[default]
    OfProject,
    /// As far as there are folders, but neither in these nor above them, as `GIT_CEILING_DIRECTORIES` has it.
    Below(Vec<PathBuf>),
}

/// What Git knows of a folder.
#[derive(Debug, Default)]
pub(super) struct Tracked {
    /// The files in its index, whether they are there or not.
    pub(super) files: BTreeSet<Vec<u8>>,
    /// The files that it neither tracks nor ignores.
    pub(super) others: BTreeSet<Vec<u8>>,
}

impl Checkouts {
    /// The top of the checkout that `folder` of `project` belongs to.
    fn find(&self, folder: &Path, project: &Path) -> Option<PathBuf> {
        let is_top = |folder: &&Path| folder.join(".git").symlink_metadata().is_ok();
        let ends = |folder: &Path| match self {
            Self::OfProject => !folder.starts_with(project),
            Self::Below(ceilings) => ceilings.iter().any(|ceiling| folder == ceiling),
        };
        // The folder itself is always looked at.
        let above = folder.ancestors().skip(1).take_while(|above| !ends(above));
        std::iter::once(folder).chain(above).find(is_top).map(Path::to_owned)
    }
}

impl Nix {
    /// What Git knows of `folder`; nothing where there is no checkout.
    pub(super) async fn tracked(&self, folder: &Path, project: &Path) -> Result<Option<Tracked>, NixError> {
        let checkouts = &self.settings.checkouts;
        let Some(top) = checkouts.find(folder, project) else { return Ok(None) };
        let path = self.settings.environment.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let git = std::env::split_paths(&path).map(|folder| folder.join("git")).find(|git| git.is_file());
        let Some(git) = git else {
            return Err(NixError::NoGit { checkout: top, path: path.to_string_lossy().into_owned() });
        };
        let mut shown = vec![project.to_owned(), top.clone()];
        if matches!(checkouts, Checkouts::Below(_)) {
            shown.extend(git_folders(&top));
        }
        let view = View { read_only: shown, ..View::of_programs(environment(path), folder.to_owned()) };
        // Both are said, or the repository's settings would say where its files are.
        let (git_dir, top) =
            (top.join(".git").to_string_lossy().into_owned(), top.to_string_lossy().into_owned());
        let list = async |which: &[&str]| {
            let settings = ["-c", "core.fsmonitor=false", "-c", "safe.directory=*"];
            let place = ["--git-dir", &git_dir, "--work-tree", &top];
            let arguments = [&settings[..], &place, &["ls-files", "-z"], which].concat();
            let listed = self.output(&git, &arguments, &view, SILENT).await?;
            let names = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            Ok(names.map(<[u8]>::to_vec).collect::<BTreeSet<_>>())
        };
        let files = list(&["--cached"]).await.map_err(|error| match error {
            NixError::Refused { said } => NixError::Git { checkout: top.clone().into(), said },
            error => error,
        })?;
        // These are only told of.
        let others = list(&["--others", "--exclude-standard"]).await.unwrap_or_default();
        Ok(Some(Tracked { files, others }))
    }
}

/// Nothing of ours but where programs are, and no settings of the machine's.
fn environment(path: OsString) -> BTreeMap<OsString, OsString> {
    BTreeMap::from([
        ("PATH".into(), path),
        ("HOME".into(), "/homeless-shelter".into()),
        ("LC_ALL".into(), "C.UTF-8".into()),
        ("GIT_CONFIG_NOSYSTEM".into(), "1".into()),
        ("GIT_NO_LAZY_FETCH".into(), "1".into()),
    ])
}

/// Where the repository of a worktree or submodule is (gitrepository-layout(5), "gitdir" and "commondir").
fn git_folders(top: &Path) -> Vec<PathBuf> {
    let named = |file: &Path, prefix: &str| -> Option<PathBuf> {
        // They are short, and nothing is waited for.
        let mut text = String::new();
        let opened = if file.is_file() { File::open(file).ok()? } else { return None };
        opened.take(8192).read_to_string(&mut text).ok()?;
        file.parent()?.join(text.strip_prefix(prefix)?.trim_end_matches('\n')).canonicalize().ok()
    };
    let git = top.join(".git");
    let Some(folder) = named(&git, "gitdir: ").or_else(|| git.canonicalize().ok()) else { return Vec::new() };
    let common = named(&folder.join("commondir"), "");
    std::iter::once(folder).chain(common).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_checkout_is_looked_for_as_far_up_as_may_be() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |below: &str| temporary.path().join(below);
        fs::create_dir_all(at("top/project/sub/flake")).unwrap();
        fs::create_dir(at("top/.git")).unwrap();
        let find = |checkouts: Checkouts| checkouts.find(&at("top/project/sub/flake"), &at("top/project"));

        assert_eq!(find(Checkouts::OfProject), None);
        assert_eq!(find(Checkouts::Below(vec![])), Some(at("top")));
        assert_eq!(find(Checkouts::Below(vec![temporary.path().into()])), Some(at("top")));
        assert_eq!(find(Checkouts::Below(vec![at("top")])), None);

        // That of a submodule is a file.
        fs::write(at("top/project/sub/.git"), "gitdir: ../../.git/modules/sub\n").unwrap();
        fs::create_dir_all(at("top/.git/modules/sub")).unwrap();
        for checkouts in [Checkouts::OfProject, Checkouts::Below(vec![])] {
            assert_eq!(find(checkouts), Some(at("top/project/sub")));
        }
        let folder = at("top/.git/modules/sub").canonicalize().unwrap();
        assert_eq!(git_folders(&at("top/project/sub")), [folder]);
    }
}
