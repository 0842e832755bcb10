//! Archives that lie, or are damaged.

use std::time::{Duration, Instant};

use super::*;

#[test]
fn a_hostile_name_or_link_is_refused() {
    for name in ["/etc/passwd", "../x", "a/../../x"] {
        let said = format!("`{name}` is no name of a member: names stay in the archive, and are UTF-8");
        assert_eq!(fault(Parts::default().file(name, b"x")), said);
        assert_eq!(fault(Parts::default().add(EntryType::Link, "link", name, b"")), said);
    }
    for target in ["/etc/passwd", "../../x"] {
        let said = format!("`{target}` is no name of a member: names stay in the archive, and are UTF-8");
        assert_eq!(fault(Parts::default().add(EntryType::Symlink, "a/link", target, b"")), said);
    }
    let circle = Parts::default()
        .json("manifest.json", &json!([{ "Config": "c.json", "Layers": ["a"] }]))
        .file("c.json", &config(&[diff_id(b"")]))
        .add(EntryType::Symlink, "a", "b", b"")
        .add(EntryType::Symlink, "b", "a", b"")
        .0
        .clone();
    assert_eq!(fault(&Parts(circle)), "the link `a` leads nowhere but to other links");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let (one, two) = (layer("one"), layer("two"));
    let good = config(&[diff_id(&one)]);
    let digest = diff_id(&one);

    let cases = [
        (docker(&config(&[]), &[("1.tar", &one)]), "the image has 1 layers, and its configuration says 0"),
        (
            docker(&config(&[digest.clone(), digest.clone()]), &[("1.tar", &one)]),
            "the image has 1 layers, and its configuration says 2",
        ),
        (docker(&good, &[("1.tar", &two)]), "the layer `1.tar` has the diff_id `sha256:"),
        (docker(&good, &[("1.tar", b"neither tar nor anything")]), "`1.tar` is no layer"),
        (
            docker(&config(&["sha256:../../x".to_owned()]), &[("1.tar", &one)]),
            "`c.json` says `sha256:../../x` in the place of a digest",
        ),
        (docker(b"{}", &[("1.tar", &one)]), "`c.json` is no configuration of an image"),
        (docker(b"{", &[("1.tar", &one)]), "`c.json` cannot be understood"),
        (docker(b"[1]", &[("1.tar", &one)]), "`c.json` cannot be understood"),
    ];
    for (parts, said) in cases {
        let fault = fault(&parts);
        assert!(fault.starts_with(said), "{fault}");
    }

    let without = docker(&good, &[("1.tar", &one)]).finish();
    let names = String::from_utf8_lossy(&without[512..600]).into_owned();
    assert!(names.contains("1.tar"), "{names}");
    let mut missing = Parts::default();
    missing
        .json("manifest.json", &json!([{ "Config": "c.json", "Layers": ["1.tar"] }]))
        .file("c.json", &good);
    assert_eq!(fault(&missing), "`manifest.json` names `1.tar`, which is not there");
    let mut outside = Parts::default();
    outside.json("manifest.json", &json!([{ "Config": "../c.json", "Layers": [] }]));
    assert!(fault(&outside).starts_with("`../c.json` is no name of a member"));
    assert!(fault(Parts::default().file("x", b"y")).starts_with("it holds no image"));
    assert_eq!(
        fault(Parts::default().json("manifest.json", &json!([]))),
        "it holds no image: there is no image in its list"
    );
}

#[test]
fn two_members_of_one_name_are_refused_unless_they_are_equal_layers() {
    let (one, two) = (layer("one"), layer("two"));
    let good = config(&[diff_id(&one)]);
    let twice = |name: &str, contents: &[u8]| {
        let mut parts = docker(&good, &[("1.tar", &one)]);
        parts.file(name, contents);
        parts
    };

    assert_eq!(fault(&twice("manifest.json", b"[]")), "it has two members `manifest.json`");
    assert_eq!(fault(&twice("./c.json", &good)), "it has two members `c.json`");
    let longer = [two.as_slice(), &[0; 512]].concat();
    assert_eq!(fault(&twice("1.tar", &longer)), "it has two members `1.tar`");
    let again = stream(twice("1.tar", &one).finish(), Form::Any);
    assert!(checked(&again, &Select::Only).is_ok());
    let mut seen = Vec::new();
    let again = stream(twice("1.tar", &two).finish(), Form::Any);
    again
        .pass(&mut |layer| {
            seen.push(layer.is_again());
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, [false, true]);
}

/// Only what all JSON has together is limited, since nobody knows before the end what an image names.
#[test]
fn what_no_image_names_may_be_anything() {
    let one = layer("one");
    let good = config(&[diff_id(&one)]);
    let mut stray = docker(&good, &[("1.tar", &one)]);
    stray.file("notes.json", b"to do: {").file("repositories", b"").file("index.json", b"[");
    stray.file("large.json", &vec![b' '; 9 << 20]);
    assert!(checked(&stream(stray.finish(), Form::Any), &Select::Only).is_ok());
    assert!(checked(&in_file(&stray.finish(), Form::Docker), &Select::Only).is_ok());

    let layout = checked(&stream(stray.finish(), Form::Layout), &Select::Only).unwrap_err();
    assert_eq!(layout.fault.to_string(), "`index.json` cannot be understood");
    let mut list = docker(&good, &[("1.tar", &one)]);
    list.0[512] = b'(';
    assert_eq!(fault(&list), "`manifest.json` cannot be understood");
    let mut large = Parts::default();
    large.json("manifest.json", &json!([{ "Config": "link", "Layers": [] }]));
    large.add(EntryType::Link, "link", "c.json", b"").file("c.json", &vec![b' '; 9 << 20]);
    assert_eq!(fault(&large), "`c.json` has more than 8388608 bytes");
}

#[test]
fn what_ends_early_is_told_by_the_member() {
    let one = layer("one");
    let bytes = docker(&config(&[diff_id(&one)]), &[("1.tar", &one)]).finish();
    let cut = bytes[..bytes.len() - 1024 - 700].to_vec();

    for source in [stream(cut.clone(), Form::Any), in_file(&cut, Form::Any)] {
        let error = checked(&source, &Select::Only).unwrap_err();
        assert_eq!(error.fault.to_string(), "it ends within `1.tar`");
    }
    let file = in_file(&cut, Form::Any);
    assert_eq!(file.survey().unwrap_err().fault.to_string(), "it ends within `1.tar`");
    let whole = gzip(&bytes);
    let cut = stream(whole[..whole.len() - 9].to_vec(), Form::Any);
    assert_eq!(checked(&cut, &Select::Only).unwrap_err().fault.to_string(), "it cannot be decompressed");
}

#[test]
fn an_error_has_no_room_for_long_texts() {
    let long = "x\u{1b}[31m".repeat(1 << 14);
    let names = vec![long.clone(); 30];
    let platform = json!({ "os": long, "architecture": long, "variant": long });
    let other = json!({ "digest": "", "size": 1, "platform": platform });
    let list = json!({ "manifests": [other, other] }).to_string();
    let typed = json!({ "mediaType": long }).to_string();
    let entry = |bytes: &str| json!({ "manifests": [descriptor(media_type::INDEX, bytes.as_bytes())] });
    let mut typed_entry = entry(&typed);
    typed_entry["manifests"][0]["mediaType"] = json!("");
    let shape = json!([{ "Config": "c.json", "RepoTags": long }]);
    let two = json!([{ "Config": "c.json", "RepoTags": names }, { "Config": "c.json" }]);

    for (parts, begins) in [
        (Parts::default().json("manifest.json", &two), "it holds several images"),
        (Parts::default().json("manifest.json", &shape), "`manifest.json` cannot be understood"),
        (Parts::default().json("manifest.json", &json!([{ "Config": long }])), "`x[31mx"),
        (&mut layout(&entry(&list), &[list.as_bytes()]), "the image is not there for"),
        (&mut layout(&typed_entry, &[typed.as_bytes()]), "`blobs/sha256/"),
    ] {
        let source = stream(parts.finish(), Form::Any);
        let error = checked(&source, &Select::Only).unwrap_err();
        assert!(error.fault.to_string().starts_with(begins), "{begins}");
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            let said = error.to_string();
            assert!(said.chars().count() < 4000 && !said.contains('\u{1b}'), "{begins}");
            cause = error.source();
        }
    }
}

#[test]
fn what_all_layers_become_together_is_limited() {
    let limits = Limits { bytes: 100 << 10, ..LIMITS };
    let zeros = gzip(&[0; 30 << 10]);
    let read = |count: usize| {
        let mut parts = Parts::default();
        for number in 0..count {
            parts.file(&format!("{number}.tar"), &zeros);
        }
        let source = stream(parts.finish(), Form::Any);
        let mut members = source.open().unwrap();
        Contents::read(&mut members, limits, &mut |layer| layer.copy_blob(&mut io::sink()).map(drop))
    };

    assert!(read(3).is_ok());
    let said = read(4).unwrap_err().to_string();
    assert_eq!(said, "the sum of its layers, decompressed, has more than 102400 bytes");
}

#[test]
fn large_json_is_not_read() {
    let mut parts = Parts::default();
    parts.file("manifest.json", &vec![b' '; 9 << 20]);
    assert_eq!(fault(&parts), "`manifest.json` has more than 8388608 bytes");
    let mut many = Parts::default();
    let document = format!("[{}1]", "1,".repeat(3 << 20));
    for number in 0..12 {
        many.file(&format!("{number}.json"), document.as_bytes());
    }
    assert_eq!(fault(&many), "all JSON in it, with the names, has more than 67108864 bytes");
}

/// What a list says of layers is not looked for at each of them.
#[test]
fn a_list_of_images_does_not_make_layers_slow() {
    let entries: Vec<Value> =
        (0..64).map(|image| json!({ "Config": format!("{image}/0"), "Layers": ["1.tar"] })).collect();
    let mut parts = Parts::default();
    for image in 0..64 {
        for link in 0..39 {
            parts.add(EntryType::Link, &format!("{image}/{link}"), &format!("{image}/{}", link + 1), b"");
        }
    }
    for number in 0..10_000 {
        parts.file(&format!("{number}.tar"), b"");
    }
    let read = |list: &str| {
        let mut front = Parts::default();
        front.json(list, &json!(entries)).0.extend_from_slice(&parts.0);
        let start = Instant::now();
        stream(front.finish(), Form::Any).pass(&mut |_| Ok(())).unwrap();
        start.elapsed()
    };

    // A machine that pauses may take long once.
    let mut seen = Vec::new();
    let fast = (0..5).any(|_| {
        let (without, with) = (read("other.json"), read("manifest.json"));
        seen.push((without, with));
        with < 4 * without + Duration::from_secs(1)
    });

    assert!(fast, "without the list and with it: {seen:?}");
}
