//! Everything that can change the image's own files, as a text for their key.
//!
//! What is in `contents` follows from the NAR hashes, and what `extraCommands` make of it counts as following from
//! their text and the store paths that they see. Files of the project are read for their digests.

use serde_json::{Value, json};

use super::copies::{Copied, Copies};
use super::packages::Packages;
use super::root;
use super::{Build, BuildError};
use crate::layer::{Contents, RootKind, RootNode};
use crate::nix::{Closure, StorePath};
use crate::oci::Digest;
use crate::oci::image::canonical_json;
use crate::spec::{PathAction, PathEntry};

/// Describes the last layer of `build`.
pub(super) fn describe(
    build: &Build<'_>,
    packages: &Packages,
    copies: &Copies,
) -> Result<Vec<u8>, BuildError> {
    let spec = build.spec;
    let mut description = json!({
        "contents": hashes(&packages.closure, packages.contents.iter()),
        "paths": spec.paths.iter().enumerate().map(|(index, entry)| path(entry, copies.of(index)))
            .collect::<Vec<_>>(),
        "presets": spec.presets.iter().flat_map(|preset| root::preset_nodes(*preset, packages))
            .map(|(path, node)| json!([path, described(&node, None)])).collect::<Vec<_>>(),
    });
    if spec.has_commands() {
        description["commands"] = json!({
            "script": root::script(build, packages)?,
            "store": hashes(&packages.tools, packages.tools.paths()),
        });
    }
    if let Some(accounts) = &spec.accounts {
        description["accounts"] = json!([root::passwd(accounts), root::group(accounts)]);
    }
    Ok(canonical_json(&description))
}

/// Each path with the hash of its NAR.
fn hashes<'a>(closure: &Closure, paths: impl Iterator<Item = &'a StorePath>) -> Vec<Value> {
    let hash = |path: &StorePath| closure.get(path).map(|info| info.nar_hash.to_string());
    paths.map(|path| json!([path.to_string(), hash(path)])).collect()
}

fn path(entry: &PathEntry, copied: &[Copied]) -> Value {
    let action = match &entry.action {
        PathAction::Directory { mode } => json!({ "directory": mode.bits() }),
        PathAction::File { content, mode } => json!({ "file": mode.bits(), "content": content }),
        PathAction::Symlink { target } => json!({ "symlink": target }),
        PathAction::Permissions { mode, recursive } => {
            json!({ "permissions": mode.as_ref().map(|mode| mode.bits()), "recursive": recursive })
        }
        // Where it came from changes nothing.
        PathAction::Copy { .. } => {
            let node = |copied: &Copied| json!([text(&copied.below), described(&copied.node, copied.digest)]);
            json!({ "copy": copied.iter().map(node).collect::<Vec<_>>() })
        }
    };
    json!([entry.path.as_str(), entry.uid, entry.gid, action])
}

/// A node; of a file that is not in memory, `digest` says what is in it.
fn described(node: &RootNode, digest: Option<Digest>) -> Value {
    let kind = match &node.kind {
        RootKind::Directory => json!("directory"),
        RootKind::Symlink(target) => json!({ "symlink": text(target) }),
        RootKind::Regular(Contents::Bytes(bytes)) => json!({ "file": Digest::of(bytes).to_string() }),
        RootKind::Regular(Contents::Reader { .. }) => {
            json!({ "file": digest.map(|digest| digest.to_string()) })
        }
    };
    json!([node.mode, node.uid, node.gid, kind])
}

/// Bytes as a text that no other bytes have.
fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
