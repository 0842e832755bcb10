//! Whole specs: what a good one means, and what every mistake is told.

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

/// Lines are appended to a good spec of two lines, so that the first of them is line 3.
#[test]
fn every_mistake_is_told_with_place_key_reason_and_fix() {
    let cases: &[(&str, &str, &str, &str, &str)] = &[
        ("presetz: [tmp]", "3:1", "presetz", "no such key", "`presets`"),
        ("base: alpine", "3:1", "base", "no such key", "use one of: name, nixpkgs"),
        ("extra_commands: x", "3:1", "extra_commands", "no such key", "`extraCommands`"),
        ("name: b", "3:1", "name", "twice", "remove one"),
        ("tags: {a: b}", "3:7", "tags", "must be a text, but is a mapping", "text"),
        ("tags: []", "3:7", "tags", "empty", "name a tag"),
        ("tags: [a, a b]", "3:11", "tags[1]", "`a b` is not a tag", "list"),
        ("tags: [a, -b]", "3:11", "tags[1]", "`-b` is not a tag", "at most 128"),
        ("tags: latest $CI_COMMIT_SHORT_SHA", "3:7", "tags", "space", "as a list"),
        ("tags: [v$CI_X/b]", "3:8", "tags[0]", "`/b` cannot be part", "letters"),
        ("tags: [$BRANCH]", "3:8", "tags[0]", "`$BRANCH` is not a `CI_…`", "`$$`"),
        ("tags: [$CI_JOB_TOKEN]", "3:8", "tags[0]", "secret", "public"),
        ("tags:\n  - a\n  -\n  - b", "5:4", "tags[1]", "but is nothing", "or remove the key"),
        ("tags: [x, y, x]", "3:14", "tags[2]", "there twice", "remove"),
        ("repository: Team/App", "3:13", "repository", "not a repository", "$CI_REGISTRY_IMAGE"),
        ("repository: Web", "3:13", "repository", "not a repository", "such as `web`"),
        ("repository: web:latest", "3:13", "repository", "names a tag", "without a tag"),
        ("repository: ''", "3:13", "repository", "not a repository", "such as `web`"),
        ("repository: $", "3:13", "repository", "neither `$NAME`", "`$$`"),
        ("annotations: {'': x}", "3:15", "annotations.\"\"", "key has characters", "org.opencontainers"),
        ("annotations: {a: [x]}", "3:18", "annotations.a", "but is a list", "text"),
        ("created: yesterday", "3:10", "created", "`yesterday` is not a time", "`now`"),
        ("created: 2026-01-31", "3:10", "created", "with its zone", "T12:00:00Z"),
        ("compression: 13", "3:14", "compression", "out of range", "from 1 to 12"),
        ("compression: xz", "3:14", "compression", "`xz` is not a compression", "`{ zstd: 3 }`"),
        ("compression: [zstd]", "3:14", "compression", "not a compression", "`fast`"),
        ("compression: {zstd: 20}", "3:21", "compression.zstd", "out of range", "from 1 to 19"),
        ("compression: {gzip: 0}", "3:21", "compression.gzip", "out of range", "from 1 to 12"),
        ("compression: {zstd: fast}", "3:21", "compression.zstd", "but is the text `fast`", "integer"),
        ("compression: {xz: 3}", "3:15", "compression.xz", "no such key", "use one of: gzip, zstd"),
        ("compression: {gzip: 6, zstd: 3}", "3:14", "compression", "both", "remove one"),
        ("compression: {}", "3:14", "compression", "empty", "`{ zstd: 3 }`"),
        ("layers: {max: 128}", "3:15", "layers.max", "out of range", "from 2 to 127"),
        ("layers: {maximum: 9}", "3:10", "layers.maximum", "no such key", "use one of: max"),
        ("layers: 9", "3:9", "layers", "must be a mapping, but is the number `9`", "mapping"),
        ("presets: [tmp, usr-bin-evn]", "3:16", "presets[1]", "`usr-bin-evn` is not known", "`usr-bin-env`"),
        ("presets: [docker]", "3:11", "presets[0]", "not known", "use one of: tmp, "),
        ("nixpkgs: nixpkgs", "3:10", "nixpkgs", "not a package set", "`<nixpkgs>`"),
        ("nixpkgs: /etc/nixos", "3:10", "nixpkgs", "absolute", "`./FOLDER`"),
        ("nixpkgs: ../up", "3:10", "nixpkgs", "out of the project", "`./FOLDER`"),
        ("nixpkgs: github:NixOS/nixpkgs/master", "3:10", "nixpkgs", "40 hex digits", "COMMIT"),
        ("nixpkgs: {url: <nixpkgs>}", "3:16", "nixpkgs.url", "not the URL", "https://"),
        (
            "nixpkgs: {url: 'https://h/x', sha256: abc}",
            "3:39",
            "nixpkgs.sha256",
            "not a SHA-256",
            "nix-prefetch-url",
        ),
        ("extraCommands: |\n  echo\n  ln ${pkgs.}/x", "3:16", "extraCommands", "`${pkgs.}`", "${pkgs.NAME}"),
        ("extraCommands: [a]", "3:16", "extraCommands", "must be a text", "text"),
        (
            "paths: [{path: x, type: file}]",
            "3:16",
            "paths[0].path",
            "does not start with `/`",
            "/var/lib/app",
        ),
        ("paths: [{path: /nix/store/x, type: file}]", "3:16", "paths[0].path", "Nix store", "/var/lib/app"),
        ("paths: [{path: /x, type: fiel}]", "3:26", "paths[0].type", "not known", "`file`"),
        ("paths: [{path: /x}]", "3:9", "paths[0]", "`type` is missing", "directory, file"),
        ("paths: [{path: /x, type: file}]", "3:9", "paths[0]", "`content` is missing", "`content:`"),
        (
            "paths: [{path: /x, type: symlink, mode: '0777', target: y}]",
            "3:35",
            "paths[0].mode",
            "`symlink` does not",
            "path, type, uid, gid, target",
        ),
        ("paths: [{path: /x, type: directory, mode: 755}]", "3:43", "paths[0].mode", "is a number", "quotes"),
        (
            "paths: [{path: /x, type: directory, mode: 0o755}]",
            "3:43",
            "paths[0].mode",
            "is a number",
            "quotes",
        ),
        (
            "paths: [{path: /x, type: directory, mode: '0855'}]",
            "3:43",
            "paths[0].mode",
            "not a mode",
            "octal",
        ),
        ("paths: [{path: /x, type: directory, uid: -1}]", "3:42", "paths[0].uid", "out of range", "from 0"),
        (
            "paths: [{path: /x, type: permissions}]",
            "3:9",
            "paths[0]",
            "changes nothing",
            "`mode`, `uid` or `gid`",
        ),
        (
            "paths: [{path: /x, type: copy, source: ../x}]",
            "3:40",
            "paths[0].source",
            "out of the project",
            "relative",
        ),
        (
            "paths: [{path: /x, type: symlink, target: '${pkgs.a}'}]",
            "3:43",
            "paths[0].target",
            "`extraCommands`",
            "`contents`",
        ),
        (
            "paths:\n  - {path: /x, type: directory}\n  - {path: /x, type: directory}",
            "5:5",
            "paths[1]",
            "already makes `/x`",
            "remove",
        ),
        (
            "accounts: {users: [{name: A, uid: 1}]}",
            "3:27",
            "accounts.users[0].name",
            "`A` is not a name",
            "a-z",
        ),
        ("accounts: {users: [{name: a}]}", "3:20", "accounts.users[0]", "`uid` is missing", "1000"),
        (
            "accounts: {users: [{name: a, uid: 1}, {name: a, uid: 2}]}",
            "3:39",
            "accounts.users[1]",
            "`a` is there twice",
            "rename",
        ),
        (
            "accounts: {users: [{name: a, uid: 1}, {name: b, uid: 1}]}",
            "3:39",
            "accounts.users[1]",
            "`a`'s already",
            "another number",
        ),
        (
            "accounts: {users: [{name: a, uid: 0}]}",
            "3:20",
            "accounts.users[0]",
            "`root` is always number 0",
            "another",
        ),
        (
            "accounts: {users: [{name: a, uid: 5, gid: 6}]}",
            "3:43",
            "accounts.users[0].gid",
            "no group has the number 6",
            "`groups`",
        ),
        (
            "accounts: {users: [{name: a, uid: 5, home: x}]}",
            "3:44",
            "accounts.users[0].home",
            "not an absolute path",
            "`/`",
        ),
        (
            "accounts: {users: [{name: a, uid: 5, gecos: 'a:b'}]}",
            "3:45",
            "accounts.users[0].gecos",
            "has a `:`",
            "remove",
        ),
        (
            "accounts: {groups: [{name: g, gid: 5, members: [x]}]}",
            "3:49",
            "accounts.groups[0].members[0]",
            "no user `x`",
            "`users`",
        ),
        (
            "accounts: {users: [{name: app, uid: 5}], runAs: ap}",
            "3:49",
            "accounts.runAs",
            "no user `ap`",
            "`app`",
        ),
        (
            "accounts: {runAs: 5}\nconfig: {user: x}",
            "3:19",
            "accounts.runAs",
            "sets `User` as well",
            "remove one",
        ),
        ("config: {Entrypiont: [x]}", "3:10", "config.Entrypiont", "no such key", "`Entrypoint`"),
        ("config: {Cmd: [x], cmd: [y]}", "3:20", "config.cmd", "twice, in different case", "remove"),
        ("config: {Cmd: /bin/sh}", "3:15", "config.Cmd", "list of its words", "`[/bin/sh]`"),
        ("config: {Cmd: ['${pkgs.}']}", "3:16", "config.Cmd[0]", "`${pkgs.}`", "${pkgs.NAME}"),
        ("config: {Env: [A=1, A=2]}", "3:21", "config.Env[1]", "`A` is given twice", "remove"),
        ("config: {Env: [A=1, B]}", "3:21", "config.Env[1]", "no `=`", "NAME=value"),
        ("config: {Env: [A: 1]}", "3:16", "config.Env[0]", "but is a mapping", "text"),
        ("config: {Env: {A=B: 1}}", "3:16", "config.Env.\"A=B\"", "not a name", "without `=`"),
        ("config: {Env: {A: }}", "3:19", "config.Env.A", "but is nothing", "text"),
        (
            "config: {ExposedPorts: [http]}",
            "3:25",
            "config.ExposedPorts[0]",
            "`http` is not a port",
            "8080/tcp",
        ),
        (
            "config: {ExposedPorts: {0/tcp: {}}}",
            "3:25",
            "config.ExposedPorts.0/tcp",
            "not a port",
            "8080/tcp",
        ),
        ("config: {ExposedPorts: {80: 81}}", "3:29", "config.ExposedPorts.80", "nothing may stand", "`{}`"),
        ("config: {Volumes: [data]}", "3:20", "config.Volumes[0]", "not an absolute path", "`/`"),
        ("config: {WorkingDir: srv}", "3:22", "config.WorkingDir", "not an absolute path", "`/`"),
        ("config: {User: ''}", "3:16", "config.User", "not a user", "`UID`"),
        ("config: {Labels: {a: $HOME}}", "3:22", "config.Labels.a", "`$HOME`", "`$$`"),
        ("config: {StopSignal: TERM}", "3:22", "config.StopSignal", "`TERM` is not a signal", "SIGTERM"),
        ("config: {ArgsEscaped: yes}", "3:23", "config.ArgsEscaped", "must be `true` or `false`", "`true`"),
        ("config: {Memory: 1G}", "3:18", "config.Memory", "must be an integer", "integer"),
        (
            "config: {Healthcheck: {Test: curl x}}",
            "3:30",
            "config.Healthcheck.Test",
            "must be a list",
            "CMD-SHELL",
        ),
        (
            "config: {Healthcheck: {Test: [curl]}}",
            "3:30",
            "config.Healthcheck.Test",
            "starts with `CMD`",
            "CMD-SHELL",
        ),
        (
            "config: {Healthcheck: {interval: 5 s}}",
            "3:34",
            "config.Healthcheck.interval",
            "`5 s` is not a time",
            "`30s`",
        ),
    ];
    let mut wrong = Vec::new();
    for (lines, place, key, reason, fix) in cases {
        let error = match parse(&format!("name: a\ncontents: [jq]\n{lines}\n")) {
            Ok(_) => {
                wrong.push(format!("{lines}: no error"));
                continue;
            }
            Err(error) => error,
        };
        let found = (format!("{}:{}", error.line(), error.column()), error.key().to_string());
        if found != ((*place).to_owned(), (*key).to_owned())
            || !error.reason().contains(reason)
            || !error.fix().contains(fix)
        {
            wrong.push(format!("{lines}: {error} ({})", error.fix()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
