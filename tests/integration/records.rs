//! What a host records of layers, and when that is found out to be wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use nixlayer::oci::Digest;
use serde_json::{Value, json};

use crate::support::signing_job::{
    SPEC, build, build_with, cache, freshen, key_file, keygen, plain, push_with, requests, sign, signing_job,
    try_push, without_store,
};
use crate::support::{Packages, TestJob};

/// Without a key, what this host has made itself still counts.
#[test]
fn a_host_without_a_key_remembers_its_own_layers() {
    let cache = cache();
    let mut job = without_store(signing_job(SPEC), &cache);
    job.admin["records"] = json!({});
    build(&job, "latest");
    let (before, downloads) = (job.registry.log().len(), cache.requests().len());

    build(&job, "latest");

    assert_eq!(requests(&job, before).len(), 3);
    assert_eq!(cache.requests().len(), downloads);

    // On another host there is nobody whose word counts, and the log says so.
    freshen(&job);
    let said = build(&job, "latest");
    let line = format!(
        "the layer records of `{}/team/app:latest` are not used: they are not signed; hosts that are to believe each other need \
         keys (`nixlayer keygen`)",
        job.registry_host
    );
    assert!(said.contains(&line), "{said}");
    assert!(cache.requests().len() > downloads);
}

/// Records that are lost, cut short or older than the image cost a push its speed, never its truth.
#[test]
fn a_record_of_the_host_that_is_broken_is_made_again() {
    let mut job = signing_job(&plain());
    job.admin["records"] = json!({});
    build(&job, "latest");
    let digest = job.tag("latest");
    for folder in fs::read_dir(job.place("state/records")).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            let file = fs::OpenOptions::new().write(true).open(file.unwrap().path()).unwrap();
            file.set_len(100).unwrap();
        }
    }

    let said = build(&job, "latest");

    assert!(!said.contains("layers: 0 (0 B) built"), "{said}");
    assert_eq!(job.tag("latest"), digest);
    assert!(build(&job, "latest").contains("layers: 0 (0 B) built"));
}

#[test]
fn verifying_makes_every_layer_and_finds_a_wrong_record() {
    let job = signing_job(&plain());
    build(&job, "latest");
    let verified = build_with(&job, "latest", &["--verify-layers"]);
    assert!(verified.contains(", 0 (0 B) reused; 0 B sent"), "{verified}");

    // A record as this host would write it, of other bytes than it makes.
    let (file, mut words) = a_record_of_the_host(&job);
    falsify(&file, &mut words);

    let failed = try_push(&job, &format!("{}/team/app:other", job.registry_host), &["--verify-layers"], &[]);

    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains(&format!("and the record of this host says `{}`", words[2])), "{said}");
    assert_eq!(job.tag("other"), None);
}

/// The record under the key of a store layer of `job`'s host, as a file, and its words.
fn a_record_of_the_host(job: &TestJob) -> (PathBuf, Vec<String>) {
    let folder = fs::read_dir(job.place("state/records")).unwrap().next().unwrap().unwrap().path();
    let file = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&file).unwrap();
    let words = text.lines().next().unwrap().split(' ').map(str::to_owned).collect();
    (file, words)
}

/// Makes a record of the host say that the layer is another blob.
fn falsify(file: &std::path::Path, words: &mut [String]) {
    words[2] = Digest::of(b"other").to_string();
    let line = words.join(" ");
    fs::write(file, format!("{line}\n{}\n", Digest::of(line.as_bytes()))).unwrap();
}

#[test]
fn a_registry_that_says_otherwise_than_this_host_is_not_believed() {
    let job = signing_job(&plain());
    build(&job, "latest");
    let digest = job.tag("latest");
    let (file, mut words) = a_record_of_the_host(&job);
    falsify(&file, &mut words);

    let said = build(&job, "latest");

    let reason = format!("are not used: this host has made another layer of `{}`", words[0]);
    assert!(said.contains(&reason), "{said}");
    // What the host knew of that layer is nowhere, so it was made again.
    assert!(said.contains("layers: 1 ("), "{said}");
    assert_eq!(job.tag("latest"), digest);
}

#[test]
fn verifying_finds_a_false_record_that_a_trusted_key_has_signed() {
    let mut job = signing_job(&plain());
    let public = keygen(&job, "runner-2");
    // A host whose store or program is broken: it believes a false record of its own, and signs it.
    sign(&mut job, "runner-2");
    build(&job, "good");
    let (file, mut words) = a_record_of_the_host(&job);
    falsify(&file, &mut words);
    let failed = try_push(&job, &format!("{}/team/app:x", job.registry_host), &["--verify-layers"], &[]);
    assert!(!failed.status.success());
    // The record that was wrong is right now.
    assert!(build_with(&job, "x", &["--verify-layers"]).contains("0 B sent"));

    freshen(&job);
    job.admin["records"] = json!({ "key_file": key_file(&job, "runner-1"), "public_keys": [public] });
    assert!(build_with(&job, "good", &["--verify-layers"]).contains(", 0 (0 B) reused; "));
}

/// A builder that can write to the store, or a bad disk, must not get a layer signed that is not what its key says.
#[test]
fn a_store_path_that_is_not_what_its_hash_says_makes_no_layer() {
    let packages = Packages::new();
    let package = packages.add("tampered", |path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("file"), "honest\n").unwrap();
    });
    let job = signing_job(&format!("name: t\ncontents: [{package}]\ncreated: epoch\n"));
    let file = package.to_path_buf().join("file");
    let write = |text: &str| {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    };
    let there = format!("{}/team/app:latest", job.registry_host);
    write("hostile\n");

    let failed = try_push(&job, &there, &[], &[]);

    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains(&format!("`{package}` on this host has a NAR of the hash `sha256:")), "{said}");
    assert!(said.contains(&format!("nix-store --repair-path {package}")), "{said}");
    assert_eq!(job.tag("latest"), None);

    write("honest\n");
    let said = push_with(&job, &there, &[], &[]);
    let layer = said.lines().find(|line| line.starts_with("layer   1 ")).unwrap_or_default();
    assert!(layer.contains("  new  "), "it is recorded: {said}");
}

/// Commands run with programs that other builders may have changed.
#[test]
fn what_commands_make_is_not_recorded_where_builders_can_write_to_the_store() {
    let job = signing_job(SPEC);
    build(&job, "latest");

    let said = build(&job, "latest");

    assert!(said.contains("layers: 1 ("), "{said}");
    assert!(said.contains("there   files of the image itself"), "{said}");
    let manifest: Value =
        serde_json::from_slice(&job.registry.manifest("team/app", "latest").unwrap()).unwrap();
    let (last, others) = manifest["layers"].as_array().unwrap().split_last().unwrap();
    let recorded = |layer: &Value| layer["annotations"]["dev.nixlayer.layer.key"].is_string();
    assert!(!recorded(last) && others.iter().all(recorded));
}
