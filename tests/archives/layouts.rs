//! Which image of a layout: one under several names, and one for several platforms.

use std::fs;
use std::path::PathBuf;

use nixlayer::nix::System;
use nixlayer::oci::{Digest, REF_NAME};
use serde_json::{Value, json};

use crate::machine::{Machine, fail, succeed, write};
use crate::seed::{Seed, gzip, layer};

/// A layout in the folder `layout` of a machine, on its way.
struct Layout(PathBuf);

impl Layout {
    fn new(machine: &Machine) -> Self {
        let folder = machine.place("layout");
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        write(&folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#);
        Self(folder)
    }

    fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        write(&self.0.join("blobs/sha256").join(digest.hex()), bytes);
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
    }

    /// The entry of an image that no other text gives.
    fn image(&self, text: &str) -> Value {
        let seed = Seed::of(vec![layer("etc/motd", text.as_bytes())]);
        let layers = [self.blob("layer.v1.tar+gzip", &gzip(&seed.layers[0]))];
        let config = self.blob("config.v1+json", &seed.config);
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string();
        self.blob("manifest.v1+json", manifest.as_bytes())
    }

    /// The entry of a list of these.
    fn list(&self, entries: &[Value]) -> Value {
        let list = json!({ "schemaVersion": 2, "manifests": entries }).to_string();
        self.blob("index.v1+json", list.as_bytes())
    }

    /// Lets the layout have these images.
    fn holds(&self, entries: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": entries }).to_string();
        write(&self.0.join("index.json"), index.as_bytes());
    }
}

fn named(entry: &Value, name: &str) -> Value {
    let mut entry = entry.clone();
    entry["annotations"] = json!({ REF_NAME: name });
    entry
}

/// For Linux on this machine, or on another one.
fn on(entry: &Value, architecture: &str, variant: Option<&str>) -> Value {
    let mut entry = entry.clone();
    entry["platform"] = json!({ "os": "linux", "architecture": architecture, "variant": variant });
    entry
}

fn host() -> &'static str {
    System::HOST.go_architecture().0
}

/// The digest of what a tag names.
fn pushed(machine: &Machine, tag: &str) -> String {
    Digest::of(&machine.manifest(tag)).to_string()
}

#[test]
fn of_an_image_for_several_machines_of_a_kind_the_plainest_is_pushed() {
    let machine = Machine::new();
    let layout = Layout::new(&machine);
    let [one, two] = ["one", "two"].map(|text| layout.image(text));

    for (other, plain) in [(Some("v9"), None), (None, None), (Some("v9"), Some("v8"))] {
        let list = layout.list(&[on(&one, host(), other), on(&two, host(), plain)]);
        layout.holds(&[list]);
        succeed(&machine.push(&["oci:layout", &machine.tagged("x")]));

        // Of two that are the same, the first, as the image specification has it ("Image Index").
        let expected = if other == plain { &one } else { &two };
        assert_eq!(pushed(&machine, "x"), expected["digest"], "{other:?}, {plain:?}");
    }
}

#[test]
fn one_image_under_several_names_is_one() {
    let machine = Machine::new();
    let layout = Layout::new(&machine);
    let [one, two] = ["one", "two"].map(|text| layout.image(text));
    layout.holds(&[named(&one, "1"), named(&one, "latest"), one.clone()]);

    succeed(&machine.push(&["oci:layout", &machine.tagged("given")]));
    assert_eq!(machine.registry.tags().len(), 1);
    succeed(&machine.push(&["oci:layout:latest", &machine.repository()]));
    assert_eq!(machine.registry.tags().len(), 2);
    succeed(&machine.push(&["layout", &machine.repository()]));
    assert_eq!(machine.registry.tags().len(), 3);
    for tag in ["given", "latest", "1"] {
        assert_eq!(pushed(&machine, tag), one["digest"], "{tag}");
    }

    // As nixlayer itself writes it.
    write(&machine.place("a.tar"), &Seed::new(61).streamed(&["app:a", "app:b"]));
    succeed(&machine.push(&["a.tar", "oci:written"]));
    succeed(&machine.push(&["oci:written", &machine.repository()]));
    assert_eq!(pushed(&machine, "a"), pushed(&machine, "b"));

    // Places are those of the list.
    layout.holds(&[named(&one, "1"), named(&one, "latest"), named(&two, "2")]);
    succeed(&machine.push(&["oci:layout:@2", &machine.repository()]));
    assert_eq!(pushed(&machine, "2"), two["digest"]);
    succeed(&machine.push(&["oci:layout:@1", &machine.tagged("y")]));
    assert_eq!(pushed(&machine, "y"), one["digest"]);
    let said = fail(&machine.push(&["oci:layout", &machine.repository()]));
    assert!(said.contains("several images: `1` and `latest` (`@0`), `2` (`@2`)\n"), "{said}");
    let said = fail(&machine.push(&["oci:layout:@3", &machine.repository()]));
    assert!(
        said.contains("no image in it is called `@3`, only `1` and `latest` (`@0`), `2` (`@2`)\n"),
        "{said}"
    );
}

#[test]
fn one_name_may_stand_for_several_platforms() {
    let machine = Machine::new();
    let layout = Layout::new(&machine);
    let [one, two, three] = ["one", "two", "three"].map(|text| layout.image(text));
    let foreign = named(&on(&one, "z80", None), "1");
    let other = named(&on(&three, host(), None), "2");
    layout.holds(&[foreign.clone(), named(&on(&two, host(), None), "1"), other]);

    succeed(&machine.push(&["oci:layout:1", &machine.tagged("named")]));
    layout.holds(&[foreign.clone(), named(&on(&two, host(), None), "1")]);
    succeed(&machine.push(&["oci:layout", &machine.repository()]));
    // What BuildKit says of an image stands beside it.
    let mut said = three.clone();
    said["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    layout.holds(&[on(&one, "z80", None), on(&two, host(), None), said.clone()]);
    succeed(&machine.push(&["oci:layout", &machine.tagged("nameless")]));
    succeed(&machine.push(&["oci:layout:@0", &machine.tagged("foreign")]));
    assert_eq!(pushed(&machine, "foreign"), one["digest"]);
    layout.holds(&[named(&said, "1"), named(&two, "1")]);
    succeed(&machine.push(&["oci:layout:1", &machine.tagged("plain")]));

    for tag in ["named", "1", "nameless", "plain"] {
        assert_eq!(pushed(&machine, tag), two["digest"], "{tag}");
    }
}

#[test]
fn images_that_nothing_tells_apart_are_listed_with_their_places() {
    let machine = Machine::new();
    let layout = Layout::new(&machine);
    let [one, two] = ["one", "two"].map(|text| layout.image(text));
    let here = |entry: &Value| named(&on(entry, host(), None), "1");
    let on_this = format!("for linux/{}", host());

    for (entries, source, listed) in [
        (vec![named(&one, "1"), named(&two, "1")], "oci:layout:1", "`1` (`@0`), `1` (`@1`)".to_owned()),
        (vec![one.clone(), named(&two, "2")], "layout", "one without a name (`@0`), `2` (`@1`)".to_owned()),
        (
            vec![here(&one), here(&two)],
            "oci:layout:1",
            format!("`1` (`@0`, {on_this}), `1` (`@1`, {on_this})"),
        ),
        (
            vec![named(&on(&one, "z80", None), "1"), named(&on(&two, "6502", Some("c")), "1")],
            "oci:layout:1",
            "`1` (`@0`, for linux/z80), `1` (`@1`, for linux/6502/c)".to_owned(),
        ),
    ] {
        layout.holds(&entries);
        let said = fail(&machine.push(&[source, &machine.tagged("x")]));

        assert!(said.contains(&format!("cause: it holds several images: {listed}\n")), "{said}");
        assert!(said.contains("or by its place, from `@0` on"), "{said}");
    }

    assert_eq!(machine.registry.tags(), []);
    layout.holds(&[]);
    let said = fail(&machine.push(&["oci:layout:@0", &machine.tagged("x")]));
    assert!(said.contains("it holds no image: there is no image in its list"), "{said}");
}

#[test]
fn a_layout_of_another_version_is_refused() {
    let machine = Machine::new();
    let layout = Layout::new(&machine);
    layout.holds(&[layout.image("one")]);
    succeed(&machine.push(&["oci:layout", &machine.tagged("x")]));

    for (text, said) in [
        (r#"{"imageLayoutVersion":"2.0.0"}"#, "it is an image layout of version `2.0.0`"),
        (r#"{"imageLayoutVersion":"10.0"}"#, "it is an image layout of version `10.0`"),
        ("1.0.0", "`oci-layout` cannot be understood"),
    ] {
        write(&layout.0.join("oci-layout"), text.as_bytes());
        let failed = fail(&machine.push(&["oci:layout", &machine.tagged("y")]));

        assert!(failed.contains(said), "{failed}");
    }
    assert_eq!(machine.registry.tags().len(), 1);
}

#[test]
fn digests_of_other_algorithms_are_called_so() {
    let machine = Machine::new();
    let layout = Layout::new(&machine);
    let mut entry = layout.image("one");
    entry["digest"] = json!(format!("sha512:{}", "0123456789abcdef".repeat(8)));
    layout.holds(&[entry]);

    let said = fail(&machine.push(&["oci:layout", &machine.tagged("x")]));

    assert!(said.contains("cause: `index.json` names a blob by `sha512:0123"), "{said}");
    assert!(said.contains("fix:   make it anew, with digests of sha256: no others are known here"), "{said}");
}
