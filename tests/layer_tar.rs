//! Our tars against those of Python's `tarfile`, which dockerTools writes layers with.

use std::error::Error;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use nixlayer::layer::{Member, Metadata, TarWriter};
use serde_json::json;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

struct Case {
    path: Vec<u8>,
    metadata: Metadata<'static>,
    kind: Kind,
}

enum Kind {
    Directory,
    Regular(Vec<u8>),
    Symlink(Vec<u8>),
}

fn case(path: impl Into<Vec<u8>>, kind: Kind) -> Case {
    Case { path: path.into(), metadata: Metadata::of_root(0o555), kind }
}

/// Runs Python's side, which gets all members in one run, so a difference anywhere shows.
fn tar_by_python(cases: &[Case]) -> Outcome<Vec<u8>> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let describe = |case: &Case| {
        let (kind, target, contents): (_, &[u8], &[u8]) = match &case.kind {
            Kind::Directory => ("directory", b"", b""),
            Kind::Regular(contents) => ("regular", b"", contents),
            Kind::Symlink(target) => ("symlink", target, b""),
        };
        let Metadata { mode, uid, gid, mtime, uname, gname } = case.metadata;
        json!({
            "path": hex(&case.path), "type": kind, "target": hex(target), "contents": hex(contents),
            "mode": mode, "uid": uid, "gid": gid, "mtime": mtime, "uname": uname, "gname": gname,
        })
    };
    let members: Vec<_> = cases.iter().map(describe).collect();

    let mut python = Command::new("python3")
        .args(["-X", "utf8", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tar_by_python.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("this test needs python3: {error}"))?;
    let stdin = python.stdin.take();
    // Python reads all of its input before it writes.
    stdin.ok_or("python3 has no input")?.write_all(serde_json::to_string(&members)?.as_bytes())?;
    let output = python.wait_with_output()?;
    assert!(output.status.success(), "python3 failed");
    Ok(output.stdout)
}

fn tar_by_us(cases: &[Case]) -> io::Result<Vec<u8>> {
    let mut tar = TarWriter::new(Vec::new());
    for case in cases {
        let member = match &case.kind {
            Kind::Directory => Member::Directory,
            Kind::Symlink(target) => Member::Symlink { target },
            Kind::Regular(contents) => {
                Member::Regular { size: contents.len() as u64, contents: &mut contents.as_slice() }
            }
        };
        tar.append(&case.path, &case.metadata, member)?;
    }
    tar.finish()
}

fn assert_same_tar(cases: &[Case]) -> Outcome {
    let (ours, pythons) = (tar_by_us(cases)?, tar_by_python(cases)?);
    for (place, (ours, pythons)) in ours.chunks(512).zip(pythons.chunks(512)).enumerate() {
        let (left, right) = (ours.escape_ascii(), pythons.escape_ascii());
        assert!(ours == pythons, "block {place} differs:\n ours   {left}\n python {right}");
    }
    assert_eq!(ours.len(), pythons.len());
    Ok(())
}

/// Names of `length` bytes in several alphabets, and some that are no text at all.
fn names(length: usize) -> Vec<Vec<u8>> {
    let units: [&[u8]; 12] = [
        b"n",
        b"a b",
        b"dir/",
        "é".as_bytes(),
        "漢".as_bytes(),
        "🐚".as_bytes(),
        b"\xff",
        b"x\xc3",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x90z",
        b"line\n",
        b"\xc0\x80\xe2\x82",
    ];
    units.map(|unit| [b"/", unit.repeat(length).as_slice()].concat()[..length].to_vec()).to_vec()
}

#[test]
fn long_and_strange_names_equal_pythons() -> Outcome {
    let mut cases = Vec::new();
    for length in [2, 50, 98, 99, 100, 101, 102, 154, 155, 156, 255, 256, 257, 300, 511, 512, 1000, 5000] {
        for name in names(length) {
            cases.push(case(name.clone(), Kind::Regular(b"x".to_vec())));
            cases.push(case("/link", Kind::Symlink(name.clone())));
            cases.push(case(name.clone(), Kind::Symlink(name.clone())));
            cases.push(case(name, Kind::Directory));
        }
    }

    assert_same_tar(&cases)
}

/// One name that is no UTF-8 changes how the other record of the member is to be read.
#[test]
fn names_and_targets_of_different_alphabets_equal_pythons() -> Outcome {
    let texts: [&[u8]; 4] = [b"plain", "é".as_bytes(), b"\xe9", b"\xe9\xc3\xa9"];
    let mut cases = Vec::new();
    for name in texts {
        for target in texts {
            cases.push(case(name, Kind::Symlink(target.to_vec())));
        }
    }

    assert_same_tar(&cases)
}

/// The record of a name grows by a digit near 100 and 1000 bytes.
#[test]
fn names_of_every_length_equal_pythons() -> Outcome {
    let cases: Vec<_> =
        (1..1100).map(|length| case("p".repeat(length), Kind::Symlink(b"t".repeat(length)))).collect();

    assert_same_tar(&cases)
}

#[test]
fn contents_around_whole_blocks_equal_pythons() -> Outcome {
    let mut cases = Vec::new();
    for size in [0, 1, 511, 512, 513, 1023, 1024, 1025, 10239, 10240, 10241, 65535, 65536, 65537, 200_000] {
        let bytes: Vec<u8> = (0..size).map(|place: u32| (place / 3) as u8).collect();
        cases.push(case(format!("/f{size}"), Kind::Regular(bytes)));
    }

    assert_same_tar(&cases)
}

/// The padding at the end depends on how long the tar is.
#[test]
fn the_end_equals_pythons_for_every_number_of_blocks() -> Outcome {
    for members in 0..=21 {
        let cases: Vec<_> = (0..members).map(|number| case(format!("/d{number}"), Kind::Directory)).collect();
        assert_same_tar(&cases)?;
    }
    Ok(())
}

#[test]
fn owners_modes_and_times_equal_pythons() -> Outcome {
    let owners = ["", "root", "ünï", "an-owner-with-a-name-of-32-bytes", "an-owner-with-a-name-of--33-bytes"];
    let mut cases = Vec::new();
    for (mode, id, mtime) in [
        (0, 0, 0),
        (0o1777, 1, 1),
        (0o7777, 65_534, 1_700_000_000),
        (0o644, 0o7_777_777, 0o77_777_777_777),
        (0o755, 0o10_000_000, 0o100_000_000_000),
        (0o100_644, u32::MAX, u64::MAX),
    ] {
        for uname in owners {
            for gname in owners {
                let metadata = Metadata { mode, uid: id, gid: id / 2, mtime, uname, gname };
                cases.push(Case { path: b"/f".to_vec(), metadata, kind: Kind::Regular(Vec::new()) });
                cases.push(Case { path: "/é".into(), metadata, kind: Kind::Directory });
            }
        }
    }

    assert_same_tar(&cases)
}
