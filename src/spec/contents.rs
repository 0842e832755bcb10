//! What goes into an image.

use std::fmt;
use std::str::FromStr;

use super::attr_path::AttrPath;
use super::nixpkgs::GitHubCommit;
use super::project_path::{ProjectPath, ProjectPathError};
use crate::nix::StorePath;

/// One item of `contents`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A package of the spec's package set.
    Package(AttrPath),
    /// An object that is in the store already.
    StorePath(StorePath),
    /// An output of a flake.
    FlakeOutput {
        /// The flake.
        flake: Flake,
        /// What it is called there.
        output: AttrPath,
    },
}

/// Where a flake lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flake {
    /// In a folder of the project.
    Folder(ProjectPath),
    /// In a commit on GitHub.
    GitHub(GitHubCommit),
}

/// Why a text names nothing to put into an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a package, store path or flake output: {reason}")]
pub struct ContentError {
    text: String,
    reason: String,
}

impl ContentError {
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }
}

impl FromStr for Content {
    type Err = ContentError;

    fn from_str(text: &str) -> Result<Self, ContentError> {
        let error = |reason: &str| ContentError { text: text.to_owned(), reason: reason.to_owned() };
        if text.starts_with('-') {
            return Err(error("it looks like an option"));
        }
        if text.starts_with('/') {
            return text
                .parse()
                .map(Self::StorePath)
                .map_err(|_| error("a store path is `/nix/store/<32 digits>-<name>`, and nothing below it"));
        }
        // Quotes occur in package names alone, and may hold anything.
        let unquoted = text.split('"').next().unwrap_or_default();
        let Some(hash) = unquoted.find('#') else {
            if unquoted.starts_with('.') || unquoted.contains('/') || unquoted.starts_with("github:") {
                return Err(error("a flake output is named behind `#`, as in `.#app`"));
            }
            return AttrPath::from_text(text).map(Self::Package).map_err(error);
        };
        let flake = match &text[..hash] {
            github if github.starts_with("github:") => Flake::GitHub(github.parse().map_err(error)?),
            folder if folder == "." || folder.starts_with("./") => {
                Flake::Folder(folder.parse().map_err(|cause: ProjectPathError| error(cause.reason()))?)
            }
            _ => return Err(error("a flake is `.`, `./FOLDER` or `github:OWNER/REPO/COMMIT`")),
        };
        let output = AttrPath::from_text(&text[hash + 1..]).map_err(error)?;
        Ok(Self::FlakeOutput { flake, output })
    }
}

impl fmt::Display for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(attr_path) => attr_path.fmt(formatter),
            Self::StorePath(path) => path.fmt(formatter),
            Self::FlakeOutput { flake: Flake::Folder(folder), output } => match folder.as_str() {
                "." => write!(formatter, ".#{output}"),
                folder => write!(formatter, "./{folder}#{output}"),
            },
            Self::FlakeOutput { flake: Flake::GitHub(commit), output } => {
                write!(formatter, "{commit}#{output}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_is_read_as_what_it_is() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let parse = |text: &str| text.parse::<Content>().unwrap();
        let output = |flake, name: &str| Content::FlakeOutput { flake, output: name.parse().unwrap() };

        assert_eq!(
            parse("python3Packages.requests"),
            Content::Package("python3Packages.requests".parse().unwrap())
        );
        assert_eq!(parse("\"a#b\""), Content::Package("\"a#b\"".parse().unwrap()));
        assert_eq!(parse(".#app"), output(Flake::Folder(".".parse().unwrap()), "app"));
        assert_eq!(
            parse("./sub#packages.\"x#y\""),
            output(Flake::Folder("sub".parse().unwrap()), "packages.\"x#y\"")
        );
        let github = format!("github:o/r/{commit}");
        assert_eq!(parse(&format!("{github}#x")), output(Flake::GitHub(github.parse().unwrap()), "x"));
        let path = "/nix/store/00000000000000000000000000000000-a-1.0";
        assert_eq!(parse(path), Content::StorePath(path.parse().unwrap()));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "",
            "-jq",
            "--impure",
            ".",
            "./sub",
            ".#",
            "../x#y",
            "./../x#y",
            "/x#y",
            "sub#x",
            "nixpkgs#jq",
            "github:o/r#x",
            "github:o/r/main#x",
            "/etc/passwd",
            "/nix/store/00000000000000000000000000000000-a/bin/x",
            "jq git",
            "jq;",
            "a\nb",
        ] {
            assert!(text.parse::<Content>().is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn displaying_undoes_parsing() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for text in [
            "python3Packages.requests",
            "\"a#b\"",
            ".#app",
            "./sub/dir#packages.\"x#y\"",
            &format!("github:o/r/{commit}#x"),
            "/nix/store/00000000000000000000000000000000-a-1.0",
        ] {
            assert_eq!(text.parse::<Content>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-./#\"a:é ]{0,20}") {
            let _ = text.parse::<Content>();
        }
    }
}
