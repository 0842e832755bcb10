use serde_json::json;

use super::*;
use crate::source::nix2container::pattern::Pattern;

const A: &str = "sha256:1ea63d00b937dc24c711265b80444cc9e7e63751fb7f349b160be61d31381983";
const B: &str = "sha256:59bf1c3509f33515622619af21ed55bbe26d24913cedbca106468a5fb37a50c3";
const PATH: &str = "/nix/store/00000000000000000000000000000000-app";

/// An image as nix2container writes it, down to the tabs: a layer of a base image, and one of its own with
/// all that a path can have.
fn image() -> Value {
    json!({
        "version": 1,
        "image-config": { "Env": ["A=b"], "Entrypoint": ["/bin/app"] },
        "layers": [
            {
                "digest": B, "size": 0, "diff_ids": A,
                "mediatype": "application/vnd.oci.image.layer.v1.tar+gzip",
                "layer-path": "/nix/store/00000000000000000000000000000000-base/59bf1c35",
                "History": {},
            },
            {
                "digest": A, "size": 4096, "diff_ids": A,
                "paths": [{
                    "path": PATH,
                    "options": {
                        "rewrite": { "regex": format!("^{PATH}"), "repl": "" },
                        "perms": [{
                            "regex": ".*", "mode": "0755", "uid": 1, "gid": 2, "uname": "u", "gname": "",
                        }],
                    },
                }],
                "mediatype": "application/vnd.oci.image.layer.v1.tar",
                "History": { "created_by": "nix2container" },
            },
        ],
        "arch": "arm64",
        "created": "0001-01-01T00:00:00Z",
    })
}

fn parse(image: &Value) -> Result<Image, String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(image, &mut serializer).unwrap();
    Image::parse("image.json", &bytes).map_err(|error| error.to_string())
}

/// The image with another value at a JSON pointer (RFC 6901), or with none.
fn changed(pointer: &str, value: Value) -> Result<Image, String> {
    let mut image = image();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = image.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.insert(key.to_owned(), value);
    parse(&image)
}

#[test]
fn an_image_of_nix2container_is_read() {
    let image = parse(&image()).unwrap();

    assert_eq!((image.architecture.as_str(), image.created.as_str()), ("arm64", NO_TIME));
    assert_eq!(Value::Object(image.config), json!({ "Env": ["A=b"], "Entrypoint": ["/bin/app"] }));
    let [base, own] = &image.layers[..] else { panic!("{:?}", image.layers) };
    assert_eq!((base.digest.to_string().as_str(), base.diff_id.to_string().as_str()), (B, A));
    assert_eq!((base.size, own.size), (None, Some(4096)));
    assert_eq!(Value::from(base.history.clone()), json!({}));
    assert_eq!(Value::from(own.history.clone()), json!({ "created_by": "nix2container" }));
    let Source::Paths(paths) = &own.source else { panic!("{own:?}") };
    let options = paths[0].options.as_ref().unwrap();
    assert_eq!(Some(&options.rewrite.as_ref().unwrap().pattern), Pattern::new(&format!("^{PATH}")).as_ref());
    let permissions = &options.permissions[0];
    assert_eq!((permissions.mode, permissions.uid, permissions.gid), (Some(0o755), 1, 2));
    assert_eq!((permissions.uname.as_deref(), permissions.gname.as_deref()), (Some("u"), None));
}

/// What Go writes for a base image alone, and what it never wrote but reads.
#[test]
fn what_is_missing_or_unknown_does_no_harm() {
    assert_eq!(changed("/created", Value::Null).unwrap().created, NO_TIME);
    assert_eq!(changed("/image-config", Value::Null).unwrap().config, Map::new());
    assert_eq!(changed("/layers", Value::Null).unwrap().layers, []);
    for key in ["/new", "/layers/1/new"] {
        assert_eq!(changed(key, json!([1])).unwrap(), parse(&image()).unwrap(), "{key}");
    }
    let no_options = changed("/layers/1/paths/0/options", json!({ "rewrite": { "regex": "", "repl": "" } }));
    let Source::Paths(paths) = &no_options.unwrap().layers[1].source else { panic!() };
    assert_eq!(paths[0].options, Some(Options { rewrite: None, permissions: Vec::new() }));
}

/// Whatever else a path has would change the layer, which would then be made for nothing.
#[test]
fn what_a_path_has_is_known_or_says_nothing() {
    for key in ["", "/options", "/options/rewrite", "/options/perms/0"] {
        let pointer = format!("/layers/1/paths/0{key}/new");
        for nothing in [json!(null), json!(false), json!(0), json!(""), json!([]), json!({})] {
            assert_eq!(changed(&pointer, nothing).unwrap(), parse(&image()).unwrap(), "{key}");
        }
        let error = changed(&pointer, json!("0200")).unwrap_err();
        let key = key.replace("/perms/0", ".perms[0]").replace('/', ".");
        assert_eq!(
            error,
            format!("`layers[1].paths[0]{key}.new` of `image.json` is nothing that this program knows")
        );
    }
}

#[test]
fn the_configuration_gets_the_spelling_of_the_specification() {
    let config = json!({
        "entrypoint": ["/bin/app"], "CMD": [], "env": null, "exposedports": { "80/tcp": null, "53/udp": { "a": 1 } },
        "labels": { "a": "b" }, "stopsignal": "SIGINT", "workingDir": "/", "user": "", "volumes": { "/data": {} },
        "healthCheck": { "Test": ["NONE"], "Interval": 5_000_000_000_u64 }, "argsescaped": false,
        "com.example": { "kept": true },
    });

    assert_eq!(
        Value::Object(changed("/image-config", config).unwrap().config),
        json!({
            "Entrypoint": ["/bin/app"], "ExposedPorts": { "80/tcp": {}, "53/udp": {} }, "Labels": { "a": "b" },
            "StopSignal": "SIGINT", "WorkingDir": "/", "Volumes": { "/data": {} },
            "Healthcheck": { "Test": ["NONE"], "Interval": 5_000_000_000_u64 }, "com.example": { "kept": true },
        })
    );
}

#[test]
fn every_mistake_has_its_key() {
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    for (pointer, value, error) in [
        ("/version", Value::Null, "`version` of `image.json` is missing"),
        ("/version", json!(2), "`image.json` has format version 2, and this program knows version 1"),
        (
            "/version",
            json!("1"),
            "`version` of `image.json` is no whole number from 0 to 18446744073709551615",
        ),
        (
            "/arch",
            json!(""),
            "`arch` of `image.json` is not one of Go's names of an architecture, such as `amd64`",
        ),
        (
            "/arch",
            json!("../x"),
            "`arch` of `image.json` is not one of Go's names of an architecture, such as `amd64`",
        ),
        ("/created", json!("now"), "`created` of `image.json` is `now`, which is no time of RFC 3339"),
        ("/image-config", json!([]), "`image-config` of `image.json` is no object"),
        ("/image-config/entrypoint", json!([]), ""),
        (
            "/image-config/entrypoint",
            json!(["a"]),
            "`image-config.entrypoint` of `image.json` is another spelling of `Entrypoint`, which is there too",
        ),
        ("/image-config/Cmd", json!("ls -l"), "`image-config.Cmd` of `image.json` is no list"),
        ("/image-config/Cmd", json!(["a", 1]), "`image-config.Cmd[1]` of `image.json` is no text"),
        ("/image-config/Labels", json!({ "a": 1 }), "`image-config.Labels.a` of `image.json` is no text"),
        ("/layers", json!({}), "`layers` of `image.json` is no list"),
        ("/layers/0/digest", Value::Null, "`layers[0].digest` of `image.json` is missing"),
        (
            "/layers/0/digest",
            json!("sha256:../../x"),
            "`layers[0].digest` of `image.json` is `sha256:../../x`, which is no digest",
        ),
        ("/layers/0/diff_ids", json!([A]), "`layers[0].diff_ids` of `image.json` is no text"),
        (
            "/layers/1/diff_ids",
            json!(B),
            "`layers[1].diff_ids` of `image.json` is not the `digest` of a layer that is not compressed",
        ),
        (
            "/layers/1/size",
            json!(-1),
            "`layers[1].size` of `image.json` is no whole number from 0 to 9223372036854775807",
        ),
        (
            "/layers/1/mediatype",
            json!("text/plain"),
            "`layers[1].mediatype` of `image.json` is no media type of a layer that can be read",
        ),
        ("/layers/1/mediatype", json!(gzip), ""),
        ("/layers/1/paths", json!([]), "`layers[1]` of `image.json` has neither `layer-path` nor `paths`"),
        (
            "/layers/1/paths/0/path",
            json!("/etc/shadow"),
            "`layers[1].paths[0].path` of `image.json` is `/etc/shadow`, which is no store path",
        ),
        (
            "/layers/1/paths/0/path",
            json!(format!("{PATH}/../../etc")),
            "`layers[1].paths[0].path` of `image.json` is `/nix/store/00000000000000000000000000000000-app/../../etc`, which is no store path",
        ),
        (
            "/layers/1/paths/0/options/rewrite/regex",
            json!("("),
            "`layers[1].paths[0].options.rewrite.regex` of `image.json` is no regular expression that can be used here",
        ),
        (
            "/layers/1/paths/0/options/perms/0/regex",
            json!("a{1000}{1000}"),
            "`layers[1].paths[0].options.perms[0].regex` of `image.json` is no regular expression that can be used here",
        ),
        (
            "/layers/1/paths/0/options/perms/0/mode",
            json!("0o755"),
            "`layers[1].paths[0].options.perms[0].mode` of `image.json` is no octal number up to 7777",
        ),
        (
            "/layers/1/paths/0/options/perms/0/uid",
            json!(4_294_967_296_u64),
            "`layers[1].paths[0].options.perms[0].uid` of `image.json` is no whole number from 0 to 4294967295",
        ),
        (
            "/layers/1/History/empty_layer",
            json!(true),
            "`layers[1]` of `image.json` has a `History` that says there is no layer",
        ),
        ("/layers/1/History/empty_layer", json!(false), ""),
        (
            "/layers/1/History/created",
            json!("yesterday"),
            "`layers[1].History.created` of `image.json` is `yesterday`, which is no time of RFC 3339",
        ),
    ] {
        let result = changed(pointer, value);

        assert_eq!(result.err().as_deref(), (!error.is_empty()).then_some(error), "{pointer}");
    }
}

#[test]
fn an_archive_lies_in_the_store() {
    for path in [
        "/etc/shadow",
        "/nix/store",
        "/nix/store/",
        "/nix/store/..",
        "/nix/store/x.tar",
        "/nix/store/00000000000000000000000000000000-base/",
        "/nix/store/00000000000000000000000000000000-base/../../../etc/shadow",
        "/nix/store/00000000000000000000000000000000-base//x",
        "/nix/store/00000000000000000000000000000000-base/a\0b",
        "nix/store/00000000000000000000000000000000-base",
    ] {
        let error = changed("/layers/0/layer-path", json!(path)).unwrap_err();
        assert_eq!(error, "`layers[0].layer-path` of `image.json` is not the path of a file in `/nix/store`");
    }
}

/// A base image may have a layer twice; what lies between would be lost if it counted once.
#[test]
fn layers_of_an_image_keep_their_number_and_order() {
    let mut twice = image();
    let base = twice["layers"][0].clone();
    twice["layers"].as_array_mut().unwrap().push(base);

    let image = parse(&twice).unwrap();

    let digests: Vec<_> = image.layers.iter().map(|layer| layer.digest.to_string()).collect();
    assert_eq!(digests, [B, A, B]);
}

#[test]
fn what_is_too_much_is_refused() {
    let big = vec![b' '; MOST_BYTES + 1];
    assert_eq!(
        Image::parse("image.json", &big).unwrap_err().to_string(),
        "`image.json` has 8388609 bytes, and 8388608 are the most that is read"
    );
    assert!(Image::parse("image.json", "[".repeat(100_000).as_bytes()).is_err());
    let layer = image()["layers"][1].clone();
    assert_eq!(
        changed("/layers", json!(vec![layer.clone(); 1001])).unwrap_err(),
        "`layers` of `image.json` has more than 1000 layers"
    );
    let perm = layer["paths"][0]["options"]["perms"][0].clone();
    assert_eq!(
        changed("/layers/1/paths/0/options/perms", json!(vec![perm; 257])).unwrap_err(),
        "`layers[1].paths[0].options.perms` of `image.json` has more than 256 entries"
    );
    let path = layer["paths"][0].clone();
    assert_eq!(
        changed("/layers/1/paths", json!(vec![path; 2001])).unwrap_err(),
        "`layers[1].paths[2000]` of `image.json` has one of more than 4000 regular expressions"
    );
}
