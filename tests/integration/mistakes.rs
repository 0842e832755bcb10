//! What the author of a job reads when something is wrong, and that the job is tried once.
//!
//! The snapshots hold all that the driver prints after the job's own script.

use std::fs;
use std::os::unix::fs::symlink;

use nixlayer::simulate::Status;

use crate::support::{TestJob, exit_code, stages};

/// A package set of the project: one package that works, and some that do not.
const PACKAGES: &str = r#"
{ }:
let
  package = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-c" script ];
  };
in
rec {
  good = package "good-1" "mkdir $out; echo good > $out/file";
  failing = package "failing-1" ''
    echo compiling
    for number in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "line $number"; done
    echo "main.c:3: oh no" >&2
    exit 3
  '';
  broken = throw "broken-2 does not work since 2019";
  undefined = import ./undefined.nix;
  kubectl = good;
  kubectx = good;
  python3Packages = { requests = good; };
}
"#;

/// Runs a job of the project, which must fail by its author's mistake, at once and without a push. Gives what it said.
fn mistake(job: &TestJob) -> String {
    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::ScriptFailure { exit_code: 1 }, "{}", outcome.trace);
    for stage in ["config", "prepare", "build_script", "cleanup"] {
        assert_eq!(
            stages(&outcome).iter().filter(|called| **called == stage).count(),
            1,
            "{}",
            outcome.trace
        );
    }
    let build_failure = job.runner.exit_codes.build_failure;
    assert_eq!(exit_code(&outcome, "build_script"), Some(build_failure));
    assert_eq!(job.tags(), Vec::<String>::new());
    job.said(&outcome)
}

#[test]
fn every_mistake_says_what_is_wrong_where_and_how_to_mend_it() {
    let mut all = String::new();
    for (name, spec) in [
        ("unknown package", "contents:\n  - good\n  - kubctl\n"),
        ("unknown package in a set", "contents: [python3Packages.reqests]"),
        ("package without a likely name", "contents: [terraform]"),
        ("set instead of a package", "contents: [python3Packages]"),
        ("package that throws", "contents: [broken]"),
        ("package with an undefined variable", "contents: [undefined]"),
        ("unset variable in a label", "contents: [failing]\nconfig:\n  Labels: { revision: $CI_NOT_SET }"),
        ("unset variable in an annotation", "contents: [failing]\nannotations:\n  revision: $CI_NOT_SET"),
        (
            "copy of a missing file",
            "contents: [good]\npaths:\n  - { path: /x, type: copy, source: ./missing }",
        ),
        (
            "permissions of nothing",
            "contents: [good]\npaths:\n  - { path: /x, type: permissions, mode: \"0755\" }",
        ),
        ("misspelt key", "contnets: [good]"),
        (
            "store path that is not there",
            "contents: [/nix/store/00000000000000000000000000000000-hello-2.12]",
        ),
        ("flake that is not there", "contents: [.#app]"),
        ("package set that is not there", "contents: [good]\nnixpkgs: ./missing"),
        ("repository of somebody else", "contents: [good]\nrepository: $CI_REGISTRY/other/app"),
    ] {
        let packages = if spec.contains("nixpkgs:") { "" } else { "nixpkgs: ./packages\n" };
        let job = TestJob::image_of_spec(&format!("name: mistake\n{packages}{spec}\n"))
            .file("packages/default.nix", PACKAGES)
            .file("packages/undefined.nix", "[\n  bash-with-a-slip\n]\n");

        // Whether a good package is there already depends on what ran before.
        let said = mistake(&job).replace("building '/nix/store/HASH-good-1.drv'...\n", "");

        assert!(said.contains("error: ") && said.contains("\n  fix:   "), "{name}: {said}");
        all.push_str(&format!("# {name}\n{said}\n"));
    }
    insta::assert_snapshot!("mistakes", all);
}

#[test]
fn failed_build_shows_its_end_and_leaves_its_whole_log() {
    let job = TestJob::image_of_spec("name: mistake\nnixpkgs: ./packages\ncontents: [good, failing]\n")
        .file("packages/default.nix", PACKAGES);

    insta::assert_snapshot!("failed_build", mistake(&job));

    let log = job.artifact("nixlayer-report/nix.log").unwrap();
    assert!(log.contains("\ncompiling\nline 1\nline 2\n") && log.contains("\nmain.c:3: oh no\n"), "{log}");
}

#[test]
fn failed_command_shows_what_it_said() {
    let spec = |commands: &str| {
        format!(
            "name: mistake\ncontents: [hello]\nextraCommands: |\n  mkdir -p share\n  {commands}\n  echo not reached\n"
        )
    };
    let mut all = String::new();
    for (name, commands) in [
        ("command that fails", "echo preparing\n  cp /etc/passwd share/\n"),
        ("command that ends the shell", "echo giving up\n  exit 3"),
        ("command that fails silently", "test -e share/missing"),
    ] {
        let job = TestJob::image_of_spec(&spec(commands));

        all.push_str(&format!("# {name}\n{}\n", mistake(&job)));
    }
    insta::assert_snapshot!("failed_commands", all);
}

#[test]
fn links_out_of_the_project_bring_nothing_of_the_host_into_the_image() {
    let spec =
        "name: mistake\ncontents: [hello]\npaths:\n  - { path: /x, type: copy, source: ./host/passwd }\n";
    let job = TestJob::image_of_spec(spec);
    symlink("/etc", job.place("project/host")).unwrap();

    insta::assert_snapshot!("link_out_of_the_project", mistake(&job));

    // A link that is copied itself stays one: in the image, it leads to the image's own file.
    let job = job.file("image.yaml", &spec.replace("./host/passwd", "./host"));
    assert_eq!(job.run().status, Status::Success);
    let image = job.pushed("latest");
    assert_eq!(image.root()["/x"].target(), "/etc");
    assert!(!image.root().contains_key("/etc/passwd"));
}

#[test]
fn spec_that_cannot_be_used_is_named() {
    let job = TestJob::image_of_spec("");
    fs::remove_file(job.place("project/image.yaml")).unwrap();
    insta::assert_snapshot!("missing_spec", mistake(&job));

    let job = job.file("default.nix", "{ }: { }\n").variable("NIXLAYER_SPEC", "default.nix");
    insta::assert_snapshot!("spec_in_nix", mistake(&job));

    let job = job.variable("NIXLAYER_SPEC", "secret.yaml");
    symlink("/etc/passwd", job.place("project/secret.yaml")).unwrap();
    insta::assert_snapshot!("spec_outside_of_the_project", mistake(&job));
}

/// An image expression around `contents`.
fn layered(contents: &str) -> String {
    format!(
        "with import <nixpkgs> {{ }};\ndockerTools.buildLayeredImage {{\n  name = \"app\";\n  tag = \"1\";\n  \
         contents = [\n    {contents}\n  ];\n}}\n"
    )
}

const FLAKE: &str = r#"{
  outputs = { self }: {
    misspelt = self.imagee;
    vendored = import (builtins.path { path = ./vendored; name = "source"; });
  };
}
"#;

#[test]
fn every_mistake_in_an_expression_says_where_it_is() {
    let images = format!("{{ web = {}; worker = import ./worker.nix; }}", layered("hello"));
    let mut all = String::new();
    for (name, spec, expression) in [
        ("misspelt package", "default.nix", layered("helo")),
        ("misspelt package in another file", "default.nix#worker", images.clone()),
        ("package of a set that is not there", "default.nix", layered("pkgs.nodePackages.yarn")),
        ("no Nix at all", "default.nix", layered("hello").replace("};", "}")),
        ("misspelt attribute", "default.nix#wroker", images.clone()),
        ("attribute of an image", "default.nix#web.latest", images),
        ("number", "default.nix", "42\n".to_owned()),
        ("set of nothing", "default.nix", "{ a = 1; }\n".to_owned()),
        ("package", "default.nix", "(import <nixpkgs> { }).hello\n".to_owned()),
        ("function of something", "default.nix", "{ pkgs, version }: pkgs.hello\n".to_owned()),
        ("file that is not there", "images.nix", String::new()),
        ("folder without an expression", "nothing", String::new()),
        ("flake that is not there", ".#image", String::new()),
        ("file of the host", "/etc/nixos", String::new()),
        ("place in a list", "default.nix#2", "[ 1 2 ]\n".to_owned()),
        ("word of the network's", "default.nix", layered("SSL_timed_out")),
        ("error of the author's", "default.nix#a", "{ a = abort \"stop here\"; }\n".to_owned()),
        ("import of what is not there", "default.nix", "import ./missing.nix\n".to_owned()),
        ("import of what is not the project's", "default.nix", "import ../elsewhere/common.nix\n".to_owned()),
        ("import through a link that leads out", "default.nix", "import ./link/common.nix\n".to_owned()),
        ("link that leads out", "link/default.nix", String::new()),
        ("file of a flake", "flake/flake.nix", String::new()),
        ("flake", "flake#misspelt", String::new()),
        ("flake of the whole project", ".#misspelt", String::new()),
        ("file of a flake that is called like one of the project's", "flake#vendored", "1\n".to_owned()),
    ] {
        let job = TestJob::image_of_expression(&expression)
            .file("worker.nix", &layered("\n    hello\n    helo"))
            .file("nothing/README.md", "")
            .file(if spec == ".#misspelt" { "flake.nix" } else { "flake/flake.nix" }, FLAKE)
            .file("flake/vendored/default.nix", "\n\n  throw \"oh no\"\n")
            .variable("NIXLAYER_SPEC", spec);
        symlink("../elsewhere", job.place("project/link")).unwrap();

        let said = mistake(&job);

        assert!(said.contains("error: ") && said.contains("\n  fix:   "), "{name}: {said}");
        all.push_str(&format!("# {name}\n{said}\n"));
    }
    insta::assert_snapshot!("expressions", all);
}

/// What Nix says of it is about the package set, which is not the job's.
#[test]
fn misspelt_argument_of_an_image_is_named_with_the_right_one() {
    let job = TestJob::image_of_expression(&layered("hello").replace("contents", "content"));

    let said = mistake(&job);

    assert!(said.contains("\nerror: `default.nix` cannot be evaluated\n"), "{said}");
    assert!(said.contains("called with unexpected argument 'content'\n"), "{said}");
    assert!(said.contains("Did you mean contents?\n"), "{said}");
}

#[test]
fn an_images_own_tag_that_no_registry_takes_is_named() {
    let job = TestJob::image_of_expression(&layered("hello").replace("\"1\"", "\"1.0+b\""));

    let said = mistake(&job);

    assert!(said.contains("\nerror: `default.nix`: `1.0+b` is not a tag: "), "{said}");
    assert!(said.contains("`NIXLAYER_TAGS`"), "{said}");
}

#[test]
fn two_images_of_one_name_are_noticed_before_one_is_pushed() {
    let other = layered("hello").replace("contents", "config.User = \"1\"; contents");
    let job = TestJob::image_of_expression(&format!("[ ({}) ({other}) ]", layered("hello")));

    let said = mistake(&job);

    let error = "\nerror: two images would be `REGISTRY/team/app/app:1`: `default.nix#0` and `default.nix#1`\n  fix:   ";
    assert!(said.contains(error), "{said}");
}

#[test]
fn a_download_that_fails_is_told_with_its_place_and_without_its_password() {
    let download = "(fetchTarball \"http://user:canary-pw@127.0.0.1:1/x.tar.gz\")";
    let mut job = TestJob::image_of_expression(&layered(download));
    job.admin["nix"]["options"]["download-attempts"] = "1".into();

    let output = job.build(&["default.nix", "--to", "oci:image"], &[]);

    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("error: `default.nix`: Nix could not do its work on this host\n"), "{said}");
    assert!(said.contains("'http://127.0.0.1:1/x.tar.gz'") && said.contains("  fix: "), "{said}");
    assert!(!said.contains("canary-pw"), "{said}");
}

#[test]
fn failed_command_of_an_expression_shows_what_it_said() {
    let commands = "extraCommands = \"seq 12; cp /nowhere/file .\";\n  contents";
    let job = TestJob::image_of_expression(&layered("hello").replace("contents", commands));

    // What else is built depends on what ran before.
    let said = mistake(&job).replace("building '/nix/store/HASH-app-base.json.drv'...\n", "");
    insta::assert_snapshot!("failed_command_of_an_expression", said);
}
