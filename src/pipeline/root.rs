//! The tree of the image's last layer, from everything in the spec that is no store path.
//!
//! In this order, each on top of what was there: the merged trees of `contents`, `extraCommands`,
//! `paths`, `accounts`, `presets`. Presets only fill in what is still missing.

use super::copies::{Copied, Copies};
use super::event::Quota;
use super::listing::Listings;
use super::packages::Packages;
use super::{Build, BuildError, blocking, commands, files};
use crate::folder;
use crate::layer::{Contents, RootKind, RootNode, RootTree, TreeError};
use crate::nix::StorePath;
use crate::source::StorePaths;
use crate::spec::{
    Accounts, BASH, CACERT, COREUTILS, Group, ImagePath, Mode, PathAction, PathEntry, Preset, User,
};
use crate::yaml::KeyPath;

/// Puts the tree together, given what is in each of `contents`.
pub(super) async fn assemble(
    build: &Build<'_>,
    packages: &Packages,
    store: &StorePaths,
    copies: &Copies,
    listings: &Listings,
    quota: &Quota<'_>,
) -> Result<RootTree, BuildError> {
    let mut tree = merged(build, &packages.contents, listings)?;
    if build.spec.has_commands() {
        tree = after_commands(build, packages, store, tree, quota).await?;
    }
    for (index, entry) in build.spec.paths.iter().enumerate() {
        let key = KeyPath::root().key("paths").index(index);
        apply(build, &mut tree, entry, copies.of(index), &key)?;
    }
    let spec_error = |key: &str, error: TreeError| {
        let fix = "leave it out, or what the packages and commands put there";
        BuildError::Spec(build.spec.error_at(&KeyPath::root().key(key), error.to_string(), fix))
    };
    if let Some(accounts) = &build.spec.accounts {
        add_accounts(&mut tree, accounts).map_err(|error| spec_error("accounts", error))?;
    }
    for preset in &build.spec.presets {
        add_preset(&mut tree, *preset, packages).map_err(|error| spec_error("presets", error))?;
    }
    Ok(tree)
}

/// The trees of `contents`, merged as `symlinkJoin` merges them.
fn merged(build: &Build<'_>, contents: &[StorePath], listings: &Listings) -> Result<RootTree, BuildError> {
    let mut tree = RootTree::default();
    for (index, path) in contents.iter().enumerate() {
        let listing = listings.get(path).ok_or(BuildError::Thread)?;
        listing.link(path, &mut tree).map_err(|error| {
            let key = KeyPath::root().key("contents").index(index);
            let fix = "name a package whose output is a folder, or put the file into the image with `paths`";
            BuildError::Spec(build.spec.error_at(&key, error.to_string(), fix))
        })?;
    }
    Ok(tree)
}

/// The text of `extraCommands`.
pub(super) fn script(build: &Build<'_>, packages: &Packages) -> Result<String, BuildError> {
    build.spec.extra_commands.render(|package| packages.store_path(package)).map_err(|error| {
        let key = KeyPath::root().key("extraCommands");
        let fix = "name a package of the package set";
        BuildError::Spec(build.spec.error_at(&key, error.to_string(), fix))
    })
}

async fn after_commands(
    build: &Build<'_>,
    packages: &Packages,
    store: &StorePaths,
    tree: RootTree,
    quota: &Quota<'_>,
) -> Result<RootTree, BuildError> {
    let failed = |source| BuildError::Scratch { folder: build.scratch.to_owned(), source };
    let script = script(build, packages)?;
    let folder = build.scratch.join("commands");
    let made = folder.clone();
    let written = blocking(move || {
        // What an earlier try left must not show.
        folder::remove(&made)?;
        files::write(&tree, &made.join(commands::TREE))
    });
    written.await?.map_err(failed)?;
    commands::run(build, packages, store, &script, &folder, quota).await?;
    blocking(move || files::read(&folder.join(commands::TREE))).await?.map_err(BuildError::Left)
}

fn apply(
    build: &Build<'_>,
    tree: &mut RootTree,
    entry: &PathEntry,
    copied: &[Copied],
    key: &KeyPath,
) -> Result<(), BuildError> {
    let path = in_tree(&entry.path);
    let owned = |node: RootNode| RootNode {
        uid: entry.uid.unwrap_or_default(),
        gid: entry.gid.unwrap_or_default(),
        ..node
    };
    let mode_of = |mode: &Mode| u32::from(mode.bits());
    let applied = match &entry.action {
        PathAction::Directory { mode } => tree.insert(path, owned(RootNode::directory(mode_of(mode)))),
        PathAction::File { content, mode } => tree.insert(path, owned(text_file(mode_of(mode), content))),
        PathAction::Symlink { target } => tree.insert(path, owned(RootNode::symlink(target.as_bytes()))),
        PathAction::Permissions { mode, recursive } => {
            change(tree, path, *recursive, mode.as_ref().map(mode_of), entry)
        }
        PathAction::Copy { .. } => copied
            .iter()
            .try_for_each(|file| tree.insert(&files::join(path, &file.below), owned(file.node.clone()))),
    };
    applied.map_err(|error| {
        BuildError::Spec(build.spec.error_at(&key.key("path"), error.to_string(), "name another path"))
    })
}

/// Changes what is there, and with `recursive` what is below it; links have nothing to change.
fn change(
    tree: &mut RootTree,
    path: &[u8],
    recursive: bool,
    mode: Option<u32>,
    entry: &PathEntry,
) -> Result<(), TreeError> {
    let below = [path, b"/"].concat();
    let is_meant = |found: &[u8], node: &RootNode| {
        found == path || recursive && found.starts_with(&below) && !matches!(node.kind, RootKind::Symlink(_))
    };
    let meant = tree.iter().filter(|(found, node)| is_meant(found, node));
    let meant: Vec<_> = meant.map(|(found, node)| (found.to_vec(), node.mode, node.uid, node.gid)).collect();
    if meant.is_empty() {
        return Err(TreeError::Missing(format!("/{}", String::from_utf8_lossy(path))));
    }
    for (path, old_mode, old_uid, old_gid) in meant {
        let (uid, gid) = (entry.uid.unwrap_or(old_uid), entry.gid.unwrap_or(old_gid));
        tree.set_permissions(&path, mode.unwrap_or(old_mode), uid, gid)?;
    }
    Ok(())
}

fn in_tree(path: &ImagePath) -> &[u8] {
    path.as_str().trim_start_matches('/').as_bytes()
}

fn text_file(mode: u32, text: &str) -> RootNode {
    RootNode::file(mode, Contents::Bytes(text.into()))
}

const PASSWD: &str = "root:x:0:0:root user:/root:/bin/sh\nnobody:x:65534:65534:nobody:/var/empty:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\n";

fn add_accounts(tree: &mut RootTree, accounts: &Accounts) -> Result<(), TreeError> {
    tree.insert(b"etc/passwd", text_file(0o644, &passwd(accounts)))?;
    tree.insert(b"etc/group", text_file(0o644, &group(accounts)))
}

/// `/etc/passwd` (passwd(5)).
pub(super) fn passwd(accounts: &Accounts) -> String {
    let user = |user: &User| {
        format!("{}:x:{}:{}:{}:{}:{}\n", user.name, user.uid, user.gid, user.gecos, user.home, user.shell)
    };
    PASSWD.to_owned() + &accounts.users.iter().map(user).collect::<String>()
}

/// `/etc/group` (group(5)).
pub(super) fn group(accounts: &Accounts) -> String {
    let group = |group: &Group| format!("{}:x:{}:{}\n", group.name, group.gid, group.members.join(","));
    GROUP.to_owned() + &accounts.groups.iter().map(group).collect::<String>()
}

fn add_preset(tree: &mut RootTree, preset: Preset, packages: &Packages) -> Result<(), TreeError> {
    for (path, node) in preset_nodes(preset, packages) {
        if tree.get(path.as_bytes()).is_none() {
            tree.insert(path.as_bytes(), node)?;
        }
    }
    Ok(())
}

/// What a preset puts where nothing is yet.
pub(super) fn preset_nodes(preset: Preset, packages: &Packages) -> Vec<(&'static str, RootNode)> {
    let in_package = |package: &str, file: &str| {
        packages.named(package).map_or_else(Vec::new, |path| format!("{path}/{file}").into_bytes())
    };
    match preset {
        Preset::Tmp => vec![("tmp", RootNode::directory(0o1777)), ("var/tmp", RootNode::directory(0o1777))],
        Preset::UsrBinEnv => vec![("usr/bin/env", RootNode::symlink(in_package(COREUTILS, "bin/env")))],
        Preset::BinSh => vec![("bin/sh", RootNode::symlink(in_package(BASH, "bin/bash")))],
        // Where OpenSSL, Go and GnuTLS look, and the distributions that programs are written for.
        Preset::CaCertificates => [
            "etc/ssl/certs/ca-bundle.crt",
            "etc/ssl/certs/ca-certificates.crt",
            "etc/pki/tls/certs/ca-bundle.crt",
        ]
        .map(|file| (file, RootNode::symlink(in_package(CACERT, "etc/ssl/certs/ca-bundle.crt"))))
        .to_vec(),
        Preset::Nss => vec![
            ("etc/passwd", text_file(0o644, PASSWD)),
            ("etc/group", text_file(0o644, GROUP)),
            ("etc/nsswitch.conf", text_file(0o644, "hosts: files dns\n")),
            ("var/empty", RootNode::directory(0o555)),
        ],
    }
}
