//! What is there already is not sent again.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

use bzip2::read::BzEncoder;
use liblzma::read::XzEncoder;
use nixlayer::oci::{Digest, Manifest};

use crate::machine::{Machine, REPOSITORY, fail, skopeo, succeed, write};
use crate::seed::{LARGE, Seed, archive, gzip, layer, manifest};

#[test]
fn a_second_push_sends_no_layer() {
    let machine = Machine::new();
    let mut seed = Seed::new(11);
    write(&machine.place("a.tar"), &seed.streamed(&["app:1"]));
    succeed(&machine.push(&["docker-archive:a.tar", &machine.tagged("1")]));
    assert!(machine.uploaded(0) > LARGE);

    // The same image from a stream; then another image with the same layers.
    let before = machine.registry.log().len();
    let said = succeed(&machine.push_from(&machine.place("a.tar"), &["-", &machine.tagged("1")]));
    assert_eq!(machine.uploaded(before), 0, "{said}");
    assert!(said.contains("layers: 0 (0 B) built, 3 "), "{said}");

    seed.config.push(b'\n');
    write(&machine.place("b.tar"), &seed.streamed(&["app:1"]));
    let before = machine.registry.log().len();
    let said = succeed(&machine.push(&["docker-archive:b.tar", &machine.tagged("1")]));
    assert_eq!(machine.uploaded(before), seed.config.len(), "{said}");
    assert_eq!(machine.config("1"), seed.config);
    assert_eq!(machine.diff_ids("1"), seed.diff_ids());
}

#[test]
fn an_archive_that_is_compressed_sends_no_layer_twice_either() {
    let machine = Machine::new();
    let seed = Seed::new(17);
    write(&machine.place("a.tar.gz"), &seed.built(&["app:1"]));
    succeed(&machine.push(&["docker-archive:a.tar.gz", &machine.tagged("1")]));
    assert!(machine.uploaded(0) > LARGE);

    let before = machine.registry.log().len();
    let said = succeed(&machine.push(&["docker-archive:a.tar.gz", &machine.tagged("2")]));

    // A new tag is no reason to ask for the configuration, which is small.
    assert!(machine.uploaded(before) <= seed.config.len(), "{said}");
    assert_eq!(machine.config("2"), seed.config);
    assert_eq!(machine.diff_ids("2"), seed.diff_ids());
}

#[test]
fn a_stream_that_says_at_its_start_what_comes_is_believed_to_the_end() {
    let machine = Machine::new();
    let seed = Seed::new(16);
    let names: Vec<String> = (0..3).map(|number| format!("{number}.tar")).collect();
    let list = manifest(&[("c.json", &["app:1"], &names)]).to_string();
    let stream = |layers: &[Vec<u8>]| {
        let mut members: Vec<(&str, &[u8])> =
            vec![("manifest.json", list.as_bytes()), ("c.json", &seed.config)];
        members.extend(names.iter().map(String::as_str).zip(layers.iter().map(Vec::as_slice)));
        write(&machine.place("a.tar"), &archive(&members));
        machine.push_from(&machine.place("a.tar"), &["-", &machine.tagged("1")])
    };
    succeed(&stream(&seed.layers));
    let old = machine.manifest("1");
    let before = machine.registry.log().len();

    succeed(&stream(&seed.layers));
    let mut lying = seed.layers.clone();
    lying[0] = layer("etc/motd", b"another");
    let said = fail(&stream(&lying));

    assert_eq!(machine.uploaded(before), 0);
    assert!(said.contains("the layer `0.tar` has the diff_id"), "{said}");
    assert_eq!(machine.manifest("1"), old);
}

#[test]
fn what_only_the_name_of_a_layer_said_is_told_as_that() {
    let machine = Machine::new();
    let seed = Seed::of(vec![layer("etc/motd", b"one"), layer("etc/name", b"two")]);
    write(&machine.place("a.tar"), &seed.streamed(&["app:1"]));
    succeed(&machine.push(&["a.tar", &machine.tagged("1")]));
    let other = Seed::of(vec![layer("etc/motd", b"another"), layer("etc/name", b"two")]);
    let names: Vec<String> =
        seed.layers.iter().map(|layer| format!("{}.tar", Digest::of(layer).hex())).collect();
    let list = manifest(&[("c.json", &["app:1"], &names)]).to_string();
    let lying = archive(&[
        (&names[0], &other.layers[0]),
        (&names[1], &other.layers[1]),
        ("c.json", &other.config),
        ("manifest.json", list.as_bytes()),
    ]);
    write(&machine.place("b.tar"), &lying);

    let said = fail(&machine.push_from(&machine.place("b.tar"), &["-", &machine.tagged("1")]));

    let (found, name) = (Digest::of(&other.layers[0]), Digest::of(&seed.layers[0]));
    let expected = format!("the layer `{}` has the diff_id `{found}`, and is called `{name}`", names[0]);
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn a_blob_of_a_layout_that_is_there_is_not_sent() {
    let mut machine = Machine::new();
    let seed = Seed::new(12);
    write(&machine.place("a.tar"), &seed.streamed(&["app:1"]));
    let from = format!("docker-archive:{}", machine.place("a.tar").display());
    let archive = tempfile::tempdir().unwrap();
    let file = archive.path().join("layout.tar");
    skopeo(&["copy", &from, &format!("oci-archive:{}:1", file.display())]);
    let source = format!("oci-archive:{}", file.display());
    succeed(&machine.push(&[&source, &machine.tagged("1")]));
    assert!(machine.uploaded(0) > LARGE);

    machine.forget();
    let before = machine.registry.log().len();
    for push in [
        machine.push(&[&source, &machine.tagged("2")]),
        machine.push_from(&file, &["oci-archive:-", &machine.tagged("3")]),
    ] {
        succeed(&push);
    }

    // A new tag is no reason to ask for the configuration, which is small.
    assert!(machine.uploaded(before) <= 2 * machine.config("1").len());
    assert_eq!(machine.manifest("2"), machine.manifest("1"));
    assert_eq!(machine.manifest("3"), machine.manifest("1"));
}

#[test]
fn a_machine_that_knows_the_key_sends_no_layer_either() {
    let mut machine = Machine::new().with_key();
    let seed = Seed::new(15);
    for push in 0..3 {
        write(&machine.place("a.tar"), &seed.streamed(&["app:1"]));
        let before = machine.registry.log().len();
        let said = succeed(&match push {
            0 | 1 => machine.push(&["docker-archive:a.tar", &machine.tagged("1")]),
            _ => machine.push_from(&machine.place("a.tar"), &["-", &machine.tagged("1")]),
        });

        assert_eq!(machine.uploaded(before) > 0, push == 0, "{said}");
        machine.forget();
    }

    // Without the key, nobody's word counts.
    let mut machine = machine.without_key();
    machine.forget();
    write(&machine.place("a.tar"), &seed.streamed(&["app:1"]));
    let before = machine.registry.log().len();
    let said = succeed(&machine.push_from(&machine.place("a.tar"), &["-", &machine.tagged("1")]));
    assert!(machine.uploaded(before) > LARGE);
    assert_eq!(said.matches("their key `test-1` is not trusted here").count(), 1, "{said}");
    assert_eq!(machine.diff_ids("1"), seed.diff_ids());
}

#[test]
fn another_tag_gets_the_layers_of_latest_and_of_the_default_branch() {
    for standing in ["latest", "main"] {
        let mut machine = Machine::new().with_key();
        let seed = Seed::new(19);
        write(&machine.place("a.tar"), &seed.streamed(&["app:1"]));
        succeed(&machine.push(&["docker-archive:a.tar", &machine.tagged(standing)]));

        machine.forget();
        write(&machine.place("a.tar"), &seed.streamed(&["app:1"]));
        let before = machine.registry.log().len();
        let push = ["docker-archive:a.tar", &machine.tagged("v2")];
        let said = succeed(&machine.push_with(&push, &[("CI_DEFAULT_BRANCH", "main")]));

        assert!(machine.uploaded(before) <= seed.config.len(), "{said}");
        assert!(said.contains("layers: 0 (0 B) built, 3 "), "{said}");
    }
}

#[test]
fn a_stream_whose_tag_comes_at_its_end_gets_the_layers_of_latest() {
    let mut machine = Machine::new().with_key();
    let seed = Seed::new(20);
    for push in 0..2 {
        machine.forget();
        write(&machine.place("a.tar"), &seed.streamed(&["app:latest"]));
        let before = machine.registry.log().len();
        let said = succeed(&machine.push_from(&machine.place("a.tar"), &["-", &machine.repository()]));

        assert_eq!(machine.uploaded(before) > 0, push == 0, "{said}");
    }
}

/// A Docker archive of layers that are compressed, under these names.
fn compressed(seed: &Seed, names: &[String]) -> Vec<u8> {
    let list = manifest(&[("c.json", &["app:1"], names)]).to_string();
    let blobs: Vec<Vec<u8>> = seed.layers.iter().map(|layer| gzip(layer)).collect();
    let mut members: Vec<(&str, &[u8])> = Vec::new();
    for (name, blob) in names.iter().zip(&blobs) {
        if members.iter().all(|(there, _)| there != name) {
            members.push((name, blob));
        }
    }
    members.extend([("c.json", seed.config.as_slice()), ("manifest.json", list.as_bytes())]);
    archive(&members)
}

/// As crane names layers: by the digests of what they are compressed to.
fn by_blob(seed: &Seed) -> Vec<String> {
    seed.layers.iter().map(|layer| format!("{}.tar.gz", Digest::of(&gzip(layer)).hex())).collect()
}

#[test]
fn layers_that_are_compressed_in_a_docker_archive_are_not_sent_twice() {
    let mut machine = Machine::new();
    let seed = Seed::new(21);
    let named = compressed(&seed, &by_blob(&seed));
    let unnamed = compressed(&seed, &["0", "1", "0"].map(|number| format!("{number}.tar.gz")));
    write(&machine.place("a.tar"), &named);
    succeed(&machine.push(&["docker-archive:a.tar", &machine.tagged("1")]));
    assert!(machine.uploaded(0) > LARGE);
    let old = machine.manifest("1");

    machine.forget();
    write(&machine.place("a.tar"), &named);
    write(&machine.place("b.tar"), &unnamed);
    let zipped = zstd::encode_all(unnamed.as_slice(), 1).unwrap();
    write(&machine.place("b.tar.zst"), &zipped);
    let before = machine.registry.log().len();
    for output in [
        machine.push(&["docker-archive:a.tar", &machine.tagged("1")]),
        machine.push_from(&machine.place("a.tar"), &["-", &machine.tagged("1")]),
        machine.push(&["docker-archive:b.tar", &machine.tagged("1")]),
        machine.push(&["docker-archive:b.tar.zst", &machine.tagged("1")]),
    ] {
        let said = succeed(&output);
        assert!(said.contains("layers: 0 (0 B) built, 3 "), "{said}");
    }

    assert_eq!(machine.uploaded(before), 0);
    assert_eq!(machine.manifest("1"), old);
    assert_eq!(machine.diff_ids("1"), seed.diff_ids());
}

/// Manifests have media types for gzip and zstd alone.
#[test]
fn layers_that_other_compressors_made_are_compressed_anew_and_found_by_their_records() {
    let machine = Machine::new();
    let seed = Seed::of(vec![layer("etc/motd", b"hello"), layer("etc/issue", b"hello")]);
    let [mut xz, mut bzip2] = [Vec::new(), Vec::new()];
    XzEncoder::new(seed.layers[0].as_slice(), 1).read_to_end(&mut xz).unwrap();
    BzEncoder::new(seed.layers[1].as_slice(), bzip2::Compression::fast()).read_to_end(&mut bzip2).unwrap();
    let list = manifest(&[("c.json", &["app:1"], &["xz".to_owned(), "bzip2".to_owned()])]).to_string();
    let members: [(&str, &[u8]); 4] =
        [("xz", &xz), ("bzip2", &bzip2), ("c.json", &seed.config), ("manifest.json", list.as_bytes())];
    write(&machine.place("a.tar"), &archive(&members));

    succeed(&machine.push(&["docker-archive:a.tar", &machine.tagged("1")]));
    let before = machine.registry.log().len();
    let said = succeed(&machine.push(&["docker-archive:a.tar", &machine.tagged("1")]));

    assert_eq!(machine.uploaded(before), 0, "{said}");
    for layer in Manifest::parse(&machine.manifest("1")).unwrap().layers {
        assert_eq!(layer.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
        assert!(!layer.annotations.is_empty());
    }
    assert_eq!(machine.diff_ids("1"), seed.diff_ids());
}

#[test]
fn a_layer_that_only_looks_like_one_that_is_there_is_sent() {
    let machine = Machine::new();
    let [old, new] = [b'a', b'b'].map(|byte| Seed::of(vec![layer("etc/motd", &[byte; 1000])]));
    assert_eq!(gzip(&old.layers[0]).len(), gzip(&new.layers[0]).len());
    write(&machine.place("old.tar"), &compressed(&old, &by_blob(&old)));
    succeed(&machine.push(&["docker-archive:old.tar", &machine.tagged("1")]));

    // Of the same length, and under its name.
    write(&machine.place("length.tar"), &compressed(&new, &["0.tar.gz".to_owned()]));
    write(&machine.place("name.tar"), &compressed(&new, &by_blob(&old)));
    let piped = fail(&machine.push_from(&machine.place("name.tar"), &["-", &machine.tagged("1")]));
    assert!(piped.contains("fix:   write the archive into a file first, and push that"), "{piped}");
    assert_eq!(machine.diff_ids("1"), old.diff_ids());
    for file in ["name.tar", "length.tar"] {
        succeed(&machine.push(&["docker-archive:old.tar", &machine.tagged("1")]));
        let said = succeed(&machine.push(&[&format!("docker-archive:{file}"), &machine.tagged("1")]));

        assert_eq!(machine.diff_ids("1"), new.diff_ids(), "{file}: {said}");
    }
}

#[test]
fn every_layer_is_made_and_compared_if_somebody_wants_that() {
    let machine = Machine::new();
    write(&machine.place("a.tar"), &Seed::new(13).streamed(&["app:1"]));
    succeed(&machine.push(&["docker-archive:a.tar", &machine.tagged("1")]));

    let said = succeed(&machine.push(&["docker-archive:a.tar", &machine.tagged("1"), "--verify-layers"]));

    assert!(said.contains("layers: 3 "), "{said}");
}

#[test]
fn a_false_record_is_no_reason_to_leave_a_layer_out_and_is_found() {
    let machine = Machine::new();
    let seed = Seed::new(18);
    write(&machine.place("a.tar"), &seed.streamed(&["app:1"]));
    succeed(&machine.push(&["docker-archive:a.tar", &machine.tagged("1")]));
    let manifest = machine.manifest("1");

    exchange_records(&machine);
    let said = succeed(&machine.push(&["docker-archive:a.tar", &machine.tagged("2")]));
    assert!(said.contains(", 0 (0 B) reused"), "{said}");
    assert_eq!(machine.manifest("2"), manifest);

    let recorded = exchange_records(&machine);
    let said = fail(&machine.push(&["docker-archive:a.tar", &machine.tagged("3"), "--verify-layers"]));
    assert!(said.contains(": a layer is `sha256:"), "{said}");
    let by = "and the record of this host says `";
    assert!(recorded.iter().any(|digest| said.contains(&format!("{by}{digest}`"))), "{said}");
    assert!(machine.registry.manifest(REPOSITORY, "3").is_none());
}

/// Lets the records of the machine's two layers each say that it is the other layer. Gives the digests in them.
fn exchange_records(machine: &Machine) -> Vec<String> {
    let folders = fs::read_dir(machine.place("state/records")).unwrap().map(|it| it.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()));
    let records = files.map(|file| (fs::read_to_string(&file).unwrap(), file));
    let records: Vec<(String, PathBuf)> = records.collect();
    assert_eq!(records.len(), 2);
    let parts = |at: usize| records[at].0.lines().next().unwrap().split_once(' ').unwrap();
    for (own, other) in [(0, 1), (1, 0)] {
        let line = format!("{} {}", parts(own).0, parts(other).1);
        let text = format!("{line}\n{}\n", Digest::of(line.as_bytes()));
        write(&records[own].1, text.as_bytes());
    }
    [0, 1].map(|at| parts(at).1.split(' ').nth(1).unwrap().to_owned()).into()
}

#[test]
fn a_record_stands_for_a_layer_once() {
    let machine = Machine::new();
    write(&machine.place("a.tar"), &Seed::new(14).streamed(&["app:1"]));

    succeed(&machine.push(&["docker-archive:a.tar", &machine.tagged("1")]));

    let layers = Manifest::parse(&machine.manifest("1")).unwrap().layers;
    let recorded: Vec<bool> = layers.iter().map(|layer| !layer.annotations.is_empty()).collect();
    assert_eq!((layers[0].digest, recorded), (layers[2].digest, vec![true, true, false]));
}
