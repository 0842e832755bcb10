//! What is said of a source that is another thing than its name says, and what mends it.

use std::fs;

use crate::machine::{Machine, executable, fail, succeed, write};
use crate::seed::{Seed, archive, gzip, layer, manifest, python};

/// An archive that is small.
fn small() -> Vec<u8> {
    Seed::of(vec![layer("etc/motd", b"hello")]).streamed(&["app:x"])
}

#[test]
fn a_folder_is_no_file() {
    let machine = Machine::new();
    write(&machine.place("a.tar"), &small());
    succeed(&machine.push(&["a.tar", "oci:layout"]));
    fs::create_dir(machine.place("empty")).unwrap();
    fs::create_dir(machine.place("unpacked")).unwrap();
    write(&machine.place("unpacked/manifest.json"), b"[]");

    let no_file = |name: &str| format!("error: `{name}` is a folder, and no file\n");
    let no_layout =
        |name: &str| format!("error: `{name}` is no image layout: there is no `index.json` in it\n");
    let pack = "  fix:   pack what is in it, `tar -C FOLDER -cf FILE .`, and name `docker-archive:FILE`";
    for (source, said, fix) in [
        ("docker-archive:layout", no_file("layout"), "  fix:   name `oci:FOLDER`, as it is an image layout"),
        ("oci-archive:layout", no_file("layout"), "  fix:   name `oci:FOLDER`, as it is an image layout"),
        ("docker-archive:unpacked", no_file("unpacked"), pack),
        ("unpacked", no_layout("unpacked"), pack),
        ("oci:unpacked:x", no_layout("unpacked"), pack),
        ("docker-archive:empty", no_file("empty"), "  fix:   name the file of an archive, or"),
        ("empty", no_layout("empty"), "  fix:   name the file of an archive, or"),
    ] {
        let output = machine.push(&[source, &machine.tagged("x")]);

        let failed = fail(&output);
        assert!(failed.starts_with(&format!("{said}{fix}")), "{source}: {failed}");
        assert_eq!(output.status.code(), Some(1), "{source}");
    }
    assert_eq!(machine.registry.tags(), []);
}

#[test]
fn what_is_empty_is_called_so() {
    let machine = Machine::new();
    write(&machine.place("empty"), b"");
    write(&machine.place("packed"), &gzip(b""));
    executable(&machine.place("silent"), "#!/bin/sh\n");

    for output in [
        machine.push_from(&machine.place("empty"), &["-", &machine.tagged("x")]),
        machine.push_from(&machine.place("packed"), &["oci-archive:-", &machine.tagged("x")]),
        machine.push(&["empty", &machine.tagged("x")]),
        machine.push(&["docker-archive:packed", &machine.tagged("x")]),
        machine.push(&["./silent", &machine.tagged("x")]),
    ] {
        let said = fail(&output);
        let expected =
            "\n  cause: it is empty\n  fix:   look at what writes it: not a byte has come from there";
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn an_interpreter_that_is_missing_is_named() {
    let machine = Machine::new();
    let long = format!("/missing/{}", "x".repeat(200));
    for (first, cause) in [
        ("#!/missing/bash\necho", "its first line names `/missing/bash`, which is not there"),
        ("#! \t/missing/bash -eu\necho", "its first line names `/missing/bash`, which is not there"),
        ("#!/bin/sh\r\necho", "its first line names `/bin/sh\\r`, which is not there"),
        ("#!/missing/\u{1b}[31m\n", "its first line names `/missing/\\u{1b}[31m`, which is not there"),
        (&format!("#!{long}\n"), "its first line names `/missing/xxx"),
    ] {
        executable(&machine.place("result"), first);

        let said = fail(&machine.push(&["./result", &machine.tagged("x")]));

        assert!(said.starts_with("error: `./result` cannot be run\n  cause: "), "{said}");
        assert!(said.contains(cause), "{said}");
        assert!(said.len() < 1000 && !said.contains('\u{1b}'), "{said}");
    }
}

#[test]
fn names_that_give_no_tag_are_left_out_aloud() {
    let machine = Machine::new();
    let digested = format!("app@sha256:{}", "ab".repeat(32));
    let mixed = ["app:1", "app", "app:b c", "", &digested, "r.example:5000/app:2@sha256:00"];
    let bytes = Seed::of(vec![layer("etc/motd", b"hello")]).streamed(&mixed);
    write(&machine.place("a.tar"), &bytes);

    for output in [
        machine.push(&["a.tar", &machine.repository()]),
        machine.push_from(&machine.place("a.tar"), &["-", &machine.repository()]),
    ] {
        let said = succeed(&output);
        let expected = format!("these names of the image give it no tag: `app:b c`, ``, `{digested}`");
        assert_eq!(said.matches(&expected).count(), 1, "{said}");
    }
    let mut tags: Vec<String> = machine.registry.tags().into_iter().map(|(_, tag)| tag.to_string()).collect();
    tags.sort();
    assert_eq!(tags, ["1", "2", "latest"]);

    // With a tag in the destination they do not matter.
    let said = succeed(&machine.push(&["a.tar", &machine.tagged("3")]));
    assert!(!said.contains("give it no tag"), "{said}");

    let many: Vec<String> =
        (0..1000).map(|number| format!("app:\u{1b}[31m {number} {}", "x".repeat(500))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    write(&machine.place("a.tar"), &Seed::of(vec![layer("etc/motd", b"hello")]).streamed(&many));
    let output = machine.push(&["a.tar", &machine.repository()]);
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("give it no tag") && said.contains("the image has no tag of its own"), "{said}");
    assert!(said.len() < 4000 && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn what_takes_other_options_says_which() {
    let machine = Machine::new();
    // A window of a gigabyte, which zstd gives a small file, too, while it does not know how long that will be.
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    zstd.long_distance_matching(true).unwrap();
    zstd.window_log(30).unwrap();
    std::io::Write::write_all(&mut zstd, &small()).unwrap();
    let window = zstd.finish().unwrap();
    let list = manifest(&[("c.json", &["app:x"], &["l.tar".to_owned()])]).to_string();
    let config = Seed::of(vec![layer("etc/motd", b"hello")]).config;
    let inside = archive(&[("manifest.json", list.as_bytes()), ("c.json", &config), ("l.tar", &window)]);
    write(&machine.place("window"), &window);
    write(&machine.place("inside"), &inside);
    python(&machine.place("."), MEMORY);

    for (file, cause, fix) in [
        ("window", "it cannot be decompressed", "compress it with a smaller window: `zstd` without `--long`"),
        (
            "inside",
            "`l.tar` cannot be decompressed",
            "compress it with a smaller window: `zstd` without `--long`",
        ),
        ("xz", "it cannot be decompressed", "compress it with a smaller window: `zstd` without `--long`"),
        (
            "sparse",
            "`l.tar` is a sparse file",
            "make the archive without sparse members: `tar` without `--sparse`",
        ),
    ] {
        let said = fail(&machine.push(&[file, &machine.tagged("x")]));

        assert!(said.contains(&format!("cause: {cause}\n")), "{said}");
        assert!(said.contains(&format!("fix:   {fix}")), "{said}");
    }
}

/// What xz has compressed with a dictionary of 256 MiB, and an archive with a member that leaves out what is zero.
const MEMORY: &str = r#"
import io, lzma, tarfile
filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 28, "mode": lzma.MODE_FAST, "mf": lzma.MF_HC3, "nice_len": 64}]
open("xz", "wb").write(lzma.compress(bytes(4096), filters=filters))
with tarfile.open("sparse", "w", format=tarfile.PAX_FORMAT) as tar:
    info = tarfile.TarInfo("l.tar")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    tar.addfile(info, io.BytesIO(b""))
"#;
