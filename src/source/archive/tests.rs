//! Archives by hand: the shapes that there are, and those that mean harm.

use std::collections::BTreeMap;
use std::io::{self, Cursor};

use ::tar::{Builder, EntryType, Header};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::nix::Compression;
use crate::oci::{Digest, media_type};

/// A tar of one file, which is a layer.
fn layer(text: &str) -> Vec<u8> {
    let mut tar = Parts::default();
    tar.file("etc/motd", text.as_bytes());
    tar.finish()
}

fn diff_id(tar: &[u8]) -> String {
    Digest::of(tar).to_string()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn config(diff_ids: &[String]) -> Vec<u8> {
    let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
    json!({ "architecture": "amd64", "os": "linux", "rootfs": rootfs }).to_string().into_bytes()
}

/// An archive on its way.
#[derive(Default)]
struct Parts(Vec<u8>);

impl Parts {
    fn add(&mut self, kind: EntryType, name: &str, link: &str, contents: &[u8]) -> &mut Self {
        let mut header = Header::new_gnu();
        // The library would not write names that lead out.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(contents.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(contents);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(&mut self, name: &str, contents: &[u8]) -> &mut Self {
        self.add(EntryType::Regular, name, "", contents)
    }

    fn json(&mut self, name: &str, value: &Value) -> &mut Self {
        self.file(name, value.to_string().as_bytes())
    }

    fn finish(&self) -> Vec<u8> {
        [self.0.as_slice(), &[0; 1024]].concat()
    }
}

/// An archive of one image, with its manifest in front.
fn docker(config: &[u8], layers: &[(&str, &[u8])]) -> Parts {
    let names: Vec<&str> = layers.iter().map(|(name, _)| *name).collect();
    let mut parts = Parts::default();
    parts.json("manifest.json", &json!([{ "Config": "c.json", "RepoTags": ["app:1"], "Layers": names }]));
    parts.file("c.json", config);
    for (name, tar) in layers {
        parts.file(name, tar);
    }
    parts
}

fn stream(bytes: Vec<u8>, form: Form) -> ArchiveSource {
    ArchiveSource::stream("test.tar", form, Box::new(Cursor::new(bytes)))
}

fn in_file(bytes: &[u8], form: Form) -> ArchiveSource {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    ArchiveSource::file("test.tar", form, file).unwrap()
}

/// The image of an archive, all of whose layers have been read and are what they should be.
fn checked(source: &ArchiveSource, select: &Select) -> Result<ArchivedImage, ArchiveError> {
    let mut passed = BTreeMap::new();
    let contents = source.pass(&mut |layer| {
        let found = layer.copy_blob(&mut io::sink())?;
        passed.insert(layer.member().clone(), found);
        Ok(())
    })?;
    let image = contents.image(select)?;
    image.check(&passed).map_err(|fault| source.error(fault))?;
    Ok(image)
}

/// What is wrong with an archive, in words.
fn fault(parts: &Parts) -> String {
    let source = stream(parts.finish(), Form::Any);
    checked(&source, &Select::Only).unwrap_err().fault.to_string()
}

#[test]
fn an_image_is_the_same_wherever_its_manifest_stands_and_however_it_is_wrapped() {
    let (one, two) = (layer("one"), layer("two"));
    let config = config(&[diff_id(&one), diff_id(&two), diff_id(&one)]);
    let list = json!([{ "Config": "c.json", "RepoTags": ["r.example/app:1"],
        "Layers": ["a/layer.tar", "two.tar", "b/layer.tar"] }]);
    let first = [
        Parts::default().json("./manifest.json", &list).0.clone(),
        Parts::default().file("./c.json", &config).0.clone(),
    ]
    .concat();
    let layers = Parts::default()
        .add(EntryType::Directory, "a/", "", b"")
        .file("a/VERSION", b"1.0")
        .file("a/layer.tar", &one)
        .add(EntryType::Symlink, "b/layer.tar", "../c/link", b"")
        .add(EntryType::Link, "c/link", "a/layer.tar", b"")
        .file("two.tar", &two)
        .0
        .clone();
    let end = vec![0; 1024];

    for plain in [[first.clone(), layers.clone(), end.clone()].concat(), [layers, first, end].concat()] {
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        for bytes in [plain.clone(), gzip(&plain), zstd] {
            for source in [stream(bytes.clone(), Form::Any), in_file(&bytes, Form::Docker)] {
                let image = checked(&source, &Select::Only).unwrap();

                let members: Vec<&str> = image.layers.iter().map(|layer| layer.member.as_str()).collect();
                assert_eq!(members, ["a/layer.tar", "two.tar", "a/layer.tar"]);
                assert_eq!((&image.config, image.tags()[0].as_str()), (&config, "1"));
            }
        }
    }
}

#[test]
fn a_file_is_surveyed_without_its_layers_and_gives_one_of_them() {
    let (one, two) = (layer("one"), layer("two"));
    let config = config(&[diff_id(&one), diff_id(&two)]);
    let plain = docker(&config, &[("1.tar", &one), ("2.tar", &gzip(&two))]).finish();

    for (bytes, quick) in [(plain.clone(), true), (gzip(&plain), false)] {
        let source = in_file(&bytes, Form::Docker);
        assert_eq!(source.survey().unwrap().is_some(), quick);

        let image = source.image(&Select::At(0)).unwrap();
        let mut copied = Vec::new();
        source.copy_layer(&image.layers[1], &mut copied).unwrap();

        assert!(copied == two);
        let other = ArchivedLayer { diff_id: image.layers[0].diff_id, ..image.layers[1].clone() };
        let error = source.copy_layer(&other, &mut io::sink()).unwrap_err();
        assert!(matches!(*error.fault, ArchiveFault::DiffId { .. }), "{error:?}");
    }
}

/// An image layout: its index, and the blobs.
fn layout(index: &Value, blobs: &[&[u8]]) -> Parts {
    let mut parts = Parts::default();
    for blob in blobs {
        parts.file(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
    }
    parts.json("index.json", index).json("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }));
    parts
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len() })
}

fn manifest(config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let layers: Vec<Value> = layers.iter().map(|layer| descriptor(media_type::LAYER_GZIP, layer)).collect();
    let config = descriptor(media_type::CONFIG, config);
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": layers });
    manifest.to_string().into_bytes()
}

fn with_platform(mut descriptor: Value, os: &str, architecture: &str) -> Value {
    descriptor["platform"] = json!({ "os": os, "architecture": architecture });
    descriptor
}

#[test]
fn a_layout_gives_the_image_of_this_host() {
    let tar = layer("one");
    let blob = gzip(&tar);
    let config = config(&[diff_id(&tar)]);
    let image = manifest(&config, &[&blob]);
    let (host, _) = crate::nix::System::HOST.go_architecture();
    let list = json!({ "schemaVersion": 2, "manifests": [
        with_platform(descriptor(media_type::MANIFEST, b"windows"), "windows", host),
        with_platform(descriptor(media_type::MANIFEST, b"s390x"), "linux", "z80"),
        with_platform(descriptor(media_type::MANIFEST, &image), "linux", host),
    ] });
    let list = list.to_string().into_bytes();
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor(media_type::INDEX, &list)] });

    let source = stream(layout(&index, &[&blob, &config, &image, &list]).finish(), Form::Any);
    let found = checked(&source, &Select::Only).unwrap();

    assert_eq!(found.manifest.as_deref(), Some(image.as_slice()));
    assert_eq!(found.config, config);
    assert_eq!(found.layers[0].blob.as_ref().unwrap().digest, Digest::of(&blob));

    let foreign = json!({ "manifests": [
        with_platform(descriptor(media_type::MANIFEST, &image), "linux", "z80"),
        with_platform(descriptor(media_type::MANIFEST, &image), "windows", host),
    ] });
    let foreign = foreign.to_string().into_bytes();
    let index = json!({ "manifests": [descriptor(media_type::INDEX, &foreign)] });
    let said = format!("the image is not there for `linux/{host}`, only for `linux/z80`, `windows/{host}`");
    assert_eq!(fault(&layout(&index, &[&foreign, &image, &config, &blob])), said);
}

#[test]
fn one_of_several_images_is_named() {
    let tar = layer("one");
    let config = config(&[diff_id(&tar)]);
    let entry = |names: &[&str]| json!({ "Config": "c.json", "RepoTags": names, "Layers": ["l.tar"] });
    let mut parts = Parts::default();
    parts.json("manifest.json", &json!([entry(&["a:1", "r.example/a:2"]), entry(&["b:latest"])]));
    parts.file("c.json", &config).file("l.tar", &tar);
    let choose = |select: &Select| {
        let image = checked(&in_file(&parts.finish(), Form::Any), select);
        image.map(|image| image.names.join(" ")).map_err(|error| error.fault.to_string())
    };
    let named = |name: &str| choose(&Select::Named(name.to_owned()));

    assert_eq!(named("a:1").as_deref(), Ok("a:1"));
    assert_eq!(named("docker.io/library/b").as_deref(), Ok("b:latest"));
    assert_eq!(choose(&Select::At(0)).as_deref(), Ok("a:1 r.example/a:2"));
    let all = "`a:1`, `r.example/a:2`, `b:latest`";
    assert_eq!(choose(&Select::Only), Err(format!("it holds several images: {all}")));
    assert_eq!(named("c:1"), Err(format!("no image in it is called `c:1`, only {all}")));
    assert_eq!(choose(&Select::At(2)), Err(format!("no image in it is called `@2`, only {all}")));
}

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

#[test]
fn a_layout_that_lies_is_refused() {
    let tar = layer("one");
    let blob = gzip(&tar);
    let config = config(&[diff_id(&tar)]);
    let image = manifest(&config, &[&blob]);
    let index = |descriptor: Value| json!({ "schemaVersion": 2, "manifests": [descriptor] });
    let good = index(descriptor(media_type::MANIFEST, &image));

    let mut path = descriptor(media_type::MANIFEST, &image);
    path["digest"] = json!("sha256:../../x");
    let fault_of_path = fault(&layout(&index(path), &[&image, &config, &blob]));
    assert_eq!(fault_of_path, "`index.json` says `sha256:../../x` in the place of a digest");
    let mut short = descriptor(media_type::MANIFEST, &image);
    short["size"] = json!(7);
    assert!(fault(&layout(&index(short), &[&image, &config, &blob])).contains("of 7"));
    assert!(fault(&layout(&good, &[&image, &config])).ends_with("which is not there"));
    assert!(fault(&layout(&good, &[&image, &blob])).ends_with("which is not there"));

    let mut forged = layout(&good, &[&image, &config]);
    forged.file(&format!("blobs/sha256/{}", Digest::of(&blob).hex()), &gzip(&layer("other")));
    assert!(fault(&forged).contains(&format!("should be `{}`", Digest::of(&blob))));
    let docker = image.clone();
    let docker = String::from_utf8(docker).unwrap().replace(media_type::MANIFEST, "application/x");
    let index_of_docker = index(descriptor("application/x", docker.as_bytes()));
    assert!(fault(&layout(&index_of_docker, &[docker.as_bytes(), &config, &blob])).contains("application/x"));
    let surplus = [blob.as_slice(), b"more"].concat();
    let image = manifest(&config, &[&surplus]);
    let index = index(descriptor(media_type::MANIFEST, &image));
    assert!(fault(&layout(&index, &[&image, &config, &surplus])).ends_with("cannot be decompressed"));
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
fn large_json_is_not_read() {
    let mut parts = Parts::default();
    parts.file("manifest.json", &vec![b' '; 9 << 20]);
    assert_eq!(fault(&parts), "`manifest.json` has more than 8388608 bytes");
    let mut many = Parts::default();
    let document = format!("[{}1]", "1,".repeat(3 << 20));
    for number in 0..12 {
        many.file(&format!("{number}.json"), document.as_bytes());
    }
    assert_eq!(fault(&many), "all JSON in it has more than 67108864 bytes");
}

#[test]
fn a_stream_is_read_once() {
    let one = layer("one");
    let source = stream(docker(&config(&[diff_id(&one)]), &[("1.tar", &one)]).finish(), Form::Any);

    assert!(!source.is_lasting() && source.survey().unwrap().is_none());
    let image = checked(&source, &Select::Only).unwrap();

    let error = source.copy_layer(&image.layers[0], &mut io::sink()).unwrap_err();
    assert!(matches!(*error.fault, ArchiveFault::Gone), "{error:?}");
}

#[test]
fn the_failure_of_a_program_is_the_reason() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the program failed"))
        }
    }
    let one = layer("one");
    let bytes = docker(&config(&[diff_id(&one)]), &[("1.tar", &one)]).finish();
    for length in [0, 700, bytes.len()] {
        let reader = Box::new(Cursor::new(bytes[..length].to_vec()).chain(Failing));
        let error = ArchiveSource::stream("x", Form::Any, reader).pass(&mut |_| Ok(())).unwrap_err();
        assert!(matches!(*error.fault, ArchiveFault::Read(_)), "{length}: {error:?}");
    }
}

#[test]
fn a_folder_is_read_within_itself() {
    let tar = layer("one");
    let blob = gzip(&tar);
    let config = config(&[diff_id(&tar)]);
    let image = manifest(&config, &[&blob]);
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor(media_type::MANIFEST, &image)] });
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("layout/blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(folder.path().join("layout/index.json"), index.to_string()).unwrap();
    for bytes in [&blob, &config, &image] {
        std::fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
    }
    let open = || {
        let dir = Dir::open_ambient_dir(folder.path().join("layout"), cap_std::ambient_authority()).unwrap();
        ArchiveSource::folder("layout", dir)
    };

    let source = open();
    assert_eq!(source.survey().unwrap().unwrap().names().unwrap(), [Vec::<String>::new()]);
    assert_eq!(checked(&source, &Select::Only).unwrap().config, config);

    std::fs::rename(blobs.join(Digest::of(&blob).hex()), folder.path().join("outside")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("outside"), blobs.join(Digest::of(&blob).hex())).unwrap();
    let error = checked(&open(), &Select::Only).unwrap_err();
    assert!(matches!(*error.fault, ArchiveFault::Read(_)), "{error:?}");
}

proptest! {
    /// Whatever becomes of an archive on its way, what is taken is the image that was put in.
    #[test]
    fn a_damaged_archive_is_refused_or_harmless(
        in_layout in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in prop_oneof![Just(None), any::<prop::sample::Index>().prop_map(Some)],
    ) {
        let (one, two) = (layer("one"), layer("two"));
        let config = config(&[diff_id(&one), diff_id(&two)]);
        let (one_blob, two_blob) = (gzip(&one), gzip(&two));
        let image = manifest(&config, &[&one_blob, &two_blob]);
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor(media_type::MANIFEST, &image)] });
        let mut bytes = match in_layout {
            true => layout(&index, &[&image, &config, &one_blob, &two_blob]).finish(),
            false => docker(&config, &[("1.tar", &one), ("2.tar", &two_blob)]).finish(),
        };
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(length.map_or(bytes.len(), |length| length.index(bytes.len())));

        if let Ok(found) = checked(&stream(bytes.clone(), Form::Any), &Select::Only) {
            prop_assert!(!in_layout || found.config == config);
            let again = checked(&in_file(&bytes, Form::Any), &Select::Only);
            prop_assert_eq!(again.ok(), Some(found));
        }
    }
}

#[test]
fn layers_are_told_by_their_bytes() {
    let tar = layer("one");
    let mut builder = Builder::new(Vec::new());
    builder.append_data(&mut Header::new_gnu(), "{", io::empty()).unwrap();
    let odd = builder.into_inner().unwrap();
    let mut parts = Parts::default();
    parts.file("a", &tar).file("b", &gzip(&tar)).file("c", &zstd::encode_all(tar.as_slice(), 1).unwrap());
    parts.file("d", &odd).file("e", &[0; 1024]).file("f", b"1.0").file("g", b"").json("h", &json!({}));
    let mut seen = Vec::new();

    stream(parts.finish(), Form::Any)
        .pass(&mut |layer| {
            seen.push((layer.member().to_string(), layer.compression()));
            Ok(())
        })
        .unwrap();

    use Compression::{Gzip, None, Zstd};
    let expected = [("a", None), ("b", Gzip), ("c", Zstd), ("d", None), ("e", None)];
    assert_eq!(seen, expected.map(|(name, compression)| (name.to_owned(), compression)));
}
