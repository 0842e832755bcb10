//! Which image of an archive, and under which tags.

use nixlayer::oci::Digest;
use serde_json::json;

use crate::machine::{Machine, fail, succeed, write};
use crate::seed::{Seed, archive, layer, manifest};

/// An archive of two images with a layer of their own and one that they share.
fn two_images() -> (Seed, Seed, Vec<u8>) {
    let shared = layer("etc/motd", b"shared");
    let [one, two] =
        ["one", "two"].map(|text| Seed::of(vec![shared.clone(), layer("etc/name", text.as_bytes())]));
    let names = |own: &str| vec!["shared.tar".to_owned(), own.to_owned()];
    let list = manifest(&[
        ("1.json", &["r.example/team/app:one", "app:first"], &names("1.tar")),
        ("2.json", &["app:two"], &names("2.tar")),
    ]);
    let list = list.to_string();
    let bytes = archive(&[
        ("shared.tar", &shared),
        ("1.tar", &one.layers[1]),
        ("2.tar", &two.layers[1]),
        ("1.json", &one.config),
        ("2.json", &two.config),
        ("manifest.json", list.as_bytes()),
    ]);
    (one, two, bytes)
}

#[test]
fn one_of_several_images_is_pushed_with_its_own_tags_and_its_own_layers() {
    let machine = Machine::new();
    let (one, two, bytes) = two_images();
    write(&machine.place("a.tar"), &bytes);

    let said = fail(&machine.push(&["docker-archive:a.tar", &machine.repository()]));
    assert!(
        said.contains("several images: `r.example/team/app:one` and `app:first` (`@0`), `app:two` (`@1`)"),
        "{said}"
    );
    assert_eq!(machine.registry.tags(), []);
    assert_eq!(machine.uploaded(0), 0);

    succeed(&machine.push(&["docker-archive:a.tar:@0", &machine.repository()]));
    assert_eq!(machine.config("one"), one.config);
    assert_eq!(machine.manifest("first"), machine.manifest("one"));
    let other = layer("etc/name", b"two");
    assert!(machine.registry.log().iter().all(|it| !it.path.contains(&Digest::of(&other).hex())));

    succeed(&machine.push(&["docker-archive:a.tar:docker.io/library/app:two", &machine.repository()]));
    assert_eq!(machine.config("two"), two.config);
    succeed(
        &machine.push_from(&machine.place("a.tar"), &["docker-archive:-:app:two", &machine.tagged("piped")]),
    );
    assert_eq!(machine.config("piped"), two.config);
    assert_eq!(machine.registry.tags().len(), 4);

    let said = fail(&machine.push(&["docker-archive:a.tar:app:three", &machine.repository()]));
    assert!(said.contains("no image in it is called `app:three`"), "{said}");
}

#[test]
fn of_a_compressed_archive_each_image_is_alone_in_its_repository() {
    let machine = Machine::new();
    let (_, _, bytes) = two_images();
    write(&machine.place("a.tar.zst"), &zstd::encode_all(bytes.as_slice(), 1).unwrap());

    for (image, repository) in [("app:first", "one"), ("app:two", "two")] {
        let destination = format!("{}-{repository}:x", machine.repository());
        succeed(&machine.push(&[&format!("docker-archive:a.tar.zst:{image}"), &destination]));
    }

    let blobs = machine.registry.blobs();
    for repository in ["team/app-one", "team/app-two"] {
        // Its configuration and two layers.
        assert_eq!(blobs.iter().filter(|(it, _)| it == repository).count(), 3, "{repository}");
    }
}

#[test]
fn an_image_without_a_tag_wants_one() {
    let machine = Machine::new();
    write(&machine.place("a.tar"), &Seed::new(21).streamed(&[]));

    for output in [
        machine.push(&["docker-archive:a.tar", &machine.repository()]),
        machine.push_from(&machine.place("a.tar"), &["-", &machine.repository()]),
    ] {
        let said = fail(&output);
        assert!(said.contains("the image has no tag of its own\n  fix:   name a tag"), "{said}");
    }

    assert_eq!(machine.registry.tags(), []);
    succeed(&machine.push(&["docker-archive:a.tar", &machine.tagged("x")]));
}

#[test]
fn a_layout_that_is_not_compressed_has_to_say_so_when_it_is_streamed() {
    let machine = Machine::new();
    let seed = Seed::new(22);
    let described = |media_type: &str, bytes: &[u8]| {
        json!({ "mediaType": format!("application/vnd.oci.image.{media_type}"),
            "digest": Digest::of(bytes).to_string(), "size": bytes.len() })
    };
    let layers: Vec<_> = seed.layers.iter().map(|layer| described("layer.v1.tar", layer)).collect();
    let image =
        json!({ "schemaVersion": 2, "config": described("config.v1+json", &seed.config), "layers": layers });
    let image = image.to_string();
    let index = json!({ "schemaVersion": 2, "manifests": [described("manifest.v1+json", image.as_bytes())] });
    let index = index.to_string();
    let name = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let bytes = archive(&[
        (&name(&seed.layers[0]), &seed.layers[0]),
        (&name(&seed.layers[1]), &seed.layers[1]),
        (&name(&seed.config), &seed.config),
        (&name(image.as_bytes()), image.as_bytes()),
        ("index.json", index.as_bytes()),
    ]);
    write(&machine.place("a.tar"), &bytes);

    let said = fail(&machine.push_from(&machine.place("a.tar"), &["-", &machine.tagged("x")]));
    assert!(said.contains("fix:   say what it is, `oci-archive:-` for"), "{said}");
    assert_eq!(machine.registry.tags(), []);

    succeed(&machine.push_from(&machine.place("a.tar"), &["oci-archive:-", &machine.tagged("piped")]));
    succeed(&machine.push(&["a.tar", &machine.tagged("file")]));
    write(&machine.place("a.tar.zst"), &zstd::encode_all(bytes.as_slice(), 1).unwrap());
    succeed(&machine.push(&["a.tar.zst", &machine.tagged("compressed")]));
    for tag in ["piped", "file", "compressed"] {
        assert_eq!(machine.manifest(tag), image.as_bytes(), "{tag}");
    }
    succeed(&machine.push(&["a.tar", "oci:nameless"]));
    assert!(machine.place("nameless/blobs/sha256").join(Digest::of(image.as_bytes()).hex()).exists());
    assert_eq!(machine.diff_ids("file"), seed.diff_ids());
}
