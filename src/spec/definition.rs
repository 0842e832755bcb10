//! What `NIXLAYER_SPEC` names: an image spec, or the image of a Nix expression.

use std::fmt;
use std::str::FromStr;

use super::attr_path::AttrPath;
use super::contents::{Content, Flake};
use super::project_path::ProjectPath;

/// Where an image is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Definition {
    /// In an image spec: the path of a YAML file in the project.
    Spec(String),
    /// In Nix.
    Nix(Installable),
}

/// What Nix can find and build (Nix manual, "Installables").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installable {
    /// The value of a file.
    File {
        /// The file in the project, or a folder with a `default.nix`, or else with a `flake.nix`.
        path: ProjectPath,
        /// The way into the value; none means the value itself.
        attribute: Option<AttrPath>,
    },
    /// An output of a flake.
    FlakeOutput {
        /// The flake.
        flake: Flake,
        /// What it is called there.
        output: AttrPath,
    },
}

/// Why a text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no image: {reason}")]
pub struct DefinitionError {
    text: String,
    reason: String,
}

impl FromStr for Definition {
    type Err = DefinitionError;

    fn from_str(text: &str) -> Result<Self, DefinitionError> {
        let error = |reason: &str| DefinitionError { text: text.to_owned(), reason: reason.to_owned() };
        let of_project = |path: &str| path.parse::<ProjectPath>().map_err(|cause| error(cause.reason()));
        let Some((before, attribute)) = text.split_once('#') else {
            if has_ending(text, &["yaml", "yml"]) {
                return Ok(Self::Spec(text.to_owned()));
            }
            return Ok(Self::Nix(Installable::File { path: of_project(text)?, attribute: None }));
        };
        if has_ending(before, &["nix"]) {
            let attribute = (!attribute.is_empty()).then(|| AttrPath::from_text(attribute)).transpose();
            let attribute = attribute.map_err(error)?;
            return Ok(Self::Nix(Installable::File { path: of_project(before)?, attribute }));
        }
        // Here a folder is meant as well where it is not written as one.
        let plain = !before.starts_with('.') && !before.starts_with("github:");
        let output = format!("{}{before}#{attribute}", if plain { "./" } else { "" });
        match output.parse() {
            Ok(Content::FlakeOutput { flake, output }) => {
                Ok(Self::Nix(Installable::FlakeOutput { flake, output }))
            }
            Ok(Content::Package(_) | Content::StorePath(_)) => Err(error("it is no output of a flake")),
            Err(cause) => Err(error(cause.reason())),
        }
    }
}

fn has_ending(path: &str, endings: &[&str]) -> bool {
    path.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending))
}

impl fmt::Display for Installable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, attribute: None } => formatter.write_str(path.as_str()),
            Self::File { path, attribute: Some(attribute) } => {
                write!(formatter, "{}#{attribute}", path.as_str())
            }
            Self::FlakeOutput { flake, output } => {
                Content::FlakeOutput { flake: flake.clone(), output: output.clone() }.fmt(formatter)
            }
        }
    }
}

impl Installable {
    /// What is at `place` in it, as one would name that.
    pub fn below(&self, place: &[String]) -> String {
        let separator = match self {
            _ if place.is_empty() => "",
            Self::File { attribute: None, .. } => "#",
            Self::File { attribute: Some(_), .. } | Self::FlakeOutput { .. } => ".",
        };
        format!("{self}{separator}{}", AttrPath::shown(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, attribute: Option<&str>) -> Definition {
        let attribute = attribute.map(|attribute| attribute.parse().unwrap());
        Definition::Nix(Installable::File { path: path.parse().unwrap(), attribute })
    }

    fn output(folder: &str, output: &str) -> Definition {
        let (flake, output) = (Flake::Folder(folder.parse().unwrap()), output.parse().unwrap());
        Definition::Nix(Installable::FlakeOutput { flake, output })
    }

    #[test]
    fn every_form_is_read_as_what_it_is() {
        for (text, definition) in [
            ("image.yaml", Definition::Spec("image.yaml".to_owned())),
            ("nix/image.yml", Definition::Spec("nix/image.yml".to_owned())),
            ("default.nix", file("default.nix", None)),
            ("./nix/images.nix", file("nix/images.nix", None)),
            ("default.nix#web", file("default.nix", Some("web"))),
            ("default.nix#images.\"a#b\"", file("default.nix", Some("images.\"a#b\""))),
            ("default.nix#", file("default.nix", None)),
            (".", file(".", None)),
            ("images", file("images", None)),
            (".#image", output(".", "image")),
            ("./deploy#image", output("deploy", "image")),
            ("deploy#image", output("deploy", "image")),
        ] {
            assert_eq!(text.parse(), Ok(definition), "{text}");
        }
        let commit = format!("github:team/app/{}#image", "0".repeat(40));
        let Ok(Definition::Nix(installable)) = commit.parse() else { panic!("{commit}") };
        assert_eq!(installable.to_string(), commit);
    }

    #[test]
    fn what_leads_out_of_the_project_or_means_nothing_is_refused() {
        for text in [
            "",
            "/etc/nixos",
            "../default.nix",
            "default.nix#-x",
            "default.nix#a..b",
            ".#",
            "a/../../b#c",
            "github:team/app#image",
            "--option",
        ] {
            assert!(text.parse::<Definition>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_installable_is_shown_as_it_is_written() {
        for text in ["default.nix", "default.nix#web", "images", ".#image", "./deploy#image"] {
            let Ok(Definition::Nix(installable)) = text.parse() else { panic!("{text}") };
            assert_eq!(installable.to_string(), text);
        }
    }
}
