use proptest::prelude::*;

use super::*;

fn package(name: &str) -> StorePath {
    StorePath::from_base_name(&format!("{}-{name}", "0".repeat(32))).unwrap()
}

/// Links entries given as `path/` for a folder, `path -> target` for a link, `path` for a file.
fn link(tree: &mut RootTree, name: &str, entries: &[&str]) -> Vec<Linked> {
    let linked = entries.iter().map(|text| {
        let mut contents: &[u8] = b"";
        let (path, node) = if let Some((path, target)) = text.split_once(" -> ") {
            (path, Node::Symlink { target: target.as_bytes() })
        } else if let Some(path) = text.strip_suffix('/') {
            (path, Node::Directory)
        } else {
            (*text, Node::Regular { executable: false, size: 0, contents: &mut contents })
        };
        tree.link(&package(name), &Entry { path: path.as_bytes(), node }).unwrap()
    });
    linked.collect()
}

/// The tree in the notation of `link`, with the store's folder and the hash left out.
fn listing(tree: &RootTree) -> Vec<String> {
    let line = |(path, node): (&[u8], &RootNode)| {
        let path = String::from_utf8_lossy(path);
        match &node.kind {
            RootKind::Directory => format!("{path}/"),
            RootKind::Regular(_) => path.into_owned(),
            RootKind::Symlink(target) => {
                let target = String::from_utf8_lossy(target);
                format!("{path} -> {}", target.replace(&format!("/nix/store/{}-", "0".repeat(32)), ""))
            }
        }
    };
    tree.iter().map(line).collect()
}

fn file(text: &str) -> RootNode {
    RootNode::file(0o644, Contents::Bytes(text.into()))
}

#[test]
fn packages_become_folders_with_links_into_the_store() {
    let mut tree = RootTree::new();

    link(
        &mut tree,
        "jq",
        &["/", "bin/", "bin/jq", "lib/", "lib/l.so -> l.so.1", "nix-support/", "nix-support/x"],
    );
    link(&mut tree, "git", &["/", "bin/", "bin/git", "etc/"]);

    assert_eq!(
        listing(&tree),
        [
            "bin/",
            "bin/git -> git/bin/git",
            "bin/jq -> jq/bin/jq",
            "etc/",
            "lib/",
            "lib/l.so -> jq/lib/l.so",
            "nix-support/",
            "nix-support/x -> jq/nix-support/x",
        ]
    );
    let modes = |path: &[u8]| tree.get(path).map(|node| (node.mode, node.uid, node.gid));
    assert_eq!(modes(b"bin"), Some((0o755, 0, 0)));
    assert_eq!(modes(b"bin/jq"), Some((0o777, 0, 0)));
}

#[test]
fn the_first_package_wins_every_clash() {
    use Linked::{Hidden, Visible};
    for (first, later, outcome, expected) in [
        (&["f"][..], &["f"][..], &[Hidden][..], &["f -> one/f"][..]),
        (&["f -> g"], &["f"], &[Hidden], &["f -> one/f"]),
        (&["d/", "d/a"], &["d/", "d/b"], &[Visible, Visible], &["d/", "d/a -> one/d/a", "d/b -> two/d/b"]),
        (&["d/"], &["d -> e"], &[Hidden], &["d/"]),
        (&["d -> e"], &["d/", "d/b", "d/c/", "d/c/f"], &[Hidden; 4], &["d -> one/d"]),
        (&["d"], &["d/", "d/b"], &[Hidden; 2], &["d -> one/d"]),
    ] {
        let mut tree = RootTree::new();
        link(&mut tree, "one", first);

        assert_eq!(link(&mut tree, "two", later), outcome, "{first:?}, then {later:?}");
        assert_eq!(listing(&tree), expected, "{first:?}, then {later:?}");
    }
}

#[test]
fn a_package_that_is_no_folder_cannot_be_linked() {
    for node in [
        Node::Regular { executable: true, size: 0, contents: &mut io::empty() },
        Node::Symlink { target: b"/nix/store" },
    ] {
        let linked = RootTree::new().link(&package("script"), &Entry { path: b"", node });
        assert_eq!(linked, Err(TreeError::NotAFolder(package("script"))));
    }
}

#[test]
fn inserting_makes_the_missing_parents() {
    let mut tree = RootTree::new();
    tree.insert(b"var/lib/app/state", file("x")).unwrap();
    tree.insert(b"var/tmp", RootNode::directory(0o1777)).unwrap();

    assert_eq!(listing(&tree), ["var/", "var/lib/", "var/lib/app/", "var/lib/app/state", "var/tmp/"]);
    assert_eq!(tree.get(b"var/lib").map(|node| node.mode), Some(0o755));
    assert_eq!(tree.get(b"var/tmp").map(|node| node.mode), Some(0o1777));
}

#[test]
fn only_like_takes_the_place_of_like() {
    let mut tree = RootTree::new();
    link(&mut tree, "bash", &["bin/", "bin/sh"]);

    tree.insert(b"bin/sh", file("#!")).unwrap();
    tree.insert(b"bin/sh", RootNode::symlink("bash")).unwrap();
    tree.insert(b"bin", RootNode::directory(0o700)).unwrap();

    assert_eq!(listing(&tree), ["bin/", "bin/sh -> bash"]);
    assert_eq!(tree.get(b"bin").map(|node| node.mode), Some(0o700));
    assert_eq!(tree.insert(b"bin", file("")), Err(TreeError::Occupied("/bin".into())));
    assert_eq!(
        tree.insert(b"bin/sh", RootNode::directory(0o755)),
        Err(TreeError::Occupied("/bin/sh".into()))
    );
}

#[test]
fn nothing_is_inserted_below_a_link_or_file() {
    let mut tree = RootTree::new();
    tree.insert(b"lib64", RootNode::symlink("lib")).unwrap();
    tree.insert(b"etc/motd", file("")).unwrap();

    for (path, parent) in [("/lib64/x", "/lib64"), ("/lib64/x/y", "/lib64"), ("/etc/motd/x", "/etc/motd")] {
        let error = TreeError::Below { path: path.into(), parent: parent.into() };
        assert_eq!(tree.insert(&path.as_bytes()[1..], file("")), Err(error));
    }
    assert_eq!(listing(&tree), ["etc/", "etc/motd", "lib64 -> lib"]);
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    let mut tree = RootTree::new();
    for path in ["", "/", "/etc", "etc/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b"] {
        let error = TreeError::Path(path.into());
        assert_eq!(tree.insert(path.as_bytes(), file("")), Err(error.clone()));
        assert_eq!(tree.set_permissions(path.as_bytes(), 0, 0, 0), Err(error));
        assert!(tree.get(path.as_bytes()).is_none());
    }
    for path in ["...", "..a", ".a/b.", " ", "é", "a\\..\\b"] {
        assert_eq!(tree.insert(path.as_bytes(), RootNode::directory(0o755)), Ok(()));
    }
}

#[test]
fn permissions_are_those_of_files_and_folders() {
    let mut tree = RootTree::new();
    tree.insert(b"srv/run", file("")).unwrap();
    tree.insert(b"srv/link", RootNode::symlink("run")).unwrap();

    tree.set_permissions(b"srv/run", 0o4750, 1000, 100).unwrap();

    let run = tree.get(b"srv/run").unwrap();
    assert_eq!((run.mode, run.uid, run.gid), (0o4750, 1000, 100));
    assert_eq!(tree.set_permissions(b"srv/link", 0, 0, 0), Err(TreeError::Link("/srv/link".into())));
    assert_eq!(tree.set_permissions(b"srv/none", 0, 0, 0), Err(TreeError::Missing("/srv/none".into())));
}

#[test]
fn siblings_are_ordered_by_name_and_not_by_path() {
    let mut tree = RootTree::new();
    for path in ["share/a.c", "share/a-b", "share/a/f", "share/a"] {
        let node = if path == "share/a" { RootNode::directory(0o755) } else { file("") };
        tree.insert(path.as_bytes(), node).unwrap();
    }

    assert_eq!(listing(&tree), ["share/", "share/a/", "share/a/f", "share/a-b", "share/a.c"]);
}

#[test]
fn only_root_has_a_name_in_the_tar() {
    let mut tree = RootTree::new();
    let node = |uid, gid| RootNode { uid, gid, ..RootNode::directory(0o755) };
    for (path, uid, gid) in [("a", 0, 0), ("b", 1000, 0), ("c", 0, 100)] {
        tree.insert(path.as_bytes(), node(uid, gid)).unwrap();
    }

    let tar = tree.write(Vec::new()).unwrap();

    let mut archive = ::tar::Archive::new(tar.as_slice());
    let names: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let header = entry.unwrap().header().clone();
            (header.username().unwrap().unwrap().to_owned(), header.groupname().unwrap().unwrap().to_owned())
        })
        .collect();
    assert_eq!(names, [("root", "root"), ("", "root"), ("root", "")].map(|(u, g)| (u.into(), g.into())));
}

#[test]
fn a_file_that_cannot_be_opened_fails_the_tar() {
    let mut tree = RootTree::new();
    let open: Open = Arc::new(|| Err(io::ErrorKind::NotFound.into()));
    tree.insert(b"gone", RootNode::file(0o644, Contents::Reader { size: 1, open })).unwrap();

    assert_eq!(tree.write(Vec::new()).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
}

#[derive(Clone, Debug, PartialEq)]
enum Plain {
    Folder,
    File(Vec<u8>),
    Link(Vec<u8>),
}

/// Not NUL, which no path has, nor a newline, which the reader of the test takes for a record's end.
fn any_byte() -> impl Strategy<Value = u8> {
    (1..=255u8).prop_filter("no newline", |byte| *byte != b'\n')
}

prop_compose! {
    fn any_path()(names in proptest::collection::vec(
        prop_oneof![
            "[ab.-]{1,2}".prop_map(String::into_bytes),
            "[a-zé漢 ]{1,120}".prop_map(String::into_bytes),
            proptest::collection::vec(any_byte(), 1..8),
        ].prop_filter("a name", |name| !name.contains(&b'/') && name != b"." && name != b".."),
        1..5,
    )) -> Vec<u8> {
        names.join(&b'/')
    }
}

fn any_kind() -> impl Strategy<Value = Plain> {
    prop_oneof![
        Just(Plain::Folder),
        proptest::collection::vec(any::<u8>(), 0..1500).prop_map(Plain::File),
        proptest::collection::vec(any_byte(), 1..150).prop_map(Plain::Link),
    ]
}

proptest! {
    /// Reading the tar back gives the tree: paths, modes, owners, contents, parents first.
    #[test]
    fn a_tar_holds_the_tree(
        inserted in proptest::collection::vec((any_path(), any_kind(), 0..0o10000u32, any::<u32>(), 0..3u32), 0..12),
    ) {
        let mut tree = RootTree::new();
        for (path, kind, mode, uid, gid) in inserted {
            let kind = match kind {
                Plain::Folder => RootKind::Directory,
                Plain::Link(target) => RootKind::Symlink(target),
                Plain::File(bytes) if mode % 2 == 0 => RootKind::Regular(Contents::Bytes(bytes)),
                Plain::File(bytes) => {
                    let size = bytes.len() as u64;
                    let open: Open = Arc::new(move || Ok(Box::new(io::Cursor::new(bytes.clone()))));
                    RootKind::Regular(Contents::Reader { size, open })
                }
            };
            // Below a file nothing fits, and that is another test's matter.
            let _ = tree.insert(&path, RootNode { mode, uid, gid, kind });
        }

        let tar = tree.write(Vec::new()).unwrap();

        let mut expected = Vec::new();
        for (path, node) in tree.iter() {
            let mut name = [b"/", path].concat();
            let kind = match &node.kind {
                RootKind::Directory => {
                    name.push(b'/');
                    Plain::Folder
                }
                RootKind::Symlink(target) => Plain::Link(target.clone()),
                RootKind::Regular(contents) => {
                    let mut bytes = Vec::new();
                    contents.open().unwrap().1.read_to_end(&mut bytes).unwrap();
                    Plain::File(bytes)
                }
            };
            expected.push((name, node.mode, u64::from(node.uid), u64::from(node.gid), kind));
        }
        let mut found = Vec::new();
        for entry in ::tar::Archive::new(tar.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let header = entry.header();
            let kind = match header.entry_type() {
                ::tar::EntryType::Directory => Plain::Folder,
                ::tar::EntryType::Symlink => Plain::Link(entry.link_name_bytes().unwrap().into_owned()),
                _ => Plain::File(bytes),
            };
            prop_assert_eq!(header.mtime().unwrap(), 1);
            let (mode, uid, gid) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
            found.push((entry.path_bytes().into_owned(), mode, uid, gid, kind));
        }
        for (place, (name, ..)) in found.iter().enumerate() {
            let parent = name.strip_suffix(b"/").unwrap_or(name);
            let parent = &parent[..=parent.iter().rposition(|&byte| byte == b'/').unwrap()];
            prop_assert!(parent == b"/" || found[..place].iter().any(|(earlier, ..)| earlier == parent));
        }
        prop_assert_eq!(found, expected);
    }
}
