//! Whole specs: what a good one means, and what mistakes in one are told.

mod mistakes;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

/// The spec that `docs/spec.md` starts with.
const EXAMPLE: &str = r#"name: k8s-deployer
nixpkgs: github:NixOS/nixpkgs/ab593d46dc38b9f0f23964120912138c77fa9af4
contents: [kubectl, kubernetes-helm, terraform, yq, jq, bash, coreutils, python3, moreutils, git, cacert, curl]
extraCommands: |
  mkdir -p usr/bin && ln -sf ${pkgs.coreutils}/bin/env usr/bin/env
  mkdir tmp && chmod 1777 tmp
config: { Cmd: [/bin/bash], WorkingDir: / }
created: now
repository: $CI_REGISTRY_IMAGE
tags: [latest]
"#;

/// A spec that uses every key.
const FULL: &str = r#"name: team/app
nixpkgs:
  url: https://example.org/nixpkgs.tar.gz
  sha256: sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
system: aarch64-linux
caches: [./cache, "https://cache.example.org/"]
contents:
  - python3Packages.requests
  - .#app
  - /nix/store/00000000000000000000000000000000-a-1.0
extraCommands: ln -s ${pkgs.bash}/bin/bash bin/sh
paths:
  - { path: /data, type: directory, mode: "0750" }
accounts:
  users: [{ name: app, uid: 1000 }]
  runAs: app
presets: [tmp, nss]
config:
  env: { PAGER: "${pkgs.less}/bin/less" }
  Labels: { rev: $CI_COMMIT_SHA }
created: 2026-01-31T12:00:00Z
repository: registry.example.com/team/app
tags: 1.10
annotations: { org.opencontainers.image.revision: $CI_COMMIT_SHA }
layers: { max: 40 }
compression: 9
"#;

fn parse(text: &str) -> Result<ImageSpec, Error> {
    ImageSpec::parse("image.yaml", text.as_bytes())
}

#[test]
fn the_example_means_what_it_says() {
    let spec = parse(EXAMPLE).unwrap();

    assert_eq!(spec.name, "k8s-deployer");
    assert_eq!(spec.contents.len(), 12);
    assert_eq!(spec.created, Created::Now);
    let packages: Vec<_> = spec.packages().iter().map(|(key, package)| format!("{key} {package}")).collect();
    assert_eq!(packages, ["extraCommands coreutils"]);
    assert_eq!(spec.tags[0].as_literal(), Some("latest"));
    assert_eq!((spec.layers.max, spec.compression), (100, Compression::Gzip { level: 2 }));
    assert!(!spec.config.has("User"));
}

#[test]
fn every_key_arrives() {
    let spec = parse(FULL).unwrap();

    assert!(matches!(spec.nixpkgs, Nixpkgs::Tarball { sha256: Some(_), .. }));
    assert_eq!(spec.system, Some("aarch64-linux".parse().unwrap()));
    assert_eq!(
        spec.caches.iter().map(CacheName::to_string).collect::<Vec<_>>(),
        ["./cache", "https://cache.example.org"]
    );
    assert_eq!(spec.paths.len(), 1);
    assert_eq!(spec.presets, BTreeSet::from([Preset::Tmp, Preset::Nss]));
    assert_eq!(spec.accounts.as_ref().unwrap().users[0].uid, 1000);
    assert_eq!(spec.created, Created::At("2026-01-31T12:00:00Z".parse().unwrap()));
    assert_eq!(spec.tags[0].as_literal(), Some("1.10"));
    assert_eq!((spec.layers.max, spec.compression), (40, Compression::Gzip { level: 9 }));
    let packages: Vec<_> = spec.packages().iter().map(|(key, package)| format!("{key} {package}")).collect();
    assert_eq!(packages, ["extraCommands bash", "config.env.PAGER less"]);
    let rendered = spec.config.render(&|_| Some("P".to_owned()), &|_| Some("V".to_owned())).unwrap();
    let expected =
        serde_json::json!({ "User": "1000", "Env": ["PAGER=P/bin/less"], "Labels": { "rev": "V" } });
    assert_eq!(rendered, expected);
}

/// `docs/spec.md`: "without a host, as in `web`, it is the name below the project's own".
#[test]
fn a_repository_stands_with_its_host_or_below_the_projects_own() {
    for text in ["registry.example.com:5050/team/app", "web", "web/arm64", "my.app", "$CI_REGISTRY_IMAGE/web"]
    {
        let spec = parse(&format!("name: a\ncontents: [jq]\nrepository: {text}\n")).unwrap();

        let expanded = spec.repository.unwrap().expand(|name| Some(format!("${name}"))).unwrap();
        assert_eq!(expanded, text);
    }
}

#[test]
fn a_compression_is_a_level_a_word_or_a_name_with_a_level() {
    for (text, expected) in [
        ("1", Compression::Gzip { level: 1 }),
        ("12", Compression::Gzip { level: 12 }),
        ("fast", Compression::Gzip { level: 1 }),
        ("default", Compression::Gzip { level: 2 }),
        ("gzip", Compression::Gzip { level: 2 }),
        ("{ gzip: 9 }", Compression::Gzip { level: 9 }),
        ("zstd", Compression::Zstd { level: 3 }),
        ("{ zstd: 1 }", Compression::Zstd { level: 1 }),
        ("{ zstd: 19 }", Compression::Zstd { level: 19 }),
    ] {
        let spec = parse(&format!("name: a\ncontents: [jq]\ncompression: {text}\n")).unwrap();

        assert_eq!(spec.compression, expected, "{text}");
    }
}

/// Of the image's time only `now` depends on the build; a commit whose time nobody knows is as old as can be.
#[test]
fn the_images_time_is_the_one_that_the_spec_names() {
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let (now, commit) = (time("2026-05-06T07:08:09Z"), time("2026-03-04T05:06:07Z"));
    for (text, with_commit, without) in [
        ("now", now, now),
        ("commit", commit, time("1970-01-01T00:00:00Z")),
        ("epoch", time("1970-01-01T00:00:00Z"), time("1970-01-01T00:00:00Z")),
        ("2026-01-31T12:00:00Z", time("2026-01-31T12:00:00Z"), time("2026-01-31T12:00:00Z")),
    ] {
        let created = parse(&format!("name: a\ncontents: [jq]\ncreated: {text}\n")).unwrap().created;

        assert_eq!(created.resolve(now, Some(commit)), with_commit, "{text}");
        assert_eq!(created.resolve(now, None), without, "{text}");
    }
}

/// A caller that read no more than it should still learns what is wrong, and where.
#[test]
fn a_spec_that_is_too_large_is_refused_with_its_place() {
    let bytes = vec![b'#'; usize::try_from(ImageSpec::MAX_FILE).unwrap()];

    let error = ImageSpec::parse("image.yaml", &bytes).unwrap_err();

    assert_eq!(error.to_string(), "image.yaml:1:1: the file has more than 262144 bytes");
}

#[test]
fn what_only_the_build_can_tell_has_its_place_too() {
    let spec = parse("name: a\ncontents:\n  - jq\n  - kubctl\n").unwrap();

    let error = spec.error_at(&KeyPath::root().key("contents").index(1), "package `kubctl` is unknown", "…");

    assert_eq!(error.to_string(), "image.yaml:4:5: `contents[1]`: package `kubctl` is unknown");
}

#[test]
fn name_and_contents_must_be_there() {
    let cases = [
        ("contents: [jq]\n", "image.yaml:1:1: the key `name` is missing"),
        ("name: a\n", "image.yaml:1:1: the key `contents` is missing"),
        ("name: a\ncontents: []\n", "image.yaml:2:11: `contents`: the list is empty"),
        ("name: a b\ncontents: [jq]\n", "image.yaml:1:7: `name`: `a b` is not a name for an image"),
        ("name: ../a\ncontents: [jq]\n", "image.yaml:1:7: `name`: `../a` is not a name for an image"),
        ("name: a\ncontents: jq\n", "image.yaml:2:11: `contents`: this must be a list, but is the text `jq`"),
        (
            "name: a\ncontents:\n- jq\n- --impure\n",
            "image.yaml:4:3: `contents[1]`: `--impure` is not a package, store path or flake output: it looks like an option",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(parse(text).unwrap_err().to_string(), message);
    }
}

proptest! {
    #[test]
    fn no_text_panics(text: String) {
        let _ = parse(&text);
    }

    /// Mistakes that hands make: a piece lost, doubled, or replaced.
    #[test]
    fn no_mutation_of_a_good_spec_panics(
        start in 0..FULL.len(),
        length in 0..40_usize,
        piece in "[a-z:{}\\[\\]\"'$#&*!|>~%@`, \n\t-]{0,8}",
    ) {
        let end = (start + length).min(FULL.len());
        let text = format!("{}{piece}{}", &FULL[..start], &FULL[end..]);
        let _ = parse(&text);
    }
}

/// The rows of the table in the documentation, and its two examples.
#[test]
fn the_documentation_shows_real_specs_and_real_errors() {
    let text = include_str!("../../docs/spec.md");

    let example = |number| text.split("```yaml\n").nth(number).unwrap().split("```").next().unwrap();
    assert_eq!(example(1), EXAMPLE);
    for section in text.split("```yaml\n").skip(1) {
        let example = section.split("```").next().unwrap();
        let whole = if example.starts_with("name:") { "" } else { "name: a\ncontents: [jq]\n" };
        parse(&format!("{whole}{example}")).unwrap();
    }
    let rows: Vec<Vec<&str>> = text
        .split("| spec | error | fix |")
        .nth(1)
        .unwrap()
        .lines()
        .skip(2)
        .map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), 9);
    for row in rows {
        let line = row[0].trim_matches('`');
        let contents = if line.starts_with("contents") { "" } else { "contents: [jq]\n" };
        let error = parse(&format!("name: a\n{contents}{line}\n")).unwrap_err();
        assert_eq!(format!("`{}`: {}", error.key(), error.reason()), row[1]);
        assert_eq!(error.fix(), row[2]);
    }
}
