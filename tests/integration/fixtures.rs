//! What the tests of binary caches stand on: packages of a test's own, caches and servers, and that they are what they
//! say they are.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use nixlayer::nix::StorePath;
use tempfile::TempDir;

use crate::support::{BinaryCache, Packages, closure_of, environment, indirect_roots, nix, succeed};

/// A file, an executable, a link, an empty folder and odd names.
fn write_oddities(folder: &Path) {
    fs::create_dir_all(folder.join("empty")).unwrap();
    fs::write(folder.join("a file"), "text\n").unwrap();
    fs::write(folder.join("é.txt"), "").unwrap();
    fs::write(folder.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(folder.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("a file", folder.join("link")).unwrap();
}

/// Two packages, of which the second refers to the first.
const LIB_AND_APP: &str = r#"
    lib = run "lib-1.0" "echo lib > $out";
    app = run "app-1.0" "mkdir $out; ln -s ${lib} $out/lib";
"#;

#[test]
fn environment_has_signed_caches_of_both_sets() {
    let environment = environment();

    for (folder, set) in
        [(&environment.cache_small, &environment.small), (&environment.cache_seed, &environment.seed)]
    {
        let mut cached: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        cached.retain(|file| file.extension().is_some_and(|extension| extension == "narinfo"));
        assert_eq!(cached.len(), closure_of(set).len(), "{}", folder.display());
        let there = TempDir::new().unwrap();
        let hello = environment.package("hello");
        let url = format!("file://{}", folder.display());
        succeed(nix_copy(&url, &environment.cache_public_key, hello, there.path()));
        assert!(there.path().join(format!(".{hello}/bin/hello")).is_file());
    }
}

#[test]
fn packages_are_held_while_the_fixture_lives_and_gone_after_it() {
    let packages = Packages::new();
    let odd = packages.add("odd", write_oddities);
    let [lib, app] = packages.build(LIB_AND_APP, ["lib", "app"]);
    let bindings = r#"foreign = runFor "aarch64-linux" "foreign-1.0" "echo arm > $out";"#;
    let [foreign] = packages.build(bindings, ["foreign"]);

    let mut expected = vec![app.to_string(), lib.to_string()];
    expected.sort_unstable();
    assert_eq!(closure_of([&app]), expected);
    assert_eq!(fs::read_link(odd.to_path_buf().join("link")).unwrap(), Path::new("a file"));
    let derivation =
        succeed(nix("nix-store").args(["-q", "--deriver", &foreign.to_string()]).output().unwrap());
    assert!(fs::read_to_string(derivation.trim()).unwrap().contains("\"aarch64-linux\""));
    let all = [odd, lib, app, foreign].map(|path| path.to_string());
    let delete = nix("nix-store").arg("--delete").args(&all).output().unwrap();
    assert!(!delete.status.success(), "nothing holds them");

    let folder = packages.folder().to_owned();
    drop(packages);

    assert_eq!(all.iter().find(|path| Path::new(path).exists()), None);
    assert!(!Path::new(derivation.trim()).exists());
    assert!(indirect_roots(&folder).is_empty() && !folder.exists());
}

#[test]
fn real_nix_reads_caches_of_every_compression() {
    let packages = Packages::new();
    let odd = packages.add("odd", write_oddities);

    for (compression, extension) in
        [("none", "nar"), ("zstd", "zst"), ("gzip", "nar"), ("bzip2", "bz2"), ("xz", "xz"), ("br", "br")]
    {
        let cache = BinaryCache::of([&odd], compression);

        let narinfo = fs::read_to_string(cache.narinfo(&odd)).unwrap();
        assert!(narinfo.contains(&format!("\nCompression: {compression}\n")), "{narinfo}");
        assert_eq!(cache.nar(&odd).extension().unwrap(), extension);
        assert!(cache.nar(&odd).starts_with(cache.folder()) && cache.nar(&odd).is_file());
        let there = TempDir::new().unwrap();
        succeed(nix_copy(&cache.file_url(), &environment().cache_public_key, &odd, there.path()));
        let arrived = there.path().join(format!(".{odd}"));
        let same = Command::new("diff")
            .args(["--recursive", "--no-dereference"])
            .args([&arrived, &odd.to_path_buf()])
            .output();
        succeed(same.unwrap());
    }
}

#[test]
fn real_nix_wants_the_signature_of_a_key_it_trusts() {
    let packages = Packages::new();
    let [lib, app] = packages.build(LIB_AND_APP, ["lib", "app"]);
    let keys = TempDir::new().unwrap();
    let key = |name: &str| keys.path().join(name);
    let generate = nix("nix-store")
        .args(["--generate-binary-cache-key", "other-1"])
        .args([key("sec"), key("pub")])
        .output()
        .unwrap();
    succeed(generate);
    let other = fs::read_to_string(key("pub")).unwrap();
    let ours = environment().cache_public_key;
    let arrives = |cache: &BinaryCache, trusted: &str| {
        let there = TempDir::new().unwrap();
        nix_copy(&cache.file_url(), trusted, &app, there.path()).status.success()
    };

    let cache = BinaryCache::of([&app], "none");
    assert!(arrives(&cache, &ours) && !arrives(&cache, &other));
    let cache = BinaryCache::signed_by([app.to_string()], "none", &key("sec"));
    assert!(!arrives(&cache, &ours) && arrives(&cache, &other));
    let cache = BinaryCache::unsigned([&app], "none");
    assert!(!arrives(&cache, &ours) && !arrives(&cache, &other));
    let cache = BinaryCache::of([&app], "none");
    cache.edit_narinfo(&lib, |text| text.replace("NarSize: ", "NarSize: 1"));
    assert!(!arrives(&cache, &ours));
}

/// Copies `path` and its closure from the binary cache at `url` into a store of its own in `there`, if they are signed
/// with the key `trusted`.
fn nix_copy(url: &str, trusted: &str, path: &StorePath, there: &Path) -> Output {
    nix("nix")
        .args(["--extra-experimental-features", "nix-command", "copy", "--from", url, "--to"])
        .arg(there)
        .args(["--option", "trusted-public-keys", trusted])
        .arg(path.to_string())
        // Nix remembers what it read from an address, and the next server may have the same.
        .env("XDG_CACHE_HOME", there.join("cache"))
        .output()
        .unwrap()
}
