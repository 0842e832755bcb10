//! From the names in a spec to store paths, without building any.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::NamedTempFile;

use super::derivations::evaluated;
use super::expression::{near_names, packages_expression, roots_expression};
use super::{Nix, NixError, Progress, SILENT, Scope};
use crate::nix::StorePath;
use crate::sandbox::View;
use crate::spec::{AttrPath, Content, Flake, is_for_expressions};

/// What an attribute set is that calls itself a derivation and is none.
pub(super) const FORGED: &str = "set that looks like a derivation without being one";

/// What evaluation says of the things that were wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluated {
    /// Where each will lie in the store, in the order in which they were named.
    pub paths: Vec<StorePath>,
    /// What they were called.
    pub(super) names: Vec<String>,
    /// What `nix-store --realise` takes to have them there.
    pub(super) installables: BTreeSet<String>,
    /// Where the package set lies.
    pub set: String,
    /// The revision that the package set says it has.
    pub revision: Option<String>,
}

/// An expression, and what it sees of the job.
#[derive(Clone, Copy)]
pub(super) struct Evaluation<'a> {
    /// Evaluates to a derivation.
    pub(super) expression: &'a str,
    /// Whether it names flakes.
    pub(super) needs_flakes: bool,
    /// Folders, beside those of the host that everybody sees.
    pub(super) shown: &'a [&'a Path],
    /// What `builtins.getEnv` gives, of what may be seen.
    pub(super) variables: Option<&'a BTreeMap<String, String>>,
}

/// What evaluation says of one wanted thing; see `roots_expression`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Described {
    Derivation {
        path: String,
        drv: String,
        output: String,
    },
    Path {
        path: String,
    },
    Missing {
        #[serde(rename = "missing")]
        _missing: bool,
    },
    Other {
        other: String,
    },
}

impl Nix {
    /// Finds the store paths of `wanted`, which need not exist yet.
    ///
    /// `roots` is a folder for garbage collector roots: while it exists, no derivation that was evaluated
    /// is collected.
    pub async fn evaluate(
        &self,
        wanted: &[Content],
        scope: &Scope<'_>,
        roots: &Path,
        progress: Progress<'_>,
    ) -> Result<Evaluated, NixError> {
        let (described, set, revision) = self.describe(wanted, scope, roots, progress).await?;
        let mut paths = Vec::new();
        let mut installables = BTreeSet::new();
        for (index, (described, content)) in described.into_iter().zip(wanted).enumerate() {
            let no_package =
                |kind: &str| NixError::NoPackage { index, name: content.to_string(), kind: kind.to_owned() };
            let path = match described {
                Described::Derivation { path, drv, output } => {
                    installables.insert(installable(&drv, &output).ok_or_else(|| no_package(FORGED))?);
                    path
                }
                Described::Path { path } => {
                    let path: StorePath =
                        path.parse().map_err(|_| no_package("path outside of the store"))?;
                    installables.insert(path.to_string());
                    path.to_string()
                }
                Described::Missing { .. } => {
                    let near = self.near(content, scope).await;
                    return Err(NixError::Unknown { index, name: content.to_string(), near });
                }
                Described::Other { other } => return Err(no_package(&other)),
            };
            paths.push(path.parse::<StorePath>().map_err(|_| no_package(FORGED))?);
        }
        let names = wanted.iter().map(Content::to_string).collect();
        Ok(Evaluated { paths, names, installables, set, revision })
    }

    /// What the expression says, where the package set lies, and its revision.
    async fn describe(
        &self,
        wanted: &[Content],
        scope: &Scope<'_>,
        roots: &Path,
        progress: Progress<'_>,
    ) -> Result<(Vec<Described>, String, Option<String>), NixError> {
        let folders = wanted.iter().filter_map(|content| match content {
            Content::FlakeOutput { flake: Flake::Folder(folder), .. } => Some(folder),
            Content::FlakeOutput { .. } | Content::Package(_) | Content::StorePath(_) => None,
        });
        let flakes = self.flakes(folders, scope.project, progress).await?;
        let evaluation = Evaluation {
            expression: &roots_expression(wanted, scope, &flakes),
            needs_flakes: wanted.iter().any(|content| matches!(content, Content::FlakeOutput { .. })),
            shown: &[scope.project.path()],
            variables: None,
        };
        let root = self.instantiate(&evaluation, roots, progress).await;
        let root = root.map_err(|error| flakes.explain(error, scope.project))?;
        let evaluated = evaluated(&root)?;
        let revision = Some(evaluated.text("revision").trim().to_owned()).filter(|text| !text.is_empty());
        Ok((evaluated.answer("roots")?, evaluated.text("set").trim().to_owned(), revision))
    }

    /// Evaluates an expression to a derivation, and gives the garbage collector root that keeps it and all that it
    /// names.
    pub(super) async fn instantiate(
        &self,
        evaluation: &Evaluation<'_>,
        roots: &Path,
        progress: Progress<'_>,
    ) -> Result<PathBuf, NixError> {
        let view = self.view_of_evaluation(evaluation.shown, &[roots], evaluation.variables);
        let root = roots.join("evaluated");
        let file = written(evaluation.expression, roots)?;
        let (root_text, file) = (root.to_string_lossy(), file.path().to_string_lossy());
        let mut arguments = vec!["--show-trace", "--add-root", &root_text, "--indirect", &file];
        if evaluation.needs_flakes {
            arguments.extend(["--extra-experimental-features", "flakes nix-command"]);
        }
        self.run("nix-instantiate", &arguments, &view, progress).await?;
        Ok(root)
    }

    /// What an expression sees.
    pub(super) fn view_of_evaluation(
        &self,
        shown: &[&Path],
        writable: &[&Path],
        variables: Option<&BTreeMap<String, String>>,
    ) -> View {
        let mut view = self.view(shown, writable);
        for (name, value) in variables.into_iter().flatten().filter(|(name, _)| is_for_expressions(name)) {
            view.environment.insert(name.into(), value.into());
        }
        view
    }

    /// Names like the unknown one, for the error; none where Nix cannot tell.
    async fn near(&self, content: &Content, scope: &Scope<'_>) -> Vec<String> {
        let Content::Package(attr_path) = content else { return Vec::new() };
        match self.names_beside(attr_path, scope).await {
            Ok(names) => near_names(attr_path, &names),
            Err(_) => Vec::new(),
        }
    }

    async fn names_beside(&self, attr_path: &AttrPath, scope: &Scope<'_>) -> Result<Vec<String>, NixError> {
        let view = self.view(&[scope.project.path()], &[]);
        let expression = packages_expression(attr_path, scope);
        let names = self
            .run("nix-instantiate", &["--eval", "--strict", "--json", "--expr", &expression], &view, SILENT)
            .await?;
        serde_json::from_str(&names).map_err(|source| NixError::Answer { source: Box::new(source) })
    }
}

/// The expression as a file, since one argument holds 128 KiB at most; a new one, since builders may leave links there.
pub(super) fn written(expression: &str, roots: &Path) -> Result<NamedTempFile, NixError> {
    let file = tempfile::Builder::new().suffix(".nix").tempfile_in(roots);
    let file = file.and_then(|mut file| file.write_all(expression.as_bytes()).map(|()| file));
    file.map_err(|source| NixError::Folder { folder: roots.to_owned(), source })
}

/// `DRV!OUTPUT`, as `nix-store --realise` takes it. An expression says what `drv` and `output` are, so
/// neither becomes an argument before it is known to be what it claims.
pub(super) fn installable(drv: &str, output: &str) -> Option<String> {
    let drv: StorePath = drv.parse().ok()?;
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    let good = drv.name().ends_with(".drv") && !output.is_empty() && output.chars().all(plain);
    good.then(|| format!("{drv}!{output}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_output_of_a_derivation_becomes_an_argument() {
        let drv = "/nix/store/00000000000000000000000000000000-a.drv";

        assert_eq!(installable(drv, "out"), Some(format!("{drv}!out")));
        for (drv, output) in [
            ("--option", "out"),
            ("/etc/passwd", "out"),
            (drv, ""),
            (drv, "out --add-root /x"),
            (&drv[..40], "out"),
        ] {
            assert_eq!(installable(drv, output), None, "{drv} {output}");
        }
    }
}
