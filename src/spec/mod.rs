//! The image spec: what a CI author commits as `image.yaml` to say what goes into an image.
//!
//! [`ImageSpec::parse`] checks everything that the text alone can tell, and turns it into types that
//! leave no mistake for later: package names that cannot become code, paths that stay in the project
//! or in the image, tags that a registry accepts. What only the build can tell (that a package does
//! not exist, that a variable is not set) finds its line through [`ImageSpec::error_at`].
//!
//! ```
//! use nixlayer::spec::ImageSpec;
//!
//! let spec = ImageSpec::parse("image.yaml", b"name: tools\ncontents: [jq, git]\n")?;
//! assert_eq!(spec.contents.len(), 2);
//!
//! let error = ImageSpec::parse("image.yaml", b"name: tools\ncontnets: [jq]\n").unwrap_err();
//! assert_eq!(error.to_string(), "image.yaml:2:1: `contnets`: there is no such key");
//! assert_eq!(error.fix(), "write `contents`");
//! # Ok::<(), nixlayer::yaml::Error>(())
//! ```
//!
//! `docs/spec.md` describes every key for its author.

mod accounts;
mod attr_path;
mod caches;
mod choices;
mod config;
mod contents;
mod definition;
mod demands;
mod destination;
mod layers;
mod nixpkgs;
mod paths;
mod project_path;
mod template;
mod variables;

use std::collections::{BTreeMap, BTreeSet};

pub use accounts::{Accounts, Group, User};
pub use attr_path::{AttrPath, AttrPathError};
pub use caches::{CacheName, CacheNameError};
pub use choices::{Compression, Created, Preset};
pub use config::{Config, MissingValue, RenderError};
pub use contents::{Content, ContentError, Flake};
pub use definition::{Definition, DefinitionError, Installable};
pub use demands::{BASH, CACERT, COREUTILS, Demand, Purpose};
pub use layers::{Layers, Strategy};
pub use nixpkgs::{GitHubCommit, Nixpkgs, NixpkgsError};
pub use paths::{ImagePath, ImagePathError, Mode, PathAction, PathEntry};
pub use project_path::{ProjectPath, ProjectPathError};
pub use template::{MissingPackage, Part, Template, TemplateError};
pub use variables::{UnsetVariable, VariableText, VariableTextError, is_for_expressions};

use crate::nix::System;
use crate::yaml::{Document, Error, Fields, KeyPath, SIZE_LIMIT, Value};

const PACKAGE_FIX: &str = "write `${pkgs.NAME}` with the name of a package";
const SYSTEM_FIX: &str = "write a system as Nix does, such as `x86_64-linux` or `aarch64-linux`";
const CACHE_FIX: &str = "write `./FOLDER`, or the URL of a cache that the admin has listed";
const VARIABLE_FIX: &str = "name a public `CI_…` or `NIXLAYER_…` variable, or write `$$` for a `$`";

/// A valid image spec.
#[derive(Clone, Debug)]
pub struct ImageSpec {
    /// Title of the image and name of local archives.
    pub name: String,
    /// Where packages come from.
    pub nixpkgs: Nixpkgs,
    /// What the image runs on, if not what the machine does that makes it.
    pub system: Option<System>,
    /// Binary caches that are asked beside those of the machine.
    pub caches: Vec<CacheName>,
    /// What goes into the image; never empty.
    pub contents: Vec<Content>,
    /// Shell commands that finish the merged tree; empty if not given.
    pub extra_commands: Template,
    /// Files that come from no package, in the order in which they are made.
    pub paths: Vec<PathEntry>,
    /// Users and groups, if the spec has any.
    pub accounts: Option<Accounts>,
    /// Ready-made parts.
    pub presets: BTreeSet<Preset>,
    /// What a runtime starts; `accounts.runAs` has set `User` already.
    pub config: Config,
    /// When the image says it was created.
    pub created: Created,
    /// Where the image is pushed, if not to the project's own repository.
    pub repository: Option<VariableText>,
    /// The tags that the image gets; empty if not given.
    pub tags: Vec<VariableText>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, VariableText>,
    /// How layers are made up.
    pub layers: Layers,
    /// How layers are compressed.
    pub compression: Compression,
    document: Document,
}

impl ImageSpec {
    /// The most bytes of a file that a caller need read. A spec may have far fewer, and one that has more
    /// than it may gets an error with file and line.
    pub const MAX_FILE: u64 = 16 * SIZE_LIMIT as u64;

    /// The spec in `bytes`, the content of the file that messages call `file`.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let document = Document::parse(file, bytes)?;
        let fields = document.root().fields(&[
            "name",
            "nixpkgs",
            "system",
            "caches",
            "contents",
            "extraCommands",
            "paths",
            "accounts",
            "presets",
            "config",
            "created",
            "repository",
            "tags",
            "annotations",
            "layers",
            "compression",
        ])?;
        let accounts = fields.get("accounts").map(accounts::read).transpose()?;
        let mut config = optional(&fields, "config", Config::read)?;
        let (accounts, run_as) = accounts.map_or((None, None), |(accounts, run_as)| (Some(accounts), run_as));
        if let Some(uid) = run_as {
            if config.has("User") {
                return Err(document.error_at(
                    &KeyPath::root().key("accounts").key("runAs"),
                    "`config` sets `User` as well",
                    "remove one of the two",
                ));
            }
            // A number, since Kubernetes' `runAsNonRoot` refuses names. Without a group, so that the
            // runtime takes all of the user's groups from `/etc/group`.
            config.set_user(uid.to_string());
        }
        Ok(Self {
            name: fields.require("name", "add `name:` with a title for the image").and_then(name)?,
            nixpkgs: optional(&fields, "nixpkgs", Nixpkgs::read)?,
            system: fields.get("system").map(|value| value.parse(SYSTEM_FIX)).transpose()?,
            caches: optional(&fields, "caches", |value| {
                value.list_or_one()?.iter().map(|cache| cache.parse(CACHE_FIX)).collect()
            })?,
            contents: fields
                .require("contents", "add `contents:` with a list of packages")
                .and_then(contents)?,
            extra_commands: optional(&fields, "extraCommands", |value| value.parse(PACKAGE_FIX))?,
            paths: optional(&fields, "paths", paths::read)?,
            accounts,
            presets: optional(&fields, "presets", choices::presets)?,
            config,
            created: optional(&fields, "created", Created::read)?,
            repository: fields.get("repository").map(destination::repository).transpose()?,
            tags: optional(&fields, "tags", destination::tags)?,
            annotations: optional(&fields, "annotations", destination::annotations)?,
            layers: optional(&fields, "layers", Layers::read)?,
            compression: optional(&fields, "compression", Compression::read)?,
            document,
        })
    }

    /// What messages call the file of the spec.
    pub fn file(&self) -> &str {
        self.document.file()
    }

    /// The packages that `extraCommands` and `config` refer to, with the keys that do.
    pub fn packages(&self) -> Vec<(KeyPath, &AttrPath)> {
        let commands = KeyPath::root().key("extraCommands");
        let mut packages: Vec<_> =
            self.extra_commands.packages().map(|package| (commands.clone(), package)).collect();
        packages.extend(self.config.packages().into_iter().map(|(key, package)| (key.clone(), package)));
        packages
    }

    /// A complaint about the value at `key` that only the build could know.
    pub fn error_at(&self, key: &KeyPath, reason: impl Into<String>, fix: impl Into<String>) -> Error {
        self.document.error_at(key, reason, fix)
    }
}

fn optional<T: Default>(
    fields: &Fields<'_>,
    key: &str,
    read: impl FnOnce(&Value<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    fields.get(key).map_or_else(|| Ok(T::default()), read)
}

/// The name becomes a file name, so each part of it starts with a letter or digit.
fn name(value: &Value<'_>) -> Result<String, Error> {
    let name = value.text()?;
    let good = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    if name.len() <= 128 && name.split('/').all(good) {
        return Ok(name.to_owned());
    }
    let fix =
        "write at most 128 letters, digits, `.`, `_`, `-` and `/`, each part starting with a letter or digit";
    Err(value.error(format!("`{name}` is not a name for an image"), fix))
}

fn contents(value: &Value<'_>) -> Result<Vec<Content>, Error> {
    let items = value.list()?;
    if items.is_empty() {
        return Err(value.error("the list is empty", "name at least one package, such as `bash`"));
    }
    let fix = "write a package such as `jq` or `python3Packages.requests`, a store path, or a flake output such as `.#app`";
    items.iter().map(|item| item.parse(fix)).collect()
}

#[cfg(test)]
mod tests;
