use super::*;
use crate::oci::Digest;
use crate::source::nix2container::pattern::Pattern;
use crate::source::nix2container::test_host::{PATH, TestHost};

fn permissions(pattern: &str, mode: Option<u32>) -> Permissions {
    let pattern = Pattern::new(pattern).unwrap();
    Permissions { pattern, mode, uid: 0, gid: 0, uname: None, gname: None }
}

fn moved(pattern: &str, replacement: &str) -> Options {
    let pattern = Pattern::new(pattern).unwrap();
    let rewrite = Rewrite { pattern, replacement: replacement.to_owned() };
    Options { rewrite: Some(rewrite), permissions: Vec::new() }
}

fn tar(host: &TestHost, paths: &[(&str, Option<&Options>)]) -> Result<Vec<u8>, LayerError> {
    let root = host.root();
    let mut tree = LayerTree::new(&root);
    for (path, options) in paths {
        tree.add(path, *options)?;
    }
    tree.write(Vec::new())
}

/// Name, mode and owner of the members.
fn listing(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let members = archive.entries().unwrap().map(|member| {
        let member = member.unwrap();
        let header = member.header();
        let names = (header.username().unwrap().unwrap(), header.groupname().unwrap().unwrap());
        let owner = format!("{}:{} {}:{}", header.uid().unwrap(), header.gid().unwrap(), names.0, names.1);
        let name = member.path_bytes();
        format!("{} {:o} {owner}", String::from_utf8_lossy(&name), header.mode().unwrap())
    });
    members.map(|line| line.replace(" 0:0 root:root", "")).collect()
}

/// The digests of nix2container's own tests at commit 20d3395, in `nix/tar_test.go` and `nix/layers_test.go`:
/// their paths are relative, and their files as git leaves them.
#[test]
fn layers_equal_those_of_nix2containers_tests() {
    let host = TestHost::new();
    host.file("../data/tar-directory/file1", 0o644, "content file1");
    host.link("../data/tar-directory/symlink", "file1");
    host.file("../data/layer1/file1", 0o644, "");
    let perms = Options { rewrite: None, permissions: vec![permissions(".*file1", Some(0o641))] };

    for (path, options, length, digest) in [
        (
            "../data/tar-directory",
            None,
            4096,
            "1ea63d00b937dc24c711265b80444cc9e7e63751fb7f349b160be61d31381983",
        ),
        (
            "../data/layer1/file1",
            None,
            3072,
            "cc45bd46eca903b0900ebb997dffd5778904dca9ec02e7375dd1e653dfb61e2e",
        ),
        (
            "../data/layer1/file1",
            Some(&perms),
            3072,
            "adf74a52f9e1bcd7dab77193455fa06743b979cf5955148010e5becedba4f72d",
        ),
    ] {
        let tar = tar(&host, &[(path, options)]).unwrap();

        assert_eq!((tar.len(), Digest::of(&tar).hex().as_str()), (length, digest));
    }
}

/// What `copyToRoot` does: the expression is the store path, and the replacement empty.
#[test]
fn a_path_that_moves_to_the_root_leaves_nothing_behind() {
    let host = TestHost::new();
    host.file(&format!("{PATH}/bin/hello"), 0o555, "hi");
    host.file("/nix/store/11111111111111111111111111111111-lib/lib", 0o444, "");
    host.folders_have(PATH, 0o555);

    let options = moved(&format!("^{PATH}"), "");
    let paths = [("/nix/store/11111111111111111111111111111111-lib", None), (PATH, Some(&options))];
    let tar = tar(&host, &paths).unwrap();

    assert_eq!(
        listing(&tar),
        [
            "/ 755",
            "/bin 555",
            "/bin/hello 555",
            "/nix 755",
            "/nix/store 755",
            "/nix/store/11111111111111111111111111111111-lib 755",
            "/nix/store/11111111111111111111111111111111-lib/lib 444",
        ]
    );
}

#[test]
fn a_path_can_become_the_root_or_lose_it() {
    let host = TestHost::new();
    host.file(&format!("{PATH}/bin/hello"), 0o555, "hi");
    host.folders_have(PATH, 0o555);

    let root = moved(&format!("^{PATH}"), "/");
    assert_eq!(
        listing(&tar(&host, &[(PATH, Some(&root))]).unwrap()),
        ["/ 555", "/bin 555", "/bin/hello 555"]
    );
    let relative = moved(&format!("^{PATH}/?"), "");
    assert_eq!(listing(&tar(&host, &[(PATH, Some(&relative))]).unwrap()), ["bin 555", "bin/hello 555"]);
}

#[test]
fn permissions_match_paths_in_the_store_and_later_ones_win() {
    let host = TestHost::new();
    host.file(&format!("{PATH}/tmp/a"), 0o444, "");
    host.file(&format!("{PATH}/tmp/b"), 0o444, "");
    host.link(&format!("{PATH}/tmp/link"), "a");
    let named = Permissions {
        uid: 7,
        gid: 8,
        uname: Some("u".to_owned()),
        gname: Some("g".to_owned()),
        ..permissions("", Some(0o1777))
    };
    let numbered = Permissions { uid: 1001, gid: 1001, ..permissions("0-vec-1.0/tmp/b$", None) };
    let options = Options { permissions: vec![named, numbered], ..moved(&format!("^{PATH}"), "") };

    let tar = tar(&host, &[(PATH, Some(&options))]).unwrap();

    // The names stay, as nix2container leaves them, where a later entry has none.
    assert_eq!(
        listing(&tar),
        [
            "/ 755",
            "/tmp 1777 7:8 u:g",
            "/tmp/a 1777 7:8 u:g",
            "/tmp/b 1777 1001:1001 u:g",
            "/tmp/link 1777 7:8 u:g"
        ]
    );
}

#[test]
fn two_files_at_one_place_must_look_alike() {
    let host = TestHost::new();
    let second = "/nix/store/11111111111111111111111111111111-b";
    host.file(&format!("{PATH}/f"), 0o444, "1");
    let one = moved(&format!("^{PATH}"), "");
    let other = moved(&format!("^{second}"), "");
    let both = |host: &TestHost, one: &Options| {
        let result = tar(host, &[(PATH, Some(one)), (second, Some(&other))]);
        result.map(|tar| listing(&tar)).map_err(|error| error.to_string())
    };
    let conflict =
        |what| Err(format!("`/f` comes from `{PATH}/f` and from `{second}/f`, which differ in {what}"));

    host.file(&format!("{second}/f"), 0o444, "2");
    assert_eq!(both(&host, &one), Ok(vec!["/ 755".to_owned(), "/f 444".to_owned()]));
    let perms = Options { permissions: vec![permissions("f", Some(0o400))], ..one.clone() };
    assert_eq!(both(&host, &perms), conflict("`perms`"));
    host.file(&format!("{second}/f"), 0o444, "22");
    assert_eq!(both(&host, &one), conflict("size"));
    host.file(&format!("{second}/f"), 0o555, "2");
    assert_eq!(both(&host, &one), conflict("kind or mode"));
}

#[test]
fn what_cannot_be_in_an_image_is_an_error() {
    let host = TestHost::new();
    host.file(&format!("{PATH}/d/f"), 0o444, "");
    host.file(&format!("{PATH}/g"), 0o444, "");
    let error = |options: &Options| tar(&host, &[(PATH, Some(options))]).unwrap_err().to_string();

    assert_eq!(
        error(&moved(&format!("^{PATH}"), "/etc/../..")),
        format!("`{PATH}` is to be moved to `/etc/../..`, which is no place in an image")
    );
    assert_eq!(
        error(&moved("/", &"/d".repeat(2000))),
        format!("`{PATH}` is to be moved to a path of more than 4096 bytes")
    );
    assert_eq!(
        error(&moved("(.*/g|.*/d/f)$", "/x/${1}/../y")),
        format!("`{PATH}/d/f` is to be moved to `/x/{PATH}/d/f/../y`, which is no place in an image")
    );

    let inside = moved(&format!("^{PATH}/d/f$"), &format!("{PATH}/g/f"));
    assert_eq!(error(&inside), format!("`{PATH}/g/f` cannot be in `{PATH}/g`, which is not a folder"));
    assert_eq!(
        tar(&host, &[("/nix/store/none", None)]).unwrap_err().to_string(),
        format!("`{}` cannot be read", host.root().join("nix/store/none").display())
    );
}
