//! Files of the image that come from no package.

use std::fmt;
use std::str::FromStr;

use super::project_path::ProjectPath;
use crate::yaml::{Error, Fields, Value};

/// One item of `paths`: what to do at a place of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathEntry {
    /// Where.
    pub path: ImagePath,
    /// The user that owns it; `None` leaves the owner, or 0 for what is new.
    pub uid: Option<u32>,
    /// The group that owns it; `None` leaves the group, or 0 for what is new.
    pub gid: Option<u32>,
    /// What.
    pub action: PathAction,
}

/// What is done at a place of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathAction {
    /// Makes a folder, and the missing ones above it.
    Directory {
        /// Its permissions; 0755 if not given.
        mode: Mode,
    },
    /// Writes a file.
    File {
        /// What is in it.
        content: String,
        /// Its permissions; 0644 if not given.
        mode: Mode,
    },
    /// Makes a symbolic link.
    Symlink {
        /// What the link says, absolute or relative to the link's folder.
        target: String,
    },
    /// Changes the owner or the permissions of what another entry or a package put there.
    Permissions {
        /// The new permissions; `None` leaves them.
        mode: Option<Mode>,
        /// Whether what lies below changes as well.
        recursive: bool,
    },
    /// Copies a file or folder of the project.
    Copy {
        /// What.
        source: ProjectPath,
    },
}

/// An absolute path in the image, neither `/` itself nor in the Nix store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePath(String);

/// Why a text is no path for an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a path for the image: {reason}")]
pub struct ImagePathError {
    text: String,
    reason: &'static str,
}

/// Permission bits of a file, up to 07777.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(u16);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    Symlink,
    Permissions,
    Copy,
}

const KINDS: &[(&str, Kind)] = &[
    ("directory", Kind::Directory),
    ("file", Kind::File),
    ("symlink", Kind::Symlink),
    ("permissions", Kind::Permissions),
    ("copy", Kind::Copy),
];

const KEYS: &[&str] = &["path", "type", "uid", "gid", "mode", "content", "target", "source", "recursive"];

/// Reads the list under the key `paths`.
pub(super) fn read(value: &Value<'_>) -> Result<Vec<PathEntry>, Error> {
    let mut entries: Vec<PathEntry> = Vec::new();
    for item in value.list()? {
        let entry = entry(&item)?;
        let creates = |entry: &PathEntry| !matches!(entry.action, PathAction::Permissions { .. });
        if creates(&entry) && entries.iter().any(|other| creates(other) && other.path == entry.path) {
            let reason = format!("an entry above already makes `{}`", entry.path);
            return Err(item.error(reason, "remove one of the two"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(item: &Value<'_>) -> Result<PathEntry, Error> {
    let fields = item.fields(KEYS)?;
    let path = fields.require("path", "write `path:` with an absolute path")?;
    let path = path.parse("write an absolute path such as `/var/lib/app`")?;
    let kind_fix = "write `type:` with directory, file, symlink, permissions or copy";
    let kind = fields.require("type", kind_fix)?.word(KINDS)?;
    for (key, value) in fields.iter() {
        if !kind.takes(key) {
            let reason = format!("an entry of type `{}` does not take this key", kind.name());
            return Err(value.key_error(reason, format!("remove it; the type takes {}", kind.keys())));
        }
    }
    let owner = |key| fields.get(key).map(id).transpose();
    Ok(PathEntry { path, uid: owner("uid")?, gid: owner("gid")?, action: kind.action(&fields)? })
}

impl Kind {
    fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    fn takes(self, key: &str) -> bool {
        match key {
            "mode" => matches!(self, Self::Directory | Self::File | Self::Permissions),
            "content" => self == Self::File,
            "target" => self == Self::Symlink,
            "source" => self == Self::Copy,
            "recursive" => self == Self::Permissions,
            _ => true,
        }
    }

    fn keys(self) -> String {
        KEYS.iter().filter(|key| self.takes(key)).copied().collect::<Vec<_>>().join(", ")
    }

    fn action(self, fields: &Fields<'_>) -> Result<PathAction, Error> {
        let mode = fields.get("mode").map(mode).transpose()?;
        Ok(match self {
            Self::Directory => PathAction::Directory { mode: mode.unwrap_or(Mode(0o755)) },
            Self::File => {
                let content =
                    fields.require("content", "write `content:` with the file's text, or `\"\"`")?;
                PathAction::File { content: content.text()?.to_owned(), mode: mode.unwrap_or(Mode(0o644)) }
            }
            Self::Symlink => {
                let target = fields.require("target", "write `target:` with what the link points to")?;
                PathAction::Symlink { target: link_target(target)? }
            }
            Self::Permissions => {
                if mode.is_none() && fields.get("uid").is_none() && fields.get("gid").is_none() {
                    return Err(fields
                        .mapping()
                        .error("this entry changes nothing", "give `mode`, `uid` or `gid`"));
                }
                let recursive = fields.get("recursive").map(Value::boolean).transpose()?;
                PathAction::Permissions { mode, recursive: recursive.unwrap_or(false) }
            }
            Self::Copy => {
                let source =
                    fields.require("source", "write `source:` with a file or folder of the project")?;
                PathAction::Copy { source: source.parse("write a path relative to the project's folder")? }
            }
        })
    }
}

/// A user's or group's number. The highest one means "leave it" to `chown`.
pub(super) fn id(value: &Value<'_>) -> Result<u32, Error> {
    value.integer(0..=u32::MAX - 1)
}

fn mode(value: &Value<'_>) -> Result<Mode, Error> {
    const FIX: &str = "write three or four octal digits in quotes, such as `\"0755\"`";
    let text = value.text()?;
    // Unquoted, `755` is seven hundred and fifty-five, and `0o755` something else again.
    if value.is_integer() {
        return Err(value.error(
            format!("the mode `{text}` is a number, in which octal digits are easily mistaken"),
            FIX,
        ));
    }
    let digits = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    match u16::from_str_radix(text, 8) {
        Ok(bits) if digits => Ok(Mode(bits)),
        Ok(_) | Err(_) => Err(value.error(format!("`{text}` is not a mode"), FIX)),
    }
}

fn link_target(value: &Value<'_>) -> Result<String, Error> {
    let target = value.text()?;
    if target.is_empty() || target.chars().any(char::is_control) {
        return Err(value.error("a link's target is a path", "write a path such as `/bin/app`"));
    }
    if target.contains("${pkgs.") {
        return Err(value.error(
            "`${pkgs.NAME}` works in `extraCommands` and `config` only",
            "put the package into `contents`, and link to its file below `/`",
        ));
    }
    Ok(target.to_owned())
}

impl Mode {
    /// The bits, at most 0o7777.
    pub fn bits(self) -> u16 {
        self.0
    }
}

impl ImagePath {
    /// The path, with a leading and without a trailing `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImagePath {
    type Err = ImagePathError;

    fn from_str(text: &str) -> Result<Self, ImagePathError> {
        let error = |reason| Err(ImagePathError { text: text.to_owned(), reason });
        let Some(relative) = text.strip_prefix('/') else { return error("it does not start with `/`") };
        if relative.is_empty() {
            return error("it is the root");
        }
        // Linux' `PATH_MAX` counts a closing NUL.
        if text.len() > 4095 || text.chars().any(char::is_control) {
            return error("it is too long, or has control characters");
        }
        if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return error("it has `.`, `..` or nothing between two `/`, or ends in `/`");
        }
        let below = |parent| {
            text.strip_prefix(parent).is_some_and(|rest: &str| rest.is_empty() || rest.starts_with('/'))
        };
        if text == "/nix" || below("/nix/store") {
            return error("the Nix store holds packages only");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::Document;

    fn paths(text: &str) -> Vec<PathEntry> {
        read(&Document::parse("f", text.as_bytes()).unwrap().root()).unwrap()
    }

    #[test]
    fn every_type_is_read_with_its_defaults() {
        let text = r#"
- { path: /data, type: directory, uid: 1000, gid: 1000, mode: 0750 }
- { path: /etc/motd, type: file, content: "hi\n" }
- { path: /etc/localtime, type: symlink, target: ../usr/share/zoneinfo/UTC }
- { path: /data, type: permissions, mode: "1777", recursive: true }
- { path: /app, type: copy, source: ./dist, uid: 5 }
"#;
        let entry =
            |path: &str, uid, gid, action| PathEntry { path: path.parse().unwrap(), uid, gid, action };
        assert_eq!(
            paths(text),
            [
                entry("/data", Some(1000), Some(1000), PathAction::Directory { mode: Mode(0o750) }),
                entry(
                    "/etc/motd",
                    None,
                    None,
                    PathAction::File { content: "hi\n".to_owned(), mode: Mode(0o644) }
                ),
                entry(
                    "/etc/localtime",
                    None,
                    None,
                    PathAction::Symlink { target: "../usr/share/zoneinfo/UTC".to_owned() }
                ),
                entry(
                    "/data",
                    None,
                    None,
                    PathAction::Permissions { mode: Some(Mode(0o1777)), recursive: true }
                ),
                entry("/app", Some(5), None, PathAction::Copy { source: "dist".parse().unwrap() }),
            ]
        );
    }

    #[test]
    fn paths_that_leave_their_place_are_refused() {
        for text in [
            "",
            "/",
            "a",
            "./a",
            "/a/../b",
            "/..",
            "/a/",
            "//a",
            "/a//b",
            "/./a",
            "/nix",
            "/nix/store",
            "/nix/store/x",
            "/a\0",
            "/a\nb",
        ] {
            assert!(text.parse::<ImagePath>().is_err(), "{text:?} passed");
        }
        for text in ["/a", "/.hidden", "/nix/var", "/nix/stored", "/..a/b"] {
            assert_eq!(text.parse::<ImagePath>().unwrap().as_str(), text);
        }
    }
}
