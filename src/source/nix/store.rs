//! What the host's store has, and having it get more.

use std::collections::BTreeSet;
use std::path::Path;

use super::command::PATHS_PER_CALL;
use super::evaluation::FORGED;
use super::{Evaluated, Nix, NixError, Progress, SILENT};
use crate::nix::{Closure, PathInfo, StorePath, dump_db};

impl Nix {
    /// Builds or downloads what was evaluated.
    ///
    /// `roots` is a folder for garbage collector roots: while it exists, nothing of it is collected.
    pub async fn realise(
        &self,
        evaluated: &Evaluated,
        roots: &Path,
        progress: Progress<'_>,
    ) -> Result<(), NixError> {
        let installables: Vec<String> = evaluated.installables.iter().cloned().collect();
        let realised = self.realise_installables(&installables, roots, "realised", progress).await?;
        match evaluated.paths.iter().position(|path| !realised.contains(path)) {
            Some(index) => Err(NixError::NoPackage {
                index,
                name: evaluated.names.get(index).cloned().unwrap_or_default(),
                kind: FORGED.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// The paths that `roots` need at run time, with what the store knows of each.
    pub async fn closure(&self, roots: &[StorePath]) -> Result<Closure, NixError> {
        let view = self.view(&[], &[]);
        let roots: Vec<String> = roots.iter().map(StorePath::to_string).collect();
        let requisites =
            self.run_on("nix-store", &["--query", "--requisites"], &roots, &view, SILENT).await?;
        let mut requisites: Vec<String> = requisites.lines().map(str::to_owned).collect();
        requisites.sort();
        requisites.dedup();
        Closure::new(self.infos(&requisites).await?)
            .map_err(|source| NixError::Answer { source: Box::new(source) })
    }

    /// What the store knows of those of `paths` that it has.
    pub async fn known(&self, paths: &[StorePath]) -> Result<Vec<PathInfo>, NixError> {
        let view = self.view(&[], &[]);
        let paths: Vec<String> = paths.iter().map(StorePath::to_string).collect();
        // A store that has them all answers at once; one that lacks any only fails.
        if let Ok(infos) = self.infos(&paths).await {
            return Ok(infos);
        }
        let arguments = ["--check-validity", "--print-invalid"];
        let invalid = self.run_on("nix-store", &arguments, &paths, &view, SILENT).await?;
        let invalid: BTreeSet<&str> = invalid.lines().collect();
        let valid: Vec<String> =
            paths.iter().filter(|path| !invalid.contains(path.as_str())).cloned().collect();
        self.infos(&valid).await
    }

    /// Keeps `paths`, which the store has, from being collected while the folder `roots` exists.
    pub async fn hold(&self, paths: &[StorePath], roots: &Path) -> Result<(), NixError> {
        let paths: Vec<String> = paths.iter().map(StorePath::to_string).collect();
        self.realise_installables(&paths, roots, "held", SILENT).await.map(drop)
    }

    async fn infos(&self, paths: &[String]) -> Result<Vec<PathInfo>, NixError> {
        let dump = self.run_on("nix-store", &["--dump-db"], paths, &self.view(&[], &[]), SILENT).await?;
        dump_db::parse(&dump).map_err(|source| NixError::Answer { source: Box::new(source) })
    }

    /// Builds or downloads; gives what there is now, all of it held by a root of its own.
    pub(super) async fn realise_installables(
        &self,
        installables: &[String],
        roots: &Path,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<BTreeSet<StorePath>, NixError> {
        let view = self.view(&[], &[roots]);
        let mut realised = BTreeSet::new();
        for (number, installables) in installables.chunks(PATHS_PER_CALL).enumerate() {
            let root = roots.join(format!("{name}-{number}"));
            let root = root.to_string_lossy();
            let mut arguments = vec!["--realise", "--add-root", &root, "--indirect"];
            arguments.extend(installables.iter().map(String::as_str));
            let links = self.run("nix-store", &arguments, &view, progress).await?;
            for link in links.lines() {
                let path = std::fs::read_link(link).unwrap_or_else(|_| link.into());
                realised.extend(path.to_string_lossy().parse::<StorePath>());
            }
        }
        Ok(realised)
    }
}
