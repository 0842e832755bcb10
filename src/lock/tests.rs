use proptest::prelude::*;

use super::*;
use crate::nix::PathInfo;

const SPEC: &str = "name: app\nnixpkgs: ./packages\ncontents: [hello]\nextraCommands: ln -s ${pkgs.jq} x\n";

fn spec(text: &str) -> ImageSpec {
    ImageSpec::parse("image.yaml", text.as_bytes()).unwrap()
}

fn path(name: &str) -> StorePath {
    let digit = name.as_bytes()[0] % 10;
    StorePath::from_base_name(&format!("{}-{name}", digit.to_string().repeat(32))).unwrap()
}

fn info(name: &str, references: &[&str]) -> PathInfo {
    PathInfo {
        path: path(name),
        nar_hash: NarHash::from_bytes([7; 32]),
        nar_size: 120,
        references: references.iter().map(|name| path(name)).collect(),
    }
}

/// `hello` and `jq` need `glibc`; `bash` and `coreutils` are there for the commands.
fn lock() -> Lock {
    let closure = Closure::new([
        info("hello", &["glibc", "hello"]),
        info("jq", &["glibc"]),
        info("glibc", &[]),
        info("bash", &["glibc"]),
        info("coreutils", &["glibc"]),
    ]);
    let package = |name: &str| (name.to_owned(), LockedPackage { path: path(name), package_set: None });
    let locked = LockedSystem {
        packages: ["hello", "jq", "bash", "coreutils"].map(package).into(),
        closure: closure.unwrap(),
    };
    Lock {
        spec: digest_of(&spec(SPEC)),
        package_set: PackageSet { source: "./packages".to_owned(), revision: None, nar_hash: None },
        folders: folders(1),
        systems: BTreeMap::from([("x86_64-linux".parse().unwrap(), locked)]),
    }
}

fn folders(byte: u8) -> BTreeMap<String, NarHash> {
    BTreeMap::from([("./packages".to_owned(), NarHash::from_bytes([byte; 32]))])
}

fn resolve(lock: &Lock, text: &str, system: &str) -> Result<Resolved, Outdated> {
    lock.resolve(&spec(text), system.parse().unwrap(), &folders(1))
}

fn names(closure: &Closure) -> Vec<&str> {
    closure.paths().map(StorePath::name).collect()
}

#[test]
fn a_lock_says_what_the_image_holds_and_what_its_commands_see() {
    let resolved = resolve(&lock(), SPEC, "x86_64-linux").unwrap();

    assert_eq!(resolved.paths, ["hello", "jq", "bash", "coreutils"].map(path));
    assert_eq!(names(&resolved.image), ["glibc", "hello", "jq"]);
    assert_eq!(names(&resolved.tools), ["glibc", "hello", "jq", "bash", "coreutils"]);
}

#[test]
fn what_the_lock_does_not_depend_on_may_change() {
    let other = format!("{SPEC}tags: [next]\nconfig: {{ Cmd: [/bin/hello] }}\nlayers: {{ max: 9 }}\n");

    assert!(resolve(&lock(), &other, "x86_64-linux").is_ok());
}

#[test]
fn a_spec_that_moved_on_is_told_how_and_what_mends_it() {
    let expect = |text: &str, system, message: &str| {
        assert_eq!(resolve(&lock(), text, system).unwrap_err().to_string(), message);
    };
    let more = SPEC.replace("[hello]", "[hello, git]");
    let less = SPEC.replace("${pkgs.jq}", "jq");
    let moved = SPEC.replace("./packages", "<nixpkgs>");

    expect(&more, "x86_64-linux", "`git` is not in the lock");
    expect(&less, "x86_64-linux", "`jq` is in the lock, and the spec has no use for it");
    expect(
        &moved,
        "x86_64-linux",
        "the lock is of the package set `./packages`, and the spec's is `<nixpkgs>`",
    );
    expect(SPEC, "aarch64-linux", "the lock has nothing for aarch64-linux, only for x86_64-linux");
    let changed = lock().resolve(&spec(SPEC), System::HOST, &folders(2));
    assert_eq!(
        changed.unwrap_err().to_string(),
        "the files in `./packages` have changed since the lock was written"
    );
    assert_eq!(
        resolve(&lock(), SPEC, "aarch64-linux").unwrap_err().fix("image.yaml"),
        "run `nixlayer lock --system x86_64-linux --system aarch64-linux image.yaml` where Nix is, and commit \
         the file that it writes"
    );
}

/// The order is that of names, not of hashes: `bash` is before `hello`, whose hash has smaller digits.
#[test]
fn the_file_is_for_people_too() {
    let mut small = lock();
    for locked in small.systems.values_mut() {
        locked.packages.remove("jq");
        locked.closure = locked.closure.reachable_from([&path("hello"), &path("bash")]);
    }

    insta::assert_snapshot!("lock_file", small.to_json());
}

#[test]
fn what_is_no_lock_is_refused_and_named() {
    let good = lock().to_json();
    for (from, to, message) in [
        (
            "\"version\": 1",
            "\"version\": 2",
            "`image.lock.json` has format version 2, and this program knows version 1",
        ),
        ("{", "<<<<<<< HEAD\n{", "expected value at line 1 column 1"),
        ("\"spec\"", "\"sepc\"", "unknown field `sepc`"),
        ("x86_64-linux", "x86_64-darwin", "`x86_64-darwin` is not a system that images can be of"),
        ("\"jq\":", "\"hello\":", "`hello` is there twice"),
        ("\"narSize\": 120", "\"narSize\": -1", "invalid value: integer `-1`, expected u64"),
        (
            "-glibc\",\n          \"narHash\"",
            "-musl\",\n          \"narHash\"",
            "which is not among the paths",
        ),
        ("\"hello\": \"4", "\"hello\": \"5", "-hello`, which it does not describe"),
        ("sha256:", "sha512:", "sha512:"),
    ] {
        assert!(good.contains(from), "{from:?} is not in {good}");
        let error = Lock::parse("image.lock.json", good.replacen(from, to, 1).as_bytes()).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let said = format!("{error}: {cause}");
        assert!(said.contains(message) && said.contains("image.lock.json"), "{to:?}: {said}");
    }
}

#[test]
fn a_lock_that_is_cut_anywhere_is_refused() {
    let json = lock().to_json();
    // Only the line end may be missing.
    for length in 0..json.len() - 1 {
        assert!(Lock::parse("image.lock.json", &json.as_bytes()[..length]).is_err(), "{length} bytes");
    }
}

/// Planning takes the square of it, and a lock is a file of anybody's.
#[test]
fn more_paths_than_can_be_planned_are_refused() {
    let path = |number: usize| format!("{number:0>32}-p");
    let entry = |number| json!({ "path": path(number), "narHash": NarHash::from_bytes([7; 32]).to_string(), "narSize": 1, "references": [] });
    let mut file: serde_json::Value = serde_json::from_str(&lock().to_json()).unwrap();
    file["systems"]["x86_64-linux"]["packages"] = json!({});
    file["systems"]["x86_64-linux"]["closure"] = (0..20_001).map(entry).collect();

    let error = Lock::parse("image.lock.json", file.to_string().as_bytes()).unwrap_err();

    assert_eq!(error.to_string(), "`image.lock.json` describes more than 20000 store paths for x86_64-linux");
}

#[test]
fn the_lock_stands_beside_its_spec() {
    assert_eq!(file_name("image.yaml"), "image.lock.json");
    assert_eq!(file_name("deploy/web.yml"), "deploy/web.lock.json");
}

proptest! {
    #[test]
    fn reading_undoes_writing(size in 1..=1u64 << 44, hash: [u8; 32], revision: Option<String>, alone: bool) {
        let mut lock = lock();
        lock.package_set.revision = revision.clone();
        let set = PackageSet { source: "./packages".to_owned(), revision, nar_hash: None };
        for locked in lock.systems.values_mut() {
            let other = PathInfo { nar_size: size, nar_hash: NarHash::from_bytes(hash), ..info("other", &["other"]) };
            locked.closure = Closure::new(locked.closure.infos().cloned().chain([other])).unwrap();
            let package_set = alone.then(|| set.clone());
            locked.packages.insert("other".to_owned(), LockedPackage { path: path("other"), package_set });
        }

        prop_assert_eq!(Lock::parse("image.lock.json", lock.to_json().as_bytes()).unwrap(), lock);
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = Lock::parse("image.lock.json", &bytes);
    }
}
