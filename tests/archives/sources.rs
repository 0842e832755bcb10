//! Archives as other programs write them.

use std::fs;
use std::path::Path;
use std::process::Command;

use nixlayer::oci::{Digest, Manifest};
use serde_json::{Value, json};

use crate::machine::{Machine, diff_id, said_diff_ids, skopeo, succeed, write};
use crate::seed::{Seed, python};

/// The manifest of the only image of a layout.
fn manifest_of(layout: &Path) -> Vec<u8> {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    fs::read(layout.join("blobs").join(digest.replace(':', "/"))).unwrap()
}

#[test]
fn docker_archives_keep_configuration_and_layers() {
    let machine = Machine::new();
    let seed = Seed::new(1);
    write(&machine.place("streamed.tar"), &seed.streamed(&["app:streamed"]));
    let copied = format!("docker-archive:{}:app:copied", machine.place("copied.tar").display());
    skopeo(&["copy", &format!("docker-archive:{}", machine.place("streamed.tar").display()), &copied]);
    for program in ["gzip", "zstd", "xz", "bzip2"] {
        let command = format!("{program} -c < streamed.tar > streamed.{program}");
        let status = Command::new("sh").args(["-c", &command]).current_dir(machine.place(".")).status();
        assert!(status.unwrap().success());
    }

    for (number, file) in
        ["streamed.tar", "copied.tar", "streamed.gzip", "streamed.zstd", "streamed.xz", "streamed.bzip2"]
            .iter()
            .enumerate()
    {
        let (in_file, piped) = (format!("file-{number}"), format!("pipe-{number}"));
        let source = format!("docker-archive:{file}");
        succeed(&machine.push(&[&source, &machine.tagged(&in_file)]));
        succeed(&machine.push_from(&machine.place(file), &["-", &machine.tagged(&piped)]));

        for tag in [&in_file, &piped] {
            assert_eq!(machine.diff_ids(tag), seed.diff_ids(), "{file}");
            if *file != "copied.tar" {
                assert_eq!(machine.config(tag), seed.config, "{file}");
            }
            assert_eq!(machine.manifest(tag), machine.manifest(&in_file), "{file}");
        }
    }
    // Whoever pulls it finds the image of the archive.
    let pulled = machine.pull("file-0");
    let manifest = Manifest::parse(&manifest_of(&pulled)).unwrap();
    let blob = |digest: &Digest| fs::read(pulled.join("blobs/sha256").join(digest.hex())).unwrap();
    assert_eq!(blob(&manifest.config.digest), seed.config);
    let diff_ids: Vec<String> = manifest.layers.iter().map(|layer| diff_id(&blob(&layer.digest))).collect();
    assert_eq!(diff_ids, seed.diff_ids());
}

#[test]
fn what_docker_save_writes_and_wrote_is_pushed() {
    let machine = Machine::new();
    let seed = Seed::new(2);
    write(&machine.place("one.tar"), &seed.layers[0]);
    write(&machine.place("two.tar"), &seed.layers[1]);
    write(&machine.place("config.json"), &seed.config);
    python(&machine.place("."), SAVE);

    for file in ["old.tar", "new.tar", "contained.tar"] {
        for (tag, output) in [
            ("file", machine.push(&[&format!("docker-archive:{file}"), &machine.tagged("file")])),
            ("pipe", machine.push_from(&machine.place(file), &["-", &machine.tagged("pipe")])),
        ] {
            succeed(&output);
            assert_eq!(machine.diff_ids(tag), seed.diff_ids(), "{file}");
            assert_eq!(machine.config(tag), seed.config, "{file}");
        }
        assert_eq!(machine.manifest("file"), machine.manifest("pipe"), "{file}");
    }
}

/// Docker's shapes: before version 25, since then, and with the image store of containerd, which compresses.
const SAVE: &str = r#"
import gzip, hashlib, io, json, tarfile
one, two, config = [open(name, "rb").read() for name in ("one.tar", "two.tar", "config.json")]
sha = lambda data: hashlib.sha256(data).hexdigest()

def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))

def folder(tar, name):
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    tar.addfile(info)

ids = [sha(b"id %d" % number) for number in range(3)]
with tarfile.open("old.tar", "w", format=tarfile.PAX_FORMAT) as tar:
    for number, id in enumerate(ids):
        folder(tar, id + "/")
        add(tar, id + "/VERSION", b"1.0")
        add(tar, id + "/json", json.dumps({"id": id}).encode())
        if number == 2:
            link = tarfile.TarInfo(id + "/layer.tar")
            link.type, link.linkname = tarfile.SYMTYPE, "../" + ids[0] + "/layer.tar"
            tar.addfile(link)
        else:
            add(tar, id + "/layer.tar", [one, two][number])
    add(tar, sha(config) + ".json", config)
    add(tar, "manifest.json", json.dumps([{"Config": sha(config) + ".json", "RepoTags": ["app:1"],
        "Layers": [id + "/layer.tar" for id in ids]}]).encode())
    add(tar, "repositories", json.dumps({"app": {"1": ids[2]}}).encode())

def layout(name, layers, media_type):
    described = lambda kind, data: {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + sha(data),
                                    "size": len(data)}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", config),
        "layers": [described(media_type, layer) for layer in layers]}).encode()
    with tarfile.open(name, "w", format=tarfile.GNU_FORMAT) as tar:
        folder(tar, "blobs/")
        folder(tar, "blobs/sha256/")
        for blob in sorted(set([*layers, config, manifest]), key=sha):
            add(tar, "blobs/sha256/" + sha(blob), blob)
        add(tar, "index.json", json.dumps({"schemaVersion": 2,
            "manifests": [described("manifest.v1+json", manifest)]}).encode())
        add(tar, "manifest.json", json.dumps([{"Config": "blobs/sha256/" + sha(config), "RepoTags": ["app:1"],
            "Layers": ["blobs/sha256/" + sha(layer) for layer in layers]}]).encode())
        add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        folder(tar, "z/")

layout("new.tar", [one, two, one], "layer.v1.tar")
pack = lambda data: gzip.compress(data, mtime=0)
layout("contained.tar", [pack(one), pack(two), pack(one)], "layer.v1.tar+gzip")
"#;

#[test]
fn image_layouts_keep_their_digest() {
    let machine = Machine::new();
    write(&machine.place("a.tar"), &Seed::new(3).streamed(&["app:1"]));
    let layout = machine.place("layout");
    let (from, to) = (
        format!("docker-archive:{}", machine.place("a.tar").display()),
        format!("oci:{}:ref", layout.display()),
    );
    skopeo(&["copy", "--dest-compress-format", "zstd", &from, &to]);
    skopeo(&["copy", &to, &format!("oci-archive:{}:ref", machine.place("layout.tar").display())]);
    let umoci = machine.place("umoci");
    for arguments in [
        vec!["init", "--layout", "umoci"],
        vec!["new", "--image", "umoci:made"],
        vec!["insert", "--rootless", "--image", "umoci:made", "a.tar", "/a.tar"],
    ] {
        let status = Command::new("umoci").args(arguments).current_dir(machine.place(".")).status();
        assert!(status.unwrap().success());
    }

    for (source, layout, tag) in [
        ("oci:layout", &layout, "ref"),
        ("layout", &layout, "ref"),
        ("oci-archive:layout.tar", &layout, "ref"),
        ("oci-archive:layout.tar:ref", &layout, "ref"),
        ("oci:umoci:made", &umoci, "made"),
    ] {
        let said = succeed(&machine.push(&[source, &machine.repository()]));

        let manifest = manifest_of(layout);
        assert_eq!(machine.manifest(tag), manifest, "{source}");
        assert!(said.contains(&format!("digest: {}\n", Digest::of(&manifest))), "{said}");
        assert_eq!(machine.diff_ids(tag), said_diff_ids(&machine.config(tag)), "{source}");
    }
    succeed(&machine.push_from(&machine.place("layout.tar"), &["-", &machine.tagged("piped")]));
    assert_eq!(machine.manifest("piped"), manifest_of(&layout));
}

/// As `crane pull --format=oci` keeps an image that a registry has in Docker's form.
#[test]
fn a_layout_may_have_a_manifest_of_dockers() {
    let machine = Machine::new();
    let seed = Seed::new(5);
    write(&machine.place("a.tar"), &seed.streamed(&["app:1"]));
    succeed(&machine.push(&["docker-archive:a.tar", "oci:layout"]));
    let layout = machine.place("layout");
    let manifest = String::from_utf8(manifest_of(&layout)).unwrap();
    let dockers = manifest
        .replace("vnd.oci.image.manifest.v1", "vnd.docker.distribution.manifest.v2")
        .replace("vnd.oci.image.config.v1", "vnd.docker.container.image.v1")
        .replace("vnd.oci.image.layer.v1.tar+gzip", "vnd.docker.image.rootfs.diff.tar.gzip");
    let digest = Digest::of(dockers.as_bytes());
    write(&layout.join("blobs/sha256").join(digest.hex()), dockers.as_bytes());
    let media_type = "application/vnd.docker.distribution.manifest.v2+json";
    let entry = json!({ "mediaType": media_type, "digest": digest.to_string(), "size": dockers.len() });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
    write(&layout.join("index.json"), index.as_bytes());

    succeed(&machine.push(&["oci:layout", &machine.tagged("1")]));
    succeed(&machine.push(&["oci:layout", "oci:again"]));

    assert_eq!(machine.manifest("1"), dockers);
    assert_eq!(manifest_of(&machine.place("again")), dockers.as_bytes());
    let again: Value = serde_json::from_slice(&fs::read(machine.place("again/index.json")).unwrap()).unwrap();
    assert_eq!(again["manifests"][0]["mediaType"], media_type);
    machine.pull("1");
    let again = machine.push(&["oci:layout", &machine.tagged("1")]);
    assert!(succeed(&again).contains("; 0 B sent"), "{again:?}");
}

#[test]
fn an_archive_becomes_an_image_layout() {
    let machine = Machine::new();
    let seed = Seed::new(4);
    write(&machine.place("a.tar"), &seed.streamed(&["app:1"]));

    succeed(&machine.push(&["docker-archive:a.tar", "oci:made"]));

    let back = format!("docker-archive:{}:app:1", machine.place("back.tar").display());
    skopeo(&["copy", &format!("oci:{}:1", machine.place("made").display()), &back]);
    succeed(&machine.push(&["docker-archive:back.tar", &machine.tagged("back")]));
    assert_eq!(machine.diff_ids("back"), seed.diff_ids());
    succeed(&machine.push(&["oci:made", &machine.tagged("layout")]));
    assert_eq!(machine.config("layout"), seed.config);
}
