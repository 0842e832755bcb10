//! Archives that mean harm: each is refused by its own name, and no tag appears.

use std::fs;
use std::io::Write as _;

use nixlayer::oci::{Digest, Manifest};
use serde_json::{Value, json};

use crate::machine::{Machine, diff_id, fail, write};
use crate::seed::{Seed, archive, layer, manifest, python};

/// How each archive is called, and what is said of it.
const CASES: [(&str, &str); 16] = [
    ("absolute", "`/etc/passwd` is no name of a member"),
    ("upwards", "`../../etc/passwd` is no name of a member"),
    ("link-out", "`../../../etc/passwd` is no name of a member"),
    ("hardlink-out", "`/etc/passwd` is no name of a member"),
    ("circle", "the link `l/layer.tar` leads nowhere but to other links"),
    ("sizes", "`l.tar` has 512 bytes by one header, and 1024 by another"),
    ("sparse", "`l.tar` is a sparse file"),
    ("truncated", "it ends within `l.tar`"),
    ("manifests", "it has two members `manifest.json`"),
    ("large-json", "`manifest.json` has more than 8388608 bytes"),
    ("many", "it has more than 100000 members"),
    ("missing", "`manifest.json` names `m.tar`, which is not there"),
    ("counts", "the image has 1 layers, and its configuration says 2"),
    ("diff-id", "the layer `l.tar` has the diff_id"),
    ("path-digest", "`c.json` says `sha256:../../x` in the place of a digest"),
    ("twice", "it has two members `l.tar`"),
];

const HOSTILE: &str = r#"
import hashlib, io, json, os, tarfile
layer = open("layer.tar", "rb").read()
sha = lambda data: "sha256:" + hashlib.sha256(data).hexdigest()
config = lambda *ids: json.dumps({"rootfs": {"type": "layers", "diff_ids": list(ids)}}).encode()
listed = lambda *layers: json.dumps([{"Config": "c.json", "RepoTags": ["app:x"], "Layers": list(layers)}]).encode()

def member(tar, name, data=b"", kind=tarfile.REGTYPE, link="", **pax):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.pax_headers = len(data), kind, link, pax
    tar.addfile(info, io.BytesIO(data))

def write(name, *members, layers=("l.tar",), ids=(sha(layer),), own=True, format=tarfile.PAX_FORMAT):
    with tarfile.open(name, "w", format=format) as tar:
        if own:
            member(tar, "l.tar", layer)
        for arguments, options in members:
            member(tar, *arguments, **options)
        member(tar, "c.json", config(*ids))
        member(tar, "manifest.json", listed(*layers))

m = lambda *arguments, **options: (arguments, options)
write("absolute", m("/etc/passwd", b"root::0:0"))
write("upwards", m("../../etc/passwd", b"root::0:0"))
write("link-out", m("l/layer.tar", b"", tarfile.SYMTYPE, "../../../etc/passwd"), layers=["l/layer.tar"])
write("hardlink-out", m("l/layer.tar", b"", tarfile.LNKTYPE, "/etc/passwd"), layers=["l/layer.tar"])
write("circle", m("l/layer.tar", b"", tarfile.SYMTYPE, "../k/layer.tar"),
      m("k/layer.tar", b"", tarfile.SYMTYPE, "../l/layer.tar"), layers=["l/layer.tar"])
write("sizes", m("l.tar", b"\0" * 512, size="1024"), own=False)
write("sparse", m("l.tar", layer, **{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}), own=False)
write("truncated")
with open("truncated", "r+b") as file:
    file.truncate(700)
write("manifests", m("manifest.json", listed()))
write("twice", m("l.tar", b"\0" * len(layer)))
write("large-json", layers=["l.tar", "m" * (9 << 20)])
with open("many", "wb") as file:
    info = tarfile.TarInfo("d/")
    info.type = tarfile.DIRTYPE
    file.write(info.tobuf() * 100001)
write("missing", layers=["m.tar"])
write("counts", ids=[sha(layer), sha(layer)])
write("diff-id", ids=[sha(b"other")])
write("path-digest", ids=["sha256:../../x"])
"#;

#[test]
fn every_hostile_archive_is_refused_by_its_name() {
    let machine = Machine::new();
    let bytes = layer("etc/motd", b"hello");
    let own = Digest::of(&bytes).to_string();
    write(&machine.place("layer.tar"), &bytes);
    python(&machine.place("."), HOSTILE);
    let before = listing(&machine);

    for in_file in [true, false] {
        for (file, said) in CASES {
            let requests = machine.registry.log().len();
            let output = match in_file {
                true => machine.push(&[&format!("docker-archive:{file}"), &machine.tagged("x")]),
                false => machine.push_from(&machine.place(file), &["-", &machine.tagged("x")]),
            };

            let failed = fail(&output);
            assert!(failed.contains(said), "{file}: {failed}");
            assert!(failed.contains("\n  fix:   "), "{file}: {failed}");
            // The author of the job can mend it.
            assert_eq!(output.status.code(), Some(1), "{file}");
            // Of a file it is known before the first layer is sent, unless the layer itself is another one, which has
            // been sent then. `twice` comes last: its two layers are compared while the first may be on its way.
            if in_file && file != "twice" {
                assert_eq!(machine.uploaded(requests) > 0, file == "diff-id", "{file}");
                assert_eq!(machine.registry.open_uploads(), 0, "{file}");
            }
        }
    }

    assert_eq!(machine.registry.tags(), []);
    // What was sent before something turned out to be wrong is a layer that nothing names. What was being sent then is
    // an upload for the registry to close.
    let left: Vec<Digest> = machine.registry.blobs().into_iter().map(|(_, digest)| digest).collect();
    assert_eq!(left.iter().map(|digest| diff_id(&machine.blob(digest))).collect::<Vec<_>>(), [own]);
    assert_eq!(listing(&machine), before);
}

/// The names of all files of the machine, but for the state of the program.
fn listing(machine: &Machine) -> Vec<String> {
    let files = fs::read_dir(machine.place(".")).unwrap().map(|file| file.unwrap().file_name());
    let mut files: Vec<String> = files.map(|name| name.to_string_lossy().into_owned()).collect();
    files.retain(|name| name != "state");
    files.sort();
    files
}

/// Runs a push, and gives what it said and the most memory that it held, in bytes.
fn measured(machine: &Machine, arguments: &[&str]) -> (String, u64) {
    let child = machine.start(arguments);
    let status = format!("/proc/{}/status", child.id());
    let watching = std::thread::spawn(move || {
        let mut peak = 0;
        while let Ok(status) = fs::read_to_string(&status) {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let Some(line) = line else { break };
            let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
            peak = peak.max(kilobytes);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        peak * 1024
    });
    let output = child.wait_with_output().unwrap();
    let peak = watching.join().unwrap();
    assert!(peak > 0, "nobody saw how much memory it had");
    (fail(&output), peak)
}

/// One gigabyte of zeros.
fn bomb() -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..1024).for_each(|_| encoder.write_all(&zeros).unwrap());
    encoder.finish().unwrap()
}

#[test]
fn a_bomb_takes_no_memory() {
    const MOST: u64 = 150 << 20;
    let machine = Machine::new();
    let bomb = bomb();
    let seed = Seed::of(vec![layer("etc/motd", b"hello")]);
    let list = manifest(&[("c.json", &["app:x"], &["l.tar".to_owned()])]).to_string();

    // A layer that becomes a gigabyte, and is not what it should be.
    let bytes = archive(&[("manifest.json", list.as_bytes()), ("c.json", &seed.config), ("l.tar", &bomb)]);
    write(&machine.place("layer"), &bytes);
    let (said, peak) = measured(&machine, &["docker-archive:layer", &machine.tagged("x")]);
    assert!(said.contains("the layer `l.tar` has the diff_id"), "{said}");
    assert!(peak < MOST, "{peak} bytes");

    // An archive that becomes a gigabyte, all of it JSON.
    let mut header = tar::Header::new_gnu();
    header.set_path("manifest.json").unwrap();
    header.set_size(1 << 30);
    header.set_cksum();
    let head = zstd::encode_all(header.as_bytes().as_slice(), 1).unwrap();
    write(&machine.place("json"), &[head, bomb.clone()].concat());
    let (said, peak) = measured(&machine, &["docker-archive:json", &machine.tagged("x")]);
    assert!(said.contains("`manifest.json` has more than 8388608 bytes"), "{said}");
    assert!(peak < MOST, "{peak} bytes");

    // Links, whose names and targets are as long as they may be.
    let mut links = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_cksum();
    for number in 0..30_000 {
        let (name, target) = (format!("{number:04000}"), format!("{number:04001}"));
        let records = format!("4011 path={name}\n4016 linkpath={target}\n");
        let mut extended = tar::Header::new_ustar();
        extended.set_entry_type(tar::EntryType::XHeader);
        extended.set_size(records.len() as u64);
        extended.set_cksum();
        let rest = vec![0; records.len().next_multiple_of(512) - records.len()];
        for part in [extended.as_bytes(), records.as_bytes(), &rest, header.as_bytes()] {
            links.write_all(part).unwrap();
        }
    }
    write(&machine.place("links"), &links.finish().unwrap());
    let (said, peak) = measured(&machine, &["docker-archive:links", &machine.tagged("x")]);
    assert!(said.contains("all JSON in it, with the names, has more than 67108864 bytes"), "{said}");
    assert!(peak < MOST, "{peak} bytes");

    // A name of a gigabyte.
    let mut header = tar::Header::new_gnu();
    header.set_size(1 << 30);
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_cksum();
    let head = zstd::encode_all(header.as_bytes().as_slice(), 1).unwrap();
    write(&machine.place("name"), &[head, bomb].concat());
    let (said, peak) = measured(&machine, &["docker-archive:name", &machine.tagged("x")]);
    assert!(said.contains("it is longer than any name"), "{said}");
    assert!(peak < MOST, "{peak} bytes");
    assert_eq!(machine.registry.tags(), []);
}

#[test]
fn a_layout_that_lies_is_refused() {
    let machine = Machine::new();
    write(&machine.place("a.tar"), &Seed::new(51).streamed(&["app:x"]));
    crate::machine::skopeo(&[
        "copy",
        &format!("docker-archive:{}", machine.place("a.tar").display()),
        &format!("oci:{}:x", machine.place("layout").display()),
    ]);
    let index = machine.place("layout/index.json");
    let honest = fs::read(&index).unwrap();
    let entry: Value = serde_json::from_slice::<Value>(&honest).unwrap()["manifests"][0].clone();
    let refused = |index_now: &Value| {
        fs::write(&index, index_now.to_string()).unwrap();
        fail(&machine.push(&["oci:layout", &machine.tagged("x")]))
    };
    let with = |key: &str, value: Value| {
        let mut entry = entry.clone();
        entry[key] = value;
        json!({ "schemaVersion": 2, "manifests": [entry] })
    };

    let said = refused(&with("digest", json!("sha256:../../index.json")));
    assert!(said.contains("`index.json` says `sha256:../../index.json` in the place of a digest"), "{said}");
    let said = refused(&with("size", json!(7)));
    assert!(said.contains(", of 7"), "{said}");
    let missing = Digest::of(b"missing");
    let said = refused(&with("digest", json!(missing.to_string())));
    assert!(said.contains(&format!("names `blobs/sha256/{}`, which is not there", missing.hex())), "{said}");

    // A layer that is another one, and one that is a link out of the layout.
    fs::write(&index, honest).unwrap();
    let blobs = machine.place("layout/blobs/sha256");
    let large = fs::read_dir(&blobs).unwrap().map(|file| file.unwrap().path());
    let large = large.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let bytes = fs::read(&large).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&layer("etc/motd", b"forged")).unwrap();
    fs::write(&large, gzip.finish().unwrap()).unwrap();
    let said = fail(&machine.push(&["oci:layout", &machine.tagged("x")]));
    assert!(said.contains("and should be `sha256:"), "{said}");
    fs::remove_file(&large).unwrap();
    fs::write(machine.place("outside"), bytes).unwrap();
    std::os::unix::fs::symlink(machine.place("outside"), &large).unwrap();
    let said = fail(&machine.push(&["oci:layout", &machine.tagged("x")]));
    assert!(said.contains("error: `layout` cannot be used\n  cause: it cannot be read"), "{said}");
    assert_eq!(machine.registry.tags(), []);
}

#[test]
fn a_damaged_layer_of_a_layout_is_called_so_from_a_pipe_too() {
    let machine = Machine::new();
    write(&machine.place("a.tar"), &Seed::of(vec![layer("etc/motd", b"hello")]).streamed(&["app:x"]));
    let file = machine.place("layout.tar");
    crate::machine::skopeo(&[
        "copy",
        &format!("docker-archive:{}", machine.place("a.tar").display()),
        &format!("oci-archive:{}:x", file.display()),
    ]);
    crate::machine::succeed(&machine.push(&["oci-archive:layout.tar", &machine.tagged("x")]));
    let digest = Manifest::parse(&machine.manifest("x")).unwrap().layers[0].digest;

    // Another time in the header of its gzip, which changes neither the length nor the tar.
    let (blob, mut bytes) = (machine.blob(&digest), fs::read(&file).unwrap());
    let at = bytes.windows(blob.len()).position(|window| window == blob).unwrap();
    bytes[at + 4] ^= 1;
    write(&file, &bytes);

    for source in ["oci-archive:-", "-"] {
        let said = fail(&machine.push_from(&file, &[source, &machine.tagged("y")]));
        assert!(said.contains(&format!("and should be `{digest}`")), "{source}: {said}");
        assert!(!said.contains("into a file"), "{source}: {said}");
    }
}
