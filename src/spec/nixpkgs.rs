//! Where the package set of an image comes from.

use std::fmt;
use std::str::FromStr;

use super::project_path::{ProjectPath, ProjectPathError};
use crate::nix::NarHash;
use crate::yaml;

/// The package set that `contents` and `${pkgs.…}` name their packages in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nixpkgs {
    /// An entry of Nix's search path, written `<nixpkgs>`; here without the brackets.
    SearchPath(String),
    /// A folder of the project.
    Folder(ProjectPath),
    /// A commit on GitHub.
    GitHub(GitHubCommit),
    /// A Nix channel, written `channel:nixos-26.05`; here the name alone.
    Channel(String),
    /// A source archive.
    Tarball {
        /// Its address, `http` or `https`, without credentials.
        url: String,
        /// The hash of the unpacked tree; without one the archive may change from build to build.
        sha256: Option<NarHash>,
    },
}

/// A commit of a GitHub repository, as `github:OWNER/REPOSITORY/COMMIT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitHubCommit {
    /// User or organisation.
    pub owner: String,
    /// Repository.
    pub repository: String,
    /// The commit's 40 hex digits.
    pub commit: String,
}

/// Why a text names no package set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a package set: {reason}")]
pub struct NixpkgsError {
    text: String,
    reason: String,
}

const FIX: &str =
    "write `<nixpkgs>`, `./FOLDER`, `github:OWNER/REPO/COMMIT`, `channel:NAME`, or the URL of a tarball";

impl Default for Nixpkgs {
    fn default() -> Self {
        Self::SearchPath("nixpkgs".to_owned())
    }
}

impl Nixpkgs {
    /// Reads a text in one of the forms, or a mapping of `url` and `sha256`.
    pub(super) fn read(value: &yaml::Value<'_>) -> Result<Self, yaml::Error> {
        if !value.is_mapping() {
            return value.parse(FIX);
        }
        let fields = value.fields(&["url", "sha256"])?;
        let url = fields.require("url", "write `url:` with the address of a tarball")?;
        let url = match url.parse(FIX)? {
            Self::Tarball { url, .. } => url,
            Self::SearchPath(_) | Self::Folder(_) | Self::GitHub(_) | Self::Channel(_) => {
                return Err(url.error("this is not the URL of a tarball", "start it with `https://`"));
            }
        };
        let hash_fix = "copy the hash that `nix-prefetch-url --unpack URL` prints";
        let sha256 = fields.get("sha256").map(|hash| hash.parse(hash_fix)).transpose()?;
        Ok(Self::Tarball { url, sha256 })
    }
}

impl FromStr for Nixpkgs {
    type Err = NixpkgsError;

    fn from_str(text: &str) -> Result<Self, NixpkgsError> {
        let error = |reason: &str| NixpkgsError { text: text.to_owned(), reason: reason.to_owned() };
        if let Some(rest) = text.strip_prefix('<') {
            let entry = rest.strip_suffix('>').ok_or_else(|| error("`>` must end it"))?;
            let good = entry.split('/').all(|part| is_name(part) && part != "..");
            return if good {
                Ok(Self::SearchPath(entry.to_owned()))
            } else {
                Err(error("a name stands between `<` and `>`"))
            };
        }
        if text.starts_with("github:") {
            return text.parse().map(Self::GitHub).map_err(error);
        }
        if let Some(channel) = text.strip_prefix("channel:") {
            let good = is_name(channel);
            return if good {
                Ok(Self::Channel(channel.to_owned()))
            } else {
                Err(error("a name follows `channel:`"))
            };
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            check_url(text).map_err(error)?;
            return Ok(Self::Tarball { url: text.to_owned(), sha256: None });
        }
        if text.contains(':') {
            return Err(error("it is none of the known forms"));
        }
        if !text.contains('/') && text != "." {
            return Err(error("a search path stands in `<` and `>`, a folder starts with `./`"));
        }
        text.parse().map(Self::Folder).map_err(|cause: ProjectPathError| error(cause.reason()))
    }
}

impl FromStr for GitHubCommit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let parts: Vec<&str> = text.strip_prefix("github:").unwrap_or(text).split('/').collect();
        let [owner, repository, commit] = parts[..] else {
            return Err("owner, repository and commit follow `github:`, so that every build gets the same");
        };
        if !is_name(owner) || !is_name(repository) {
            return Err("owner and repository have letters, digits, `_`, `.` and `-`");
        }
        if commit.len() != 40 || !commit.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err("the commit is written with all its 40 hex digits, since a branch moves");
        }
        let [owner, repository, commit] = [owner, repository, commit].map(str::to_owned);
        Ok(Self { owner, repository, commit })
    }
}

impl fmt::Display for Nixpkgs {
    /// As a spec writes it; the hash of a tarball, which stands in a key of its own, follows the URL.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SearchPath(name) => write!(formatter, "<{name}>"),
            Self::Folder(folder) => match folder.as_str() {
                "." => formatter.write_str("."),
                folder => write!(formatter, "./{folder}"),
            },
            Self::GitHub(commit) => commit.fmt(formatter),
            Self::Channel(name) => write!(formatter, "channel:{name}"),
            Self::Tarball { url, sha256: None } => formatter.write_str(url),
            Self::Tarball { url, sha256: Some(sha256) } => write!(formatter, "{url} {sha256}"),
        }
    }
}

impl fmt::Display for GitHubCommit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "github:{}/{}/{}", self.owner, self.repository, self.commit)
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn check_url(url: &str) -> Result<(), &'static str> {
    let host = url.split('/').nth(2).unwrap_or_default();
    if host.is_empty() {
        return Err("it has no host");
    }
    if host.contains('@') {
        return Err("credentials do not belong into a spec");
    }
    // RFC 3986 leaves these out of URLs; some would end a string in the places that URLs go to.
    if !url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)) {
        return Err("it has characters that a URL cannot have");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "ab593d46dc38b9f0f23964120912138c77fa9af4";

    fn parse(text: &str) -> Nixpkgs {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_is_read_as_what_it_is() {
        assert_eq!(parse("<nixpkgs>"), Nixpkgs::default());
        assert_eq!(parse("<nixpkgs/pkgs>"), Nixpkgs::SearchPath("nixpkgs/pkgs".to_owned()));
        assert_eq!(parse("./nix"), Nixpkgs::Folder("nix".parse().unwrap()));
        assert_eq!(parse("nix/pkgs"), Nixpkgs::Folder("nix/pkgs".parse().unwrap()));
        assert_eq!(parse("channel:nixos-26.05"), Nixpkgs::Channel("nixos-26.05".to_owned()));
        let url = format!("https://github.com/NixOS/nixpkgs/archive/{COMMIT}.tar.gz");
        assert_eq!(parse(&url), Nixpkgs::Tarball { url, sha256: None });
        let text = format!("github:NixOS/nixpkgs/{COMMIT}");
        let Nixpkgs::GitHub(commit) = parse(&text) else { panic!("{text} is a commit") };
        assert_eq!(commit.to_string(), text);
        assert_eq!(commit.commit, COMMIT);
    }

    #[test]
    fn displaying_undoes_parsing() {
        let commit = format!("github:NixOS/nixpkgs/{COMMIT}");
        for text in [".", "./nix", "<nixpkgs/pkgs>", "channel:nixos-26.05", "https://host/x.tar.gz", &commit]
        {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_unpinned_outside_or_unsafe_is_refused() {
        for text in [
            "",
            "nixpkgs",
            "<nixpkgs",
            "<>",
            "<../x>",
            "<a b>",
            "/etc/nixos",
            "../up",
            "a/../../b",
            "~/x",
            "github:NixOS/nixpkgs",
            "github:NixOS/nixpkgs/master",
            "github:a/b/c/d",
            "channel:",
            "channel:a/b",
            "https://",
            "https://u:p@host/x",
            "https://host/a b",
            "https://host/${x}",
            "ftp://host/x",
            "flake:nixpkgs",
            "https://host/\"x",
            "-I/x",
        ] {
            assert!(text.parse::<Nixpkgs>().is_err(), "{text:?} passed");
        }
    }
}
