//! Finds the images that an expression of a project means, and what kind each is of, without building any.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::archive_command::only_compresses;
use super::derivations::{derivation, evaluated};
use super::evaluation::{Evaluation, FORGED, installable, written};
use super::expression::near;
use super::image_expression::{DEEPEST, MOST_VALUES, image_expression, passed_expression};
use super::{Nix, NixError, Progress, SILENT};
use crate::folder::Folder;
use crate::nix::{Derivation, StorePath, System};
use crate::spec::{AttrPath, Flake, Installable};

/// An image that an expression means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageValue {
    /// The way to it in a set or list of images; empty for the only one.
    pub place: Vec<String>,
    /// What it is called in a registry (`imageName`), if it says so.
    pub image_name: Option<String>,
    /// Its tag (`imageTag`), if it says so.
    pub image_tag: Option<String>,
    /// What is to be built for it.
    pub derivation: ImageDerivation,
}

/// An output of a derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageDerivation {
    /// The derivation.
    pub drv: StorePath,
    /// What `nix-store --realise` takes.
    installable: String,
}

/// What an expression has of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundImages {
    /// Those that it means.
    pub images: Vec<ImageValue>,
    /// Sets in it that it does not mean, though they have derivations, as one would name them.
    pub passed: Vec<String>,
}

impl ImageValue {
    /// Follows the derivation of a layered image of `dockerTools` to what it is made from: `NAME.tar.gz` is made by
    /// `stream-NAME` and nothing but compressed, and that is made from `NAME-conf.json` and a script. None of anything
    /// else, whatever it may use.
    pub fn stream(&self) -> Option<Stream> {
        let name = self.derivation.name();
        // One that cannot be read is built, as anything else.
        let derivation = derivation(&self.derivation.drv).ok()?;
        let of_archive = archive_of(name)
            .and_then(|base| Some((base, archived(&derivation, &format!("stream-{base}.drv"))?)));
        // Images may be called `stream-NAME`, and streams like archives.
        let of_stream = || Some((name.strip_prefix("stream-")?, derivation));
        let (base, stream) = of_archive.or_else(of_stream)?;
        let conf = input(&stream, &format!("{base}-conf.json.drv"))?;
        let script = input(&stream, "stream.drv").and_then(|script| self::derivation(script).ok());
        let script =
            script.and_then(|it| it.sources.into_iter().find(|source| source.name().ends_with(".py")));
        let conf = ImageDerivation { installable: format!("{conf}!out"), drv: conf.clone() };
        Some(Stream { conf, script })
    }

    /// Whether the two are one image under two names.
    fn is_same(&self, other: &Self) -> bool {
        let named = |image: &Self| (image.image_name.clone(), image.image_tag.clone());
        self.derivation == other.derivation && named(self) == named(other)
    }
}

impl ImageDerivation {
    /// Its name, which that of its output begins with.
    pub fn name(&self) -> &str {
        self.drv.name().trim_end_matches(".drv")
    }
}

/// What a layered image is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The derivation of `conf.json`.
    pub conf: ImageDerivation,
    /// The source of the script that reads it, which is in the store already.
    pub script: Option<StorePath>,
}

/// What the expression says; see [`image_expression`].
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Answer {
    Images { images: Vec<Described>, passed: Vec<Vec<String>> },
    Missing { missing: String, near: Vec<String> },
    Needs { place: Vec<String>, needs: Vec<String> },
    Beyond { beyond: Bound },
    Other { place: Vec<String>, other: String },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Bound {
    Values,
    Depth,
}

#[derive(Debug, Deserialize)]
struct Described {
    place: Vec<String>,
    #[serde(rename = "imageName")]
    image_name: String,
    #[serde(rename = "imageTag")]
    image_tag: String,
    derivation: Output,
}

#[derive(Debug, Deserialize)]
struct Output {
    drv: String,
    output: String,
}

impl Nix {
    /// The images that `wanted` means: one, or those of a list or attribute set.
    ///
    /// `roots` is a folder for garbage collector roots: while it exists, no derivation that was evaluated is
    /// collected. An expression in a file sees `variables`; a flake sees none, as anywhere else.
    pub async fn images(
        &self,
        wanted: &Installable,
        project: &Folder,
        variables: &BTreeMap<String, String>,
        roots: &Path,
        progress: Progress<'_>,
    ) -> Result<FoundImages, NixError> {
        let flake = match wanted {
            Installable::FlakeOutput { flake: Flake::Folder(folder), .. } => Some(folder),
            Installable::FlakeOutput { .. } | Installable::File { .. } => None,
        };
        let flakes = self.flakes(flake.into_iter(), project, progress).await?;
        let evaluation = Evaluation {
            expression: &image_expression(wanted, project.path(), System::HOST, &flakes),
            needs_flakes: matches!(wanted, Installable::FlakeOutput { .. }),
            shown: &[project.path()],
            variables: match wanted {
                Installable::File { .. } => Some(variables),
                Installable::FlakeOutput { .. } => None,
            },
        };
        let root = self.instantiate(&evaluation, roots, progress).await;
        let root = root.map_err(|error| {
            let error = flakes.explain(error, project).in_project(project.path(), flake);
            error.of_evaluation(&wanted.to_string(), project.path())
        })?;
        let answer = evaluated(&root)?.answer("images")?;
        let no_image = |reason: String| NixError::NoImage { name: wanted.to_string(), reason };
        match answer {
            Answer::Images { images, passed } => {
                let passed = match passed.as_slice() {
                    [] => Vec::new(),
                    [_, ..] => {
                        let expression = &passed_expression(wanted, project.path(), System::HOST, &flakes);
                        self.passed_over(wanted, &Evaluation { expression, ..evaluation }, roots).await
                    }
                };
                if images.is_empty() {
                    return Err(match passed.into_iter().next() {
                        Some(set) => NixError::PassedOver { name: wanted.to_string(), set },
                        None => no_image("it is a set or list without a derivation".to_owned()),
                    });
                }
                let mut found = Vec::<ImageValue>::new();
                for image in images {
                    let image = image.checked().ok_or_else(|| no_image(forged()))?;
                    // As for `nix-build`, what has two names is one thing.
                    if !found.iter().any(|earlier| earlier.is_same(&image)) {
                        found.push(image);
                    }
                }
                Ok(FoundImages { images: found, passed })
            }
            Answer::Missing { missing, near: names } => {
                Err(NixError::NoAttribute { name: wanted.to_string(), near: near(&missing, &names), missing })
            }
            Answer::Needs { place, needs } => Err(NixError::Arguments { name: wanted.below(&place), needs }),
            Answer::Beyond { beyond: Bound::Values } => {
                Err(no_image(format!("it has more than {MOST_VALUES} values")))
            }
            Answer::Beyond { beyond: Bound::Depth } => {
                Err(no_image(format!("sets and lists in it are deeper than {DEEPEST} in each other")))
            }
            Answer::Other { place, other } if place.is_empty() => {
                Err(no_image(format!("it is of the type `{other}`")))
            }
            Answer::Other { place, other } => {
                let name = AttrPath::shown(&place);
                Err(no_image(format!("`{name}` in it is of the type `{other}`")))
            }
        }
    }

    /// Sets that no image is looked for in, though they have derivations; none where Nix cannot tell.
    async fn passed_over(
        &self,
        wanted: &Installable,
        evaluation: &Evaluation<'_>,
        roots: &Path,
    ) -> Vec<String> {
        let view = self.view_of_evaluation(evaluation.shown, &[roots], evaluation.variables);
        let Ok(file) = written(evaluation.expression, roots) else { return Vec::new() };
        let file = file.path().to_string_lossy();
        let mut arguments = vec!["--eval", "--strict", "--json", &file];
        // Nothing is built for it.
        arguments.extend(["--option", "allow-import-from-derivation", "false"]);
        if evaluation.needs_flakes {
            arguments.extend(["--extra-experimental-features", "flakes nix-command"]);
        }
        let said = self.run("nix-instantiate", &arguments, &view, SILENT).await.unwrap_or_default();
        let places: Vec<Vec<String>> = serde_json::from_str(&said).unwrap_or_default();
        places.iter().map(|place| wanted.below(place)).collect()
    }

    /// Builds or downloads one thing, and gives where it is. It stays while the folder `roots` exists.
    pub async fn realise_image(
        &self,
        derivation: &ImageDerivation,
        roots: &Path,
        progress: Progress<'_>,
    ) -> Result<StorePath, NixError> {
        let root = format!("image-{}", derivation.drv.hash_part());
        let realised = self
            .realise_installables(std::slice::from_ref(&derivation.installable), roots, &root, progress)
            .await?;
        realised
            .into_iter()
            .next()
            .ok_or_else(|| NixError::NoImage { name: derivation.name().to_owned(), reason: forged() })
    }
}

/// The input called `stream` of an archive that is what its script writes.
fn archived(archive: &Derivation, stream: &str) -> Option<Derivation> {
    let stream = derivation(input(archive, stream)?).ok()?;
    let (command, script) = (archive.environment.get("buildCommand")?, stream.environment.get("out")?);
    only_compresses(command, script).then_some(stream)
}

/// The one derivation that another needs and that is called so.
fn input<'d>(derivation: &'d Derivation, name: &str) -> Option<&'d StorePath> {
    let mut found = derivation.derivations.iter().filter(|input| input.name() == name);
    found.next().filter(|_| found.next().is_none())
}

/// The name of an archive without what `buildLayeredImage` puts behind it.
fn archive_of(name: &str) -> Option<&str> {
    [".tar", ".tar.gz", ".tar.zst"].iter().find_map(|ending| name.strip_suffix(ending))
}

fn forged() -> String {
    format!("it is a {FORGED}")
}

impl Described {
    /// What is said, once it is known to be what it claims.
    fn checked(self) -> Option<ImageValue> {
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        Some(ImageValue {
            place: self.place,
            image_name: text(self.image_name),
            image_tag: text(self.image_tag),
            derivation: self.derivation.checked()?,
        })
    }
}

impl Output {
    fn checked(self) -> Option<ImageDerivation> {
        let installable = installable(&self.drv, &self.output)?;
        Some(ImageDerivation { drv: self.drv.parse().ok()?, installable })
    }
}
