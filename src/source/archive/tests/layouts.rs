//! Image layouts.

use super::*;

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

    let plain = descriptor(media_type::MANIFEST, &image);
    let untold = json!({ "manifests": [plain, plain] }).to_string().into_bytes();
    let index = json!({ "manifests": [descriptor(media_type::INDEX, &untold)] });
    let said =
        format!("the image is not there for `linux/{host}`, only for machines that its list does not tell");
    assert_eq!(fault(&layout(&index, &[&untold, &image, &config, &blob])), said);
}

/// What BuildKit says of an image stands beside it, as if it were one for an unknown platform.
#[test]
fn the_only_image_is_taken_whatever_it_is_for() {
    let tar = layer("one");
    let blob = gzip(&tar);
    let config = config(&[diff_id(&tar)]);
    let image = manifest(&config, &[&blob]);
    let attestation = with_platform(descriptor(media_type::MANIFEST, b"said"), "unknown", "unknown");
    let foreign = with_platform(descriptor(media_type::MANIFEST, &image), "linux", "z80");
    let plain = descriptor(media_type::MANIFEST, &image);

    for entries in [json!([foreign]), json!([foreign, attestation]), json!([plain, attestation])] {
        let list = json!({ "manifests": entries }).to_string().into_bytes();
        let index = json!({ "manifests": [descriptor(media_type::INDEX, &list)] });
        let source = stream(layout(&index, &[&blob, &config, &image, &list]).finish(), Form::Any);

        assert_eq!(checked(&source, &Select::Only).unwrap().manifest, Some(image.clone()));
    }
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
    let all = "`a:1` and `r.example/a:2` (`@0`), `b:latest` (`@1`)";
    assert_eq!(choose(&Select::Only), Err(format!("it holds several images: {all}")));
    assert_eq!(named("c:1"), Err(format!("no image in it is called `c:1`, only {all}")));
    assert_eq!(choose(&Select::At(2)), Err(format!("no image in it is called `@2`, only {all}")));
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
fn a_manifest_of_dockers_stays_as_it_is() {
    const DOCKERS: &str = "application/vnd.docker.distribution.manifest.v2+json";
    let tar = layer("one");
    let blob = gzip(&tar);
    let config = config(&[diff_id(&tar)]);
    let image = String::from_utf8(manifest(&config, &[&blob])).unwrap();
    let dockers = image.replace(media_type::MANIFEST, DOCKERS);
    let index = |bytes: &str| json!({ "manifests": [descriptor(DOCKERS, bytes.as_bytes())] });

    let source = stream(layout(&index(&dockers), &[dockers.as_bytes(), &config, &blob]).finish(), Form::Any);
    assert_eq!(checked(&source, &Select::Only).unwrap().manifest, Some(dockers.into_bytes()));

    // Without a type of its own it would be sent as what it is not.
    let untyped = image.replace("mediaType", "type");
    let said = fault(&layout(&index(&untyped), &[untyped.as_bytes(), &config, &blob]));
    assert!(said.ends_with(&format!("has the media type `{DOCKERS}`")), "{said}");
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
    assert_eq!(source.survey().unwrap().unwrap().list().unwrap()[0].names, Vec::<String>::new());
    assert_eq!(checked(&source, &Select::Only).unwrap().config, config);

    std::fs::rename(blobs.join(Digest::of(&blob).hex()), folder.path().join("outside")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("outside"), blobs.join(Digest::of(&blob).hex())).unwrap();
    let error = checked(&open(), &Select::Only).unwrap_err();
    assert!(matches!(*error.fault, ArchiveFault::Read(_)), "{error:?}");
}
