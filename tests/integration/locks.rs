//! `nixlayer lock`, with the real Nix: what it writes, when it is current, and what a build makes of it.

use std::fs;
use std::process::{Command, Output};

use nixlayer::simulate::Status;
use serde_json::{Value, json};

use crate::support::{BinaryCache, Packages, TestJob, closure_of, environment, nix, succeed};

const SPEC: &str = "\
name: locked
contents: [hello, jq]
presets: [ca-certificates]
extraCommands: ln -s ${pkgs.curl}/bin/curl fetch
";

/// A package set that has other packages whenever `VERSION` is another one.
const MOVING: &str = r#"
{ system ? builtins.currentSystem, ... }:
let
  run = name: derivation {
    inherit name system;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-c" "mkdir $out; echo ${name} > $out/name" ];
    mark = "MARK";
  };
in {
  a = run "a-VERSION";
  b = run "b-VERSION";
  c = run "c-VERSION";
}
"#;

fn lock_of(job: &TestJob) -> Value {
    serde_json::from_str(&fs::read_to_string(job.place("project/image.lock.json")).unwrap()).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn said(output: Output) -> String {
    succeed(output)
}

/// A job whose `<nixpkgs>` is `MOVING`, and which can be moved on.
fn moving(spec: &str) -> TestJob {
    let mut job = TestJob::image_of_spec(spec);
    job.admin["nix"]["search_path"] = json!({ "nixpkgs": job.place("moving") });
    fs::create_dir(job.place("moving")).unwrap();
    move_to(&job, "1");
    job
}

fn move_to(job: &TestJob, version: &str) {
    let mark = job.root.path().file_name().unwrap().to_str().unwrap();
    let set = MOVING.replace("VERSION", version).replace("MARK", mark);
    fs::write(job.place("moving/default.nix"), set).unwrap();
}

/// The names of the locked store paths, by what the spec calls them.
fn names(job: &TestJob) -> Vec<(String, String)> {
    let lock = lock_of(job);
    let packages = lock["systems"]["x86_64-linux"]["packages"].as_object().unwrap().clone();
    let names = packages.into_iter().map(|(name, path)| (name, path.as_str().unwrap()[33..].to_owned()));
    names.collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect()
}

#[test]
fn a_lock_says_of_the_whole_closure_what_nix_says() {
    let job = TestJob::image_of_spec(SPEC);

    succeed(job.nixlayer(&["lock"]));

    let lock = lock_of(&job);
    let locked = &lock["systems"]["x86_64-linux"];
    let packages = locked["packages"].as_object().unwrap();
    let demanded = ["bash", "cacert", "coreutils", "curl", "hello", "jq"];
    assert_eq!(packages.keys().collect::<Vec<_>>(), demanded);
    let path = |name: &Value| format!("/nix/store/{}", name.as_str().unwrap());
    let closure = locked["closure"].as_array().unwrap();
    let mut paths: Vec<String> = closure.iter().map(|entry| path(&entry["path"])).collect();
    paths.sort_unstable();
    assert_eq!(paths, closure_of(packages.values().map(path)));
    for entry in closure {
        let query = |what: &str| {
            let arguments = ["--query", what, &path(&entry["path"])];
            succeed(nix("nix-store").args(arguments).output().unwrap()).trim().to_owned()
        };
        assert_eq!(entry["narHash"], query("--hash"));
        assert_eq!(entry["narSize"].to_string(), query("--size"));
        let mut references: Vec<String> = entry["references"].as_array().unwrap().iter().map(path).collect();
        references.sort_unstable();
        let of_nix = query("--references");
        let mut of_nix: Vec<&str> = of_nix.lines().collect();
        of_nix.sort_unstable();
        assert_eq!(references, of_nix);
    }
    let set_hash =
        nix("nix-store").arg("--query").arg("--hash").arg(&environment().nixpkgs).output().unwrap();
    assert_eq!(lock["nixpkgs"], json!({ "source": "<nixpkgs>", "narHash": succeed(set_hash).trim() }));
}

#[test]
fn a_lock_is_current_until_the_spec_wants_something_else() {
    let job = TestJob::image_of_spec(SPEC);
    let file = job.place("project/image.lock.json");
    assert!(
        refused(&job.nixlayer(&["lock", "--check"]))
            .contains("`image.lock.json` is not current: there is none")
    );
    succeed(job.nixlayer(&["lock"]));
    let written = fs::read(&file).unwrap();

    assert!(said(job.nixlayer(&["lock", "--check"])).ends_with("`image.lock.json` is current\n"));
    assert!(said(job.nixlayer(&["lock"])).ends_with("`image.lock.json` is current\n"));
    // What the lock does not depend on.
    let job = job.file("image.yaml", &format!("{SPEC}tags: [other]\nconfig: {{ Cmd: [/bin/hello] }}\n"));
    succeed(job.nixlayer(&["lock", "--check"]));
    let job = job.file("image.yaml", &SPEC.replace("jq]", "jq, bash]"));
    succeed(job.nixlayer(&["lock", "--check"]));
    let job = job.file("image.yaml", &SPEC.replace("jq]", "jq, moreutils]"));
    let error = refused(&job.nixlayer(&["lock", "--check"]));
    assert!(error.contains("cause: `moreutils` is not in the lock"), "{error}");
    assert!(error.contains("fix:   run `nixlayer lock image.yaml`"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), written, "checking writes nothing");

    succeed(job.nixlayer(&["lock"]));

    let changes: Vec<String> =
        lines_that_differ(&String::from_utf8(written).unwrap(), &fs::read_to_string(&file).unwrap());
    assert!(changes.iter().any(|line| line.contains("-moreutils-")), "{changes:?}");
    assert!(
        !changes.iter().any(|line| line.contains("-jq-")),
        "what did not change has the same lines: {changes:?}"
    );
}

fn lines_that_differ(before: &str, after: &str) -> Vec<String> {
    let mut lines: Vec<String> = after.lines().map(|line| line.trim_end_matches(',').to_owned()).collect();
    for line in before.lines().map(|line| line.trim_end_matches(',')) {
        if let Some(place) = lines.iter().position(|other| other == line) {
            lines.remove(place);
        }
    }
    lines
}

#[test]
fn packages_of_a_set_that_moves_stay_until_they_are_updated() {
    let job = moving("name: m\ncontents: [a, b]\n");
    succeed(job.nixlayer(&["lock"]));
    assert_eq!(names(&job), pairs(&[("a", "a-1"), ("b", "b-1")]));
    move_to(&job, "2");

    succeed(job.nixlayer(&["lock", "--check"]));
    let job = job.file("image.yaml", "name: m\ncontents: [a, b, c]\n");
    succeed(job.nixlayer(&["lock"]));
    assert_eq!(names(&job), pairs(&[("a", "a-1"), ("b", "b-1"), ("c", "c-2")]));

    let said = succeed(job.nixlayer(&["lock", "image.yaml", "--update", "a"]));
    assert!(said.contains("x86_64-linux: a was "), "{said}");
    assert_eq!(names(&job), pairs(&[("a", "a-2"), ("b", "b-1"), ("c", "c-2")]));

    succeed(job.nixlayer(&["lock", "--update"]));
    assert_eq!(names(&job), pairs(&[("a", "a-2"), ("b", "b-2"), ("c", "c-2")]));
    let error = refused(&job.nixlayer(&["lock", "image.yaml", "--update", "d"]));
    assert!(error.contains("`d` is not in the spec"), "{error}");
}

#[test]
fn what_comes_from_another_state_of_the_package_set_says_so() {
    let mut job = TestJob::image_of_spec("name: m\ncontents: [a, b]\n");
    let add = |job: &mut TestJob, version: &str| {
        fs::create_dir_all(job.place("moving")).unwrap();
        move_to(job, version);
        let added = nix("nix-store").arg("--add").arg(job.place("moving")).output().unwrap();
        let path = succeed(added).trim().to_owned();
        job.admin["nix"]["search_path"] = json!({ "nixpkgs": path });
        path
    };
    let first = add(&mut job, "1");
    succeed(job.nixlayer(&["lock"]));
    let second = add(&mut job, "2");

    succeed(job.nixlayer(&["lock", "image.yaml", "--update", "b"]));

    let hash = |path: &str| {
        succeed(nix("nix-store").args(["--query", "--hash", path]).output().unwrap()).trim().to_owned()
    };
    let lock = lock_of(&job);
    assert_eq!(lock["nixpkgs"]["narHash"], hash(&first));
    let others = &lock["systems"]["x86_64-linux"]["fromOtherNixpkgs"];
    assert_eq!(others, &json!({ "b": { "source": "<nixpkgs>", "narHash": hash(&second) } }));
    succeed(nix("nix-store").args(["--delete", &first, &second]).output().unwrap());
}

#[test]
fn a_spec_that_moved_on_fails_its_job_with_the_command_that_mends_it() {
    let job = TestJob::image_of_spec("name: app\nnixpkgs: ./packages\ncontents: [a]\n")
        .file("packages/default.nix", &MOVING.replace("VERSION", "1"));
    succeed(job.nixlayer(&["lock"]));
    let outcome = job.run_cleanly();
    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);

    for (file, text, cause) in [
        ("image.yaml", "name: app\nnixpkgs: ./packages\ncontents: [a, b]\n", "`b` is not in the lock"),
        (
            "image.yaml",
            "name: app\nnixpkgs: <nixpkgs>\ncontents: [a]\n",
            "the lock is of the package set `./packages`",
        ),
        (
            "image.yaml",
            "name: app\nnixpkgs: ./packages\nsystem: aarch64-linux\ncontents: [a]\n",
            "the lock has nothing for aarch64-linux",
        ),
        ("packages/more.nix", "{ }", "the files in `./packages` have changed since the lock was written"),
        ("image.lock.json", "{ \"version\": 2 }", "has format version 2"),
        ("image.lock.json", "<<<<<<< HEAD\n", "`image.lock.json` is not a lock file"),
    ] {
        let place = job.place("project").join(file);
        let before = fs::read(&place).ok();
        fs::write(&place, text).unwrap();

        let outcome = job.run_cleanly();

        assert_eq!(outcome.status, Status::ScriptFailure { exit_code: 1 }, "{text}: {}", outcome.trace);
        assert!(
            outcome.trace.contains(cause) && outcome.trace.contains("fix:   "),
            "{text}: {}",
            outcome.trace
        );
        match before {
            Some(before) => fs::write(&place, before).unwrap(),
            None => fs::remove_file(&place).unwrap(),
        }
    }
}

#[test]
fn a_job_may_leave_the_lock_alone() {
    let job = TestJob::image_of_spec("name: app\nnixpkgs: ./packages\ncontents: [a]\n")
        .file("packages/default.nix", &MOVING.replace("VERSION", "1"))
        .file("image.lock.json", "no lock at all");

    refused(&job.build(&["image.yaml", "--to", "oci:out"], &[]));
    succeed(job.build(&["image.yaml", "--no-lock", "--to", "oci:out"], &[]));
    succeed(job.build(&["image.yaml", "--to", "oci:other"], &[("NIXLAYER_LOCK", "off")]));
    let outcome = job.variable("NIXLAYER_LOCK", "off").run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
}

/// `system` of the packages makes them another machine's; what they hold is data.
#[test]
fn a_lock_for_another_system_needs_nobody_who_could_build_for_it() {
    let packages = Packages::new();
    let [foreign] = packages.build(
        r#"foreign = runFor "aarch64-linux" "foreign-1" "mkdir $out; echo arm > $out/name";"#,
        ["foreign"],
    );
    let set = format!(
        "{{ system ? \"x86_64-linux\" }}: {{ app = if system == \"aarch64-linux\" then builtins.storePath \"{foreign}\" else derivation {{ name = \"native-1\"; inherit system; builder = \"/bin/sh\"; args = [ \"-c\" \"echo > $out\" ]; }}; }}"
    );
    let mut job =
        TestJob::image_of_spec("name: app\nnixpkgs: ./packages\nsystem: aarch64-linux\ncontents: [app]\n")
            .file("packages/default.nix", &set);
    let cache = BinaryCache::of([&foreign], "xz");
    job.admin["caches"] = json!({ cache.file_url(): { "public_keys": [environment().cache_public_key] } });

    succeed(job.nixlayer(&["lock", "--system", "aarch64-linux", "--system", "x86_64-linux"]));

    let lock = lock_of(&job);
    assert_eq!(lock["systems"]["aarch64-linux"]["packages"]["app"], foreign.base_name());
    assert!(lock["systems"]["x86_64-linux"]["packages"]["app"].as_str().unwrap().ends_with("-native-1"));

    succeed(job.build(&["image.yaml", "--to", "oci:out"], &[]));

    let inspected = Command::new("skopeo")
        .args(["inspect", "--config"])
        .arg("oci:out:latest")
        .current_dir(job.place("project"))
        .output()
        .unwrap();
    let config: Value = serde_json::from_str(&succeed(inspected)).unwrap();
    assert_eq!((&config["architecture"], &config["os"]), (&json!("arm64"), &json!("linux")));
}

#[test]
fn what_is_nowhere_and_cannot_be_built_here_is_named() {
    let set = r#"{ system ? "x86_64-linux" }: { app = derivation { name = "only-there-1"; inherit system; builder = "/bin/sh"; args = [ "-c" "echo > $out" ]; }; }"#;
    let job = TestJob::image_of_spec("name: app\nnixpkgs: ./packages\ncontents: [app]\n")
        .file("packages/default.nix", set);

    let error = refused(&job.nixlayer(&["lock", "--system", "aarch64-linux"]));

    assert!(error.contains("-only-there-1` is neither in the store of this host nor in a binary cache, and nothing here can build it for aarch64-linux"), "{error}");
    assert!(!job.place("project/image.lock.json").exists());
}

#[test]
fn a_spec_without_packages_needs_no_package_set() {
    let packages = Packages::new();
    let [app] = packages.build(r#"app = run "app-1.0" "mkdir $out; echo app > $out/name";"#, ["app"]);
    let mut job = TestJob::image_of_spec(&format!("name: app\ncontents: [{app}]\n"));
    job.admin["nix"]["search_path"] = json!({ "other": "/var/empty" });

    succeed(job.build(&["image.yaml", "--to", "oci:out"], &[]));
    succeed(job.nixlayer(&["lock"]));

    assert_eq!(lock_of(&job)["systems"]["x86_64-linux"]["packages"][app.to_string()], app.base_name());
}

#[test]
fn a_cache_is_believed_for_its_signature_only() {
    let packages = Packages::new();
    let [app] = packages.build(r#"app = run "app-1.0" "mkdir $out; echo app > $out/name";"#, ["app"]);
    let cache = BinaryCache::unsigned([&app], "none");
    let mut job = TestJob::image_of_spec(&format!("name: app\ncontents: [{app}]\n"));
    job.admin["caches"] = json!({ cache.file_url(): { "public_keys": [environment().cache_public_key] } });
    cache.edit_narinfo(&app, |text| text.replace("NarSize: ", "NarSize: 1"));

    // The host's own store knows the path, and nobody signed what the cache says.
    succeed(job.nixlayer(&["lock"]));

    let size = succeed(nix("nix-store").args(["--query", "--size", &app.to_string()]).output().unwrap());
    assert_eq!(lock_of(&job)["systems"]["x86_64-linux"]["closure"][0]["narSize"].to_string(), size.trim());
}

#[test]
fn a_hand_that_altered_the_lock_is_noticed() {
    let packages = Packages::new();
    let [_lib, app] = packages.build(
        r#"lib = run "lib-1.0" "echo lib > $out"; app = run "app-1.0" "mkdir $out; ln -s ${lib} $out/lib";"#,
        ["lib", "app"],
    );
    let job = TestJob::image_of_spec(&format!("name: app\ncontents: [{app}]\n"));
    succeed(job.nixlayer(&["lock"]));
    let file = job.place("project/image.lock.json");
    let good = fs::read_to_string(&file).unwrap();
    let edit = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut lock: Value = serde_json::from_str(&good).unwrap();
        change(lock["systems"]["x86_64-linux"]["closure"].as_array_mut().unwrap());
        fs::write(&file, lock.to_string()).unwrap();
    };

    // Without the library, which nothing else would miss.
    edit(&|closure| {
        closure.retain(|entry| entry["path"] == app.base_name());
        closure[0]["references"] = json!([]);
    });

    assert!(refused(&job.nixlayer(&["lock", "--check"])).contains("`image.lock.json` is not current"));
    let output = job.build(&["image.yaml", "--to", "oci:out"], &[]);
    assert!(!output.status.success(), "what the host has is not what the lock says: {output:?}");
    edit(&|closure| closure[0]["narSize"] = json!(123_456));
    assert!(refused(&job.nixlayer(&["lock", "--check"])).contains("`image.lock.json` is not current"));
    succeed(job.nixlayer(&["lock"]));
    assert_eq!(fs::read_to_string(&file).unwrap(), good);
}

#[test]
fn a_flake_of_the_project_that_changed_makes_the_lock_old() {
    let flake = |text: &str| {
        format!(
            r#"{{ outputs = {{ self }}: {{ packages.x86_64-linux.app = derivation {{ name = "app-1";
            system = "x86_64-linux"; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
            args = [ "-c" "mkdir $out; echo {text} > $out/text" ]; }}; }}; }}"#
        )
    };
    let job =
        TestJob::image_of_spec("name: app\ncontents: [./tools#app]\n").file("tools/flake.nix", &flake("one"));
    succeed(job.nixlayer(&["lock"]));
    succeed(job.build(&["image.yaml", "--to", "oci:out"], &[]));
    // Tags, other locks and what lies elsewhere do not count.
    let job = job.file("image.yaml", "name: app\ncontents: [./tools#app]\ntags: [x]\n").file("README", "new");
    succeed(job.build(&["image.yaml", "--to", "oci:out"], &[]));

    let job = job.file("tools/flake.nix", &flake("two"));

    let error = refused(&job.build(&["image.yaml", "--to", "oci:out"], &[]));
    assert!(error.contains("the files in `./tools` have changed since the lock was written"), "{error}");
    succeed(job.nixlayer(&["lock"]));
    succeed(job.build(&["image.yaml", "--to", "oci:out"], &[]));
}

#[test]
fn a_package_set_behind_a_link_and_one_beside_the_spec_are_seen_as_they_are() {
    let spec = |nixpkgs: &str| format!("name: app\nnixpkgs: {nixpkgs}\ncontents: [a]\n");
    let job =
        TestJob::image_of_spec(&spec("./packages")).file("real/default.nix", &MOVING.replace("VERSION", "1"));
    std::os::unix::fs::symlink("real", job.place("project/packages")).unwrap();
    succeed(job.nixlayer(&["lock"]));
    let job = job.file("real/default.nix", &MOVING.replace("VERSION", "2"));
    assert!(
        refused(&job.build(&["image.yaml", "--to", "oci:../out"], &[]))
            .contains("the files in `./packages` have")
    );

    let job = job.file("image.yaml", &spec(".")).file("default.nix", &MOVING.replace("VERSION", "1"));
    let job = job.file("other.yaml", &spec("."));
    succeed(job.nixlayer(&["lock"]));
    let job = job.file("image.yaml", &format!("{}tags: [other]\n", spec(".")));
    succeed(job.build(&["image.yaml", "--to", "oci:../out"], &[]));
}

#[test]
fn a_lock_that_cannot_be_read_is_not_thrown_away_unasked() {
    let job = moving("name: m\ncontents: [a, b]\n").file("image.lock.json", "{ \"version\": 2 }");
    let file = job.place("project/image.lock.json");
    assert!(refused(&job.nixlayer(&["lock"])).contains("has format version 2"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "{ \"version\": 2 }");

    let job = job.file("image.lock.json", "<<<<<<< HEAD\n");
    assert!(refused(&job.nixlayer(&["lock", "image.yaml", "--update", "b"])).contains("is not a lock file"));
    let said = said(job.nixlayer(&["lock"]));
    assert!(
        said.contains(
            "`image.lock.json` is not a lock file: expected value at line 1 column 1; it is written anew"
        ),
        "{said}"
    );
}

#[test]
fn an_update_of_one_name_needs_nothing_of_the_others() {
    let job = moving("name: m\ncontents: [a, b]\n");
    succeed(job.nixlayer(&["lock"]));
    let a = lock_of(&job)["systems"]["x86_64-linux"]["packages"]["a"].as_str().unwrap().to_owned();
    succeed(nix("nix-store").args(["--delete", &format!("/nix/store/{a}")]).output().unwrap());
    move_to(&job, "2");

    succeed(job.nixlayer(&["lock", "image.yaml", "--update", "b"]));

    assert_eq!(names(&job), pairs(&[("a", "a-1"), ("b", "b-2")]));
}

#[test]
fn a_lock_says_which_systems_it_loses_and_checks_those_that_are_asked_for() {
    let job = TestJob::image_of_spec("name: app\nnixpkgs: ./packages\ncontents: [a]\n").file(
        "packages/default.nix",
        &MOVING
            .replace("VERSION", "1")
            .replace("inherit name system;", "inherit name; system = \"x86_64-linux\";"),
    );
    succeed(job.nixlayer(&["lock", "--system", "x86_64-linux", "--system", "aarch64-linux"]));

    succeed(job.nixlayer(&["lock", "--check", "--system", "x86_64-linux"]));
    let said = said(job.nixlayer(&["lock", "--system", "x86_64-linux"]));

    assert!(said.contains("aarch64-linux is left out, with 1 names"), "{said}");
}
