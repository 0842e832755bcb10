//! The examples do what they and the README say.

use std::fs;
use std::path::Path;
use std::process::Command;

use nixlayer::nix::{NarInfo, PublicKey};
use tempfile::TempDir;

use crate::support::{Image, Kind, TestJob, skopeo, succeed};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// Hides Nix, its store and bubblewrap, then becomes the program that follows.
const BARE_MACHINE: &str = r#"
mount -t tmpfs none /nix
for program in /usr/bin/bwrap /usr/bin/nix*; do
  [ -e "$program" ] && mount --bind /dev/null "$(readlink -f "$program")"
done
exec "$@"
"#;

#[test]
fn the_first_command_of_the_readme_needs_nothing_but_rust() {
    let readme = fs::read_to_string(Path::new(PROJECT).join("README.md")).unwrap();
    assert!(
        readme.contains("\ncargo run --release -- simulate examples/hello --to oci:hello-image\n"),
        "{readme}"
    );
    let folder = TempDir::new().unwrap();
    let target = format!("oci:{}", folder.path().join("hello-image").display());

    let simulated = Command::new("unshare")
        .args(["--mount", "sh", "-c", BARE_MACHINE, "sh", env!("CARGO_BIN_EXE_nixlayer")])
        .args(["simulate", "examples/hello", "--to", &target])
        .current_dir(PROJECT)
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();

    let said = succeed(simulated);
    assert!(said.contains("\nJob succeeded\n"), "{said}");
    let inspected = succeed(skopeo(&["inspect", "--config", &format!("{target}:latest")]));
    assert!(inspected.contains("\"/bin/hello\""), "{inspected}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the image is left");
}

#[test]
fn the_lock_of_hello_is_current_and_its_cache_is_signed() {
    let job = TestJob::example("hello");

    assert!(succeed(job.nixlayer(&["lock", "--check"])).ends_with("`image.lock.json` is current\n"));

    let cache = job.place("project/cache");
    let key: PublicKey = fs::read_to_string(cache.join("public-key")).unwrap().parse().unwrap();
    let files = fs::read_dir(&cache).unwrap().map(|file| file.unwrap().path());
    let narinfos: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|name| name == "narinfo")).collect();
    assert_eq!(narinfos.len(), 2);
    for narinfo in narinfos {
        let narinfo = NarInfo::parse(&fs::read(narinfo).unwrap()).unwrap();
        assert!(narinfo.is_signed_by(std::slice::from_ref(&key)), "{narinfo:?}");
    }
}

#[test]
fn hello_becomes_an_image_for_another_machine() {
    let job = TestJob::example("hello");
    let spec = fs::read_to_string(job.place("project/image.yaml")).unwrap();
    let job = job.file("image.yaml", &format!("{spec}system: aarch64-linux\n"));

    succeed(job.build(&["image.yaml", "--to", "oci:image"], &[]));

    let image = Image::from_layout(&job.place("project/image"), "latest");
    assert_eq!(image.configuration["architecture"], "arm64");
    let root = image.root();
    let program = root["/bin/hello"].target();
    let (_, member) = image.layers[0].iter().find(|(path, _)| path == program).unwrap();
    let Kind::File(program) = &member.kind else { panic!("{member:?}") };
    // `e_machine` of an ELF header: 183 is AArch64.
    assert_eq!(program[18..20], [183, 0]);
}
