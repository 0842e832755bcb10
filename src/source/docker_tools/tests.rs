use jiff::Timestamp;
use serde_json::json;

use super::*;

const HASH: &str = "00000000000000000000000000000000";

fn path(name: &str) -> StorePath {
    StorePath::from_base_name(&format!("{HASH}-{name}")).unwrap()
}

/// The keys of nixpkgs 20.09; later forms have more.
fn oldest() -> Value {
    let layer = [path("glibc"), path("bash")].map(|path| path.to_string());
    json!({
        "architecture": "amd64",
        "config": { "Cmd": ["/bin/bash"], "Entrypoint": null },
        "os": "linux",
        "created": "1970-01-01T00:00:01Z",
        "store_layers": [layer],
        "customisation_layer": path("app-customisation-layer").to_string(),
        "repo_tag": "registry.example:5000/team/app:1.2",
    })
}

fn with(changes: Value) -> Value {
    let mut conf = oldest();
    for (key, value) in changes.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

fn parse(conf: &Value) -> Result<LayeredImage, ConfError> {
    LayeredImage::parse(conf.to_string().as_bytes(), None)
}

#[test]
fn the_oldest_form_is_read_as_its_script_read_it() {
    let image = parse(&oldest()).unwrap();

    assert_eq!((image.name.as_str(), image.tag.as_str()), ("registry.example:5000/team/app", "1.2"));
    assert_eq!(image.store_layers, [[path("glibc"), path("bash")]]);
    assert_eq!(image.customisation_layer, path("app-customisation-layer"));
    assert_eq!((image.from_image, image.variant), (None, None));
    assert_eq!(image.metadata, StoreMetadata { store_mode: 0o555, ..StoreMetadata::default() });
    assert!(!image.mtime_is_now);
}

#[test]
fn a_fixed_time_of_creation_was_the_time_of_files() {
    let image = parse(&with(json!({ "created": "2020-06-01T12:00:00+02:00" }))).unwrap();

    assert_eq!(image.metadata.mtime, 1_591_005_600);
    assert_eq!(image.created.to_text(Timestamp::UNIX_EPOCH), "2020-06-01T10:00:00+00:00");
}

/// Otherwise every layer would be new every time.
#[test]
fn the_time_of_files_is_constant_where_it_would_be_now() {
    for changes in [json!({ "created": "now" }), json!({ "mtime": "now" })] {
        let image = parse(&with(changes)).unwrap();

        assert_eq!((image.metadata.mtime, image.mtime_is_now), (1, true));
    }
    let image = parse(&with(json!({ "created": "now", "mtime": "1970-01-01T00:00:01Z" }))).unwrap();
    assert_eq!((image.created, image.mtime_is_now), (Time::Now, false));
}

#[test]
fn the_newest_form_says_everything_itself() {
    let image = parse(&with(json!({
        "variant": "v7", "store_dir": "/nix/store", "from_image": path("base.tar.gz").to_string(),
        "mtime": "1970-01-01T00:00:05Z", "uid": "1000", "gid": 100, "uname": "me", "gname": "us", "meta": {},
    })))
    .unwrap();

    assert_eq!(image.variant.as_deref(), Some("v7"));
    assert_eq!(image.from_image, Some(path("base.tar.gz").to_path_buf()));
    let (uname, gname) = ("me".to_owned(), "us".to_owned());
    let metadata = StoreMetadata { store_mode: 0o755, mtime: 5, uid: 1000, gid: 100, uname, gname };
    assert_eq!(image.metadata, metadata);
}

#[test]
fn the_script_says_which_mode_the_folders_of_the_store_have() {
    assert_eq!(store_mode("ti.mode = 0o0555  # r-xr-xr-x"), 0o555);
    assert_eq!(store_mode("ti.mode = 0o0755  # rwxr-xr-x"), 0o755);
    let conf = oldest().to_string();
    let image = LayeredImage::parse(conf.as_bytes(), Some(0o755)).unwrap();
    assert_eq!(image.metadata, StoreMetadata::default());
}

#[test]
fn what_cannot_be_is_named() {
    let store = |below: &str| format!("/nix/store/{HASH}-base{below}");
    for (changes, said) in [
        (json!({ "os": "darwin" }), "`os` is `darwin`: images are made for `linux`"),
        (json!({ "store_dir": "/gnu/store" }), "`store_dir` is `/gnu/store`: the store is `/nix/store`"),
        (
            json!({ "store_layers": [["/etc/passwd"]] }),
            "`store_layers` is `/etc/passwd`: it is no store path",
        ),
        (json!({ "customisation_layer": "../x" }), "`customisation_layer` is `../x`: it is no store path"),
        (json!({ "from_image": "/etc/passwd" }), "`from_image` is `/etc/passwd`: it is no file of the store"),
        (json!({ "config": { "Cmd": "/bin/sh" } }), "`config.Cmd` of `conf.json` is no list"),
        (json!({ "config": { "env": { "A": "b" } } }), "`config.env` of `conf.json` is no list"),
        (
            json!({ "config": { "ExposedPorts": { "80/tcp": "x" } } }),
            "`config.ExposedPorts.80/tcp` of `conf.json` is no object",
        ),
        (json!({ "config": { "Labels": ["a"] } }), "`config.Labels` of `conf.json` is no object"),
        (json!({ "config": { "Labels": { "a": 1 } } }), "`config.Labels.a` of `conf.json` is no text"),
        (json!({ "config": { "User": 7 } }), "`config.User` of `conf.json` is no text"),
        (
            json!({ "config": { "StopTimeout": "10" } }),
            "`config.StopTimeout` of `conf.json` is no whole number",
        ),
        (json!({ "config": { "tty": "yes" } }), "`config.tty` of `conf.json` is neither `true` nor `false`"),
        (
            json!({ "config": { "Healthcheck": { "Test": "true" } } }),
            "`config.Healthcheck.Test` of `conf.json` is no list",
        ),
        (
            json!({ "config": { "Healthcheck": { "interval": "30s" } } }),
            "`config.Healthcheck.interval` of `conf.json` is no whole number",
        ),
        (
            json!({ "config": { "Cmd": ["a"], "cmd": ["b"] } }),
            "`config.cmd` of `conf.json` is another spelling of `Cmd`, which is there too",
        ),
        (json!({ "config": [] }), "`config` of `conf.json` is no object"),
        (json!({ "uid": "-1" }), "`uid` is `-1`: it is no number"),
        (json!({ "created": "soon" }), "`created` is `soon`: it is neither `now` nor an ISO 8601 time"),
        (json!({ "mtime": "1960-01-01T00:00:00Z" }), "`mtime` is `1960-01-01T00:00:00Z`: it is before 1970"),
        (json!({ "architecture": 7 }), "it is no description of a layered image"),
        (
            json!({ "store_layers": vec![json!([]); 1001] }),
            "`store_layers` is `1001`: it has more than 1000 layers",
        ),
        (json!({ "store_layers": "all" }), "it is no description of a layered image"),
    ] {
        assert_eq!(parse(&with(changes)).unwrap_err().to_string(), said);
    }
    for below in ["/../../../etc/passwd", "/./x", "//x"] {
        assert!(parse(&with(json!({ "from_image": store(below) }))).is_err(), "{below}");
    }
    assert!(parse(&with(json!({ "from_image": store("/image.tar") }))).is_ok());
}

/// Whatever an expression says its tag is, none of it may get lost: a tag that no registry takes is told.
#[test]
fn a_tag_begins_behind_the_first_colon_of_the_name() {
    for (repo_tag, expected) in [
        ("web:1.2", ("web", "1.2")),
        ("web:2024-01-01T12:00:00", ("web", "2024-01-01T12:00:00")),
        ("web:a/b", ("web", "a/b")),
        ("team/web", ("team/web", "latest")),
        ("registry.example:5000/team/web:1.2", ("registry.example:5000/team/web", "1.2")),
        ("registry.example:5000/team/web", ("registry.example:5000/team/web", "latest")),
    ] {
        let image = parse(&with(json!({ "repo_tag": repo_tag }))).unwrap();

        assert_eq!((image.name.as_str(), image.tag.as_str()), expected, "{repo_tag}");
    }
}

#[test]
fn times_are_written_as_upstream_writes_them() {
    let now = "2026-03-04T05:06:07.123456789Z".parse().unwrap();

    assert_eq!(Time::Now.to_text(now), "2026-03-04T05:06:07.123456+00:00");
    let at = |text| Time::parse("created", text).unwrap().to_text(now);
    assert_eq!(at("1970-01-01T00:00:01Z"), "1970-01-01T00:00:01+00:00");
    assert_eq!(at("2024-02-29"), "2024-02-29T00:00:00+00:00");
}
