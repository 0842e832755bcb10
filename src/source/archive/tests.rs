//! Archives by hand: the shapes that there are, and those that mean harm.

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::os::unix::fs::FileExt as _;

use ::tar::{Builder, EntryType, Header};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::nix::Compression;
use crate::oci::{Digest, media_type};

mod hostile;
mod layouts;

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
fn a_name_of_dockers_without_a_tag_means_latest() {
    let tar = layer("one");
    let config = config(&[diff_id(&tar)]);
    for (name, tag) in [("app", Some("latest")), ("r.example:5000/team/app", Some("latest")), ("", None)] {
        let mut parts = Parts::default();
        parts.json("manifest.json", &json!([{ "Config": "c", "RepoTags": [name], "Layers": ["l"] }]));
        let source = in_file(&parts.file("c", &config).file("l", &tar).finish(), Form::Any);
        let tags = source.image(&Select::Only).unwrap().tags();

        assert_eq!(tags.iter().map(|tag| tag.as_str()).next(), tag, "{name}");
        assert_eq!(
            source.list().unwrap()[0].names[0],
            tag.map_or(name.to_owned(), |tag| format!("{name}:{tag}"))
        );
    }
}

#[test]
fn a_file_is_surveyed_without_its_layers_and_gives_one_of_them() {
    let (one, two) = (layer("one"), layer("two"));
    let config = config(&[diff_id(&one), diff_id(&two)]);
    let plain = docker(&config, &[("1.tar", &one), ("2.tar", &gzip(&two))]).finish();

    for bytes in [plain.clone(), gzip(&plain)] {
        let source = in_file(&bytes, Form::Docker);
        assert_eq!(source.survey().unwrap().unwrap().list().unwrap()[0].names, ["app:1"]);

        let image = source.image(&Select::At(0)).unwrap();
        assert_eq!(image.layers[0].size, one.len() as u64);
        let mut copied = Vec::new();
        source.copy_layer(&image.layers[1], &mut copied).unwrap();

        assert!(copied == two);
        let other = ArchivedLayer { diff_id: image.layers[0].diff_id, ..image.layers[1].clone() };
        let error = source.copy_layer(&other, &mut io::sink()).unwrap_err();
        assert!(matches!(*error.fault, ArchiveFault::DiffId { .. }), "{error:?}");
    }
}

/// What is decompressed once is not decompressed for each layer: the front of the file is not needed again.
#[test]
fn a_compressed_archive_goes_on_where_the_layer_before_has_ended() {
    let layers = [1, 2, 3].map(|seed| incompressible(seed, 400 << 10));
    let config = config(&layers.each_ref().map(|layer| diff_id(layer)));
    let [one, two, three] = &layers;
    let file = tempfile::tempfile().unwrap();
    let archive = docker(&config, &[("1", one), ("2", two), ("3", three)]).finish();
    file.write_all_at(&gzip(&archive), 0).unwrap();
    let source = ArchiveSource::file("a.tar.gz", Form::Docker, file.try_clone().unwrap()).unwrap();
    let image = source.image(&Select::Only).unwrap();
    let copy = |number: usize| {
        let mut copied = Vec::new();
        source.copy_layer(&image.layers[number - 1], &mut copied).map(|_| copied)
    };

    assert!(copy(2).unwrap() == *two);
    assert!(copy(1).unwrap() == *one, "it is read from the start");
    file.write_all_at(&[0; 200 << 10], 0).unwrap();

    assert!(copy(3).unwrap() == *three);
    assert!(copy(2).unwrap() == *two);
    copy(1).unwrap_err();
}

/// Each reader holds a window of its decoder. The one that has come furthest is of use to the fewest layers.
#[test]
fn few_readers_rest() {
    let layers: Vec<Vec<u8>> = (0..12).map(|seed| incompressible(seed, 1 << 10)).collect();
    let names: Vec<String> = (0..12).map(|number| number.to_string()).collect();
    let named: Vec<(&str, &[u8])> =
        names.iter().zip(&layers).map(|(name, layer)| (name.as_str(), layer.as_slice())).collect();
    let diff_ids: Vec<String> = layers.iter().map(|layer| diff_id(layer)).collect();
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&gzip(&docker(&config(&diff_ids), &named).finish()), 0).unwrap();
    let source = ArchiveSource::file("a.tar.gz", Form::Docker, file.try_clone().unwrap()).unwrap();
    let image = source.image(&Select::Only).unwrap();

    for layer in image.layers.iter().rev() {
        source.copy_layer(layer, &mut io::sink()).unwrap();
    }

    let From::File(shared, _) = &source.from else { panic!("it is a file") };
    assert_eq!(Arc::strong_count(shared), 1 + 8);
    file.write_all_at(&[0; 16], 0).unwrap();
    source.copy_layer(&image.layers[1], &mut io::sink()).unwrap();
}

/// A layer of one file of so many bytes.
fn incompressible(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u8
    });
    let mut tar = Parts::default();
    tar.file("blob", &words.take(length).collect::<Vec<u8>>());
    tar.finish()
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

/// What a layer should be is known as soon as the list and its configuration have come, whatever came before.
#[test]
fn layers_after_the_configuration_are_known_ahead() {
    let (one, two) = (layer("one"), layer("two"));
    let entry = |config: &str, layers: &[&str]| json!({ "Config": config, "Layers": layers });
    let list = json!([entry("a", &["1", "2"]), entry("b", &["1", "3"]), entry("missing", &["1"])]);
    let mut parts = Parts::default();
    parts.file("1", &one).json("manifest.json", &list).file("2", &two);
    parts.file("a", &config(&[diff_id(&one), diff_id(&two)])).file("3", &one);
    parts.file("b", &config(&[diff_id(&one), diff_id(&one)])).file("2", &two).file("3", &one);
    let mut said = Vec::new();

    stream(parts.finish(), Form::Any)
        .pass(&mut |layer| {
            said.push((layer.member().to_string(), layer.said_diff_id().map(|said| said.to_string())));
            Ok(())
        })
        .unwrap();

    let expected = [("1", None), ("2", None), ("3", None), ("2", Some(&two)), ("3", Some(&one))];
    assert_eq!(said, expected.map(|(name, tar)| (name.to_owned(), tar.map(|tar| diff_id(tar)))));
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
    let expected = [("a", None), ("b", Gzip), ("c", Zstd), ("d", None), ("e", None), ("g", None)];
    assert_eq!(seen, expected.map(|(name, compression)| (name.to_owned(), compression)));
}

/// A tar of no bytes is one of no files: its readers find its end at once.
#[test]
fn a_layer_may_be_empty() {
    let parts = docker(&config(&[diff_id(b"")]), &[("1.tar", b"")]);

    for source in [stream(parts.finish(), Form::Any), in_file(&parts.finish(), Form::Any)] {
        assert_eq!(checked(&source, &Select::Only).unwrap().layers[0].size, 0);
    }
}
