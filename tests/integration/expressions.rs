//! How a job names an expression, what it gives its images, and what they cost the second time.

use std::fs;
use std::process::Command;

use nixlayer::simulate::{Outcome, Status};
use serde_json::{Value, json};

use crate::support::{TestJob, environment, succeed};

/// An image of a small package; `NAME` and `TAG` are a test's to fill in.
const IMAGE: &str = r#"dockerTools.buildLayeredImage {
  name = "NAME"; tag = "TAG"; contents = [ hello ]; config.Cmd = [ "hello" ];
}"#;

fn image(name: &str, tag: &str) -> String {
    IMAGE.replace("NAME", name).replace("TAG", tag)
}

fn with_packages(expression: &str) -> String {
    format!("with import <nixpkgs> {{ }};\n{expression}\n")
}

fn pushed(job: &TestJob) -> Outcome {
    let outcome = job.run_cleanly();
    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    outcome
}

/// The title that an image has in the registry.
fn title(job: &TestJob, repository: &str, tag: &str) -> Value {
    job.pushed_to(repository, tag).manifest["annotations"]["org.opencontainers.image.title"].clone()
}

#[test]
fn an_expression_is_found_wherever_it_stands() {
    let all = with_packages(&format!("{{ images.web = {}; }}", image("web-MARK", "1")));
    let function = format!(
        "{{ pkgs ? import <nixpkgs> {{ }}, greeting ? \"hello\" }}:\nwith pkgs; {}\n",
        image("web-MARK", "1")
    );
    for (spec, file, text) in [
        ("image.nix", "image.nix", with_packages(&image("web-MARK", "1"))),
        ("images.nix#images.web", "images.nix", all),
        ("list.nix#1", "list.nix", with_packages(&format!("[ 7 ({}) ]", image("web-MARK", "1")))),
        ("function.nix", "function.nix", function.clone()),
        ("images", "images/default.nix", function.clone()),
        (".", "default.nix", function),
    ] {
        let job = TestJob::image_of_expression("").variable("NIXLAYER_SPEC", spec);
        let text = text.replace("MARK", &job.mark());
        let job = job.file(file, &text);

        pushed(&job);

        assert_eq!(job.tags(), ["team/app:1"], "{spec}");
        assert_eq!(title(&job, "team/app", "1"), format!("web-{}", job.mark()), "{spec}");
    }
}

#[test]
fn an_output_of_a_flake_is_an_image() {
    let image = image("flake-MARK", "1");
    // `<nixpkgs>` means nothing to a flake: this one has its packages with it.
    let flake = format!(
        "{{ outputs = {{ self }}: let pkgs = import ./nixpkgs {{ }}; in {{\n\
         packages.x86_64-linux.default = with pkgs; {image};\n}}; }}\n"
    );
    let mut job = TestJob::image_of_expression("");
    fs::remove_file(job.place("project/default.nix")).unwrap();
    let flake = flake.replace("MARK", &job.mark());
    job = job.file("flake.nix", &flake);
    let copy =
        Command::new("cp").arg("-R").arg(environment().nixpkgs).arg(job.place("project/nixpkgs")).output();
    succeed(copy.unwrap());
    succeed(Command::new("chmod").args(["-R", "u+w"]).arg(job.place("project/nixpkgs")).output().unwrap());

    for (spec, repository) in [(".", "team/app"), (".#default", "team/app/again")] {
        job = job
            .variable("NIXLAYER_SPEC", spec)
            .variable("NIXLAYER_REPOSITORY", &format!("$CI_REGISTRY/{repository}"));

        pushed(&job);

        assert_eq!(job.pushed_to(repository, "1").config(), &json!({ "Cmd": ["hello"] }), "{spec}");
    }
}

#[test]
fn a_list_and_a_set_are_pushed_below_the_project_by_the_names_of_their_images() {
    let (web, worker) = (image("registry.example/Web-MARK", "1"), image("worker-MARK", "2"));
    for images in [format!("[ ({web}) ({worker}) ]"), format!("{{ a = {web}; b = {worker}; tools = 7; }}")] {
        let job = TestJob::image_of_expression(&with_packages(&images));

        let outcome = pushed(&job);

        let (web, worker) = (format!("web-{}", job.mark()), format!("worker-{}", job.mark()));
        let expected = [format!("team/app/{web}:1"), format!("team/app/{worker}:2")];
        assert_eq!(job.tags(), expected, "{}", outcome.trace);
        // Both have the same packages.
        assert!(outcome.trace.contains("layers: 0 (0 B) built, "), "{}", outcome.trace);
        assert_eq!(title(&job, &format!("team/app/{web}"), "1"), web);
        assert_eq!(title(&job, &format!("team/app/{worker}"), "2"), worker);
    }
}

/// The images that a build of `default.nix` makes, by the names of their folders; none of one that fails.
fn built(job: &TestJob) -> (Vec<String>, String) {
    let images = job.place("images");
    let output = job.build(&["default.nix", "--to", &format!("oci:{}", images.display())], &[]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let folders = fs::read_dir(images).into_iter().flatten();
    let mut names: Vec<String> =
        folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    (names, said)
}

/// What `nix-build` takes is told by `nix-instantiate`.
#[test]
fn lists_and_sets_in_others_are_followed_as_nix_build_follows_them() {
    for (images, expected) in [
        ("[ [ (i \"a\") (i \"b\") ] ]", "a b"),
        ("[ (i \"a\") [ (i \"b\") ] { deep = i \"c\"; } ]", "a b c"),
        ("[ (i \"a\") ({ tag ? \"1\" }: [ (i \"b\") ]) ]", "a b"),
        (
            "{ default = i \"a\"; more = { recurseForDerivations = true; b = i \"b\"; c = i \"c\"; f = x: x; }; }",
            "a b c",
        ),
        ("{ a = i \"a\"; b = i \"b\"; other = { c = i \"c\"; }; list = [ (i \"d\") ]; n = null; }", "a b"),
        ("rec { a = i \"a\"; again = a; b = i \"b\"; }", "a b"),
    ] {
        let expression =
            format!("let i = NAME: {}; in {images}", image("NAME", "1").replace("\"NAME\"", "NAME"));
        let job = TestJob::image_of_expression(&with_packages(&expression));

        let (names, said) = built(&job);

        let expected: Vec<&str> = expected.split(' ').collect();
        assert_eq!(names, expected, "{images}: {said}");
        assert_eq!(job.nix("nix-instantiate", &["default.nix"]).lines().count(), names.len(), "{images}");
        assert_eq!(said.contains("`default.nix#other` is a set"), images.contains("other"), "{said}");
    }
}

#[test]
fn what_has_no_end_or_too_many_values_is_named() {
    for (images, expected) in [
        ("let all = { recurseForDerivations = true; inherit all; }; in all", "deeper than 16"),
        ("let all = [ all ]; in all", "deeper than 16"),
        ("let f = { }: f; in f", "deeper than 16"),
        ("builtins.genList (n: builtins.genList (m: derivation { }) 20) 20", "more than 100 values"),
        (
            "let self = { recurseForDerivations = true; a = self; b = self; }; in self",
            "`default.nix` is no image",
        ),
        ("[ 7 ]", "`0` in it is of the type `int`"),
        ("[ [ ({ pkgs }: 7) ] ]", "`default.nix#0.0` is a function whose arguments have no default: pkgs"),
        ("{ web = { image = derivation { }; }; }", "name it as `default.nix#web`"),
    ] {
        let job = TestJob::image_of_expression(images);

        let (names, said) = built(&job);

        assert!(names.is_empty() && said.contains(expected) && said.contains("  fix: "), "{images}: {said}");
    }
}

/// Whatever is in a set that no image comes from.
#[test]
fn a_set_that_is_passed_over_may_be_broken() {
    let expression = format!("{{ web = {}; other = {{ a = abort \"no\"; }}; }}", image("web", "1"));
    let job = TestJob::image_of_expression(&with_packages(&expression));

    let (names, said) = built(&job);

    // One image alone is what the folder is of.
    assert!(names.contains(&"oci-layout".to_owned()) && !said.contains("no\n"), "{names:?} {said}");
}

/// Also where the report of it cannot be written.
#[test]
fn an_image_that_is_there_is_told_of_although_the_next_one_is_not() {
    let broken = "(runCommand \"broken-MARK.tar\" { } \"echo > $out\" // { imageName = \"broken-MARK\"; imageTag = \"1\"; })";
    let images = format!("[ ({}) {broken} ]", image("web-MARK", "1"));
    let mut job = TestJob::image_of_expression(&with_packages(&images));
    job.script = vec!["mkdir -p nixlayer-report/image.env".to_owned()];

    let outcome = job.run_cleanly();

    let web = format!("team/app/web-{}:1", job.mark());
    assert_eq!(job.tags(), [web.as_str()]);
    let said = job.said(&outcome);
    assert!(said.contains(&format!("pull:   docker pull REGISTRY/{web}")), "{said}");
    assert!(said.contains("cannot be used") && said.contains("it is neither a tar"), "{said}");
}

#[test]
fn the_jobs_tags_and_repository_come_before_the_images_own() {
    // Which no registry takes; nor is it asked to.
    let job = TestJob::image_of_expression(&with_packages(&image("named-MARK", "1.0+own")))
        .variable("NIXLAYER_TAGS", "latest $CI_COMMIT_REF_SLUG")
        .variable("NIXLAYER_REPOSITORY", "$CI_REGISTRY_IMAGE/web");

    pushed(&job);

    assert_eq!(job.tags(), ["team/app/web:latest", "team/app/web:main"]);
    assert_eq!(title(&job, "team/app/web", "main"), format!("named-{}", job.mark()));
}

/// The requests since `before`, each as method and path.
fn requests(job: &TestJob, before: usize) -> Vec<String> {
    let log = job.registry.log();
    log[before..].iter().map(|request| format!("{} {}", request.method, request.path)).collect()
}

#[test]
fn an_unchanged_image_costs_a_look_at_its_tag() {
    let job = TestJob::image_of_expression(&with_packages(&image("same-MARK", "latest")));
    let login = job.login_file();
    let to = format!("{}/team/app", job.registry_host);
    let build = || succeed(job.build(&["default.nix", "--to", &to], &[("REGISTRY_AUTH_FILE", &login)]));
    build();
    let (digest, before) = (job.tag("latest"), job.registry.log().len());

    let said = build();

    let look = ["GET /v2/", "GET /jwt/auth", "GET /v2/team/app/manifests/latest"];
    assert_eq!(requests(&job, before), look, "{said}");
    assert_eq!(job.tag("latest"), digest);
    assert!(said.contains("layers: 0 (0 B) built, "), "{said}");
}

#[test]
fn a_new_commit_of_the_same_image_is_nine_requests() {
    let job = TestJob::image_of_expression(&with_packages(&image("same-MARK", "latest")))
        .variable("NIXLAYER_TAGS", "latest $CI_COMMIT_SHORT_SHA");
    pushed(&job);
    let before = job.registry.log().len();
    let job = job.file("README.md", "something else\n");

    let outcome = pushed(&job);

    let asked = requests(&job, before);
    // `prepare` is a process of its own, and has asked for a token, too.
    let (prepare, push) = asked.split_at(2);
    assert_eq!(prepare, ["GET /v2/", "GET /jwt/auth"]);
    // One more than for a spec: where images go is known, and a token to push there is asked for, once they are found.
    assert!(push.len() <= 9, "{push:?}");
    assert_eq!(job.tags().len(), 3, "{:?}", job.tags());
    assert!(outcome.trace.contains("layers: 0 (0 B) built, "), "{}", outcome.trace);
}

#[test]
fn an_image_made_now_is_new_and_its_layers_are_not() {
    let expression = image("now-MARK", "latest").replace("config.Cmd", "created = \"now\"; config.Cmd");
    let job = TestJob::image_of_expression(&with_packages(&expression));
    pushed(&job);
    let (digest, layers) = (job.tag("latest"), job.pushed("latest").diff_ids().clone());

    let outcome = pushed(&job);

    assert_ne!(job.tag("latest"), digest);
    assert_eq!(*job.pushed("latest").diff_ids(), layers);
    assert!(outcome.trace.contains("layers: 0 (0 B) built, "), "{}", outcome.trace);
}

/// Who moves from one to the other, in either direction, sends the last layer alone.
#[test]
fn a_spec_and_an_expression_share_the_layers_of_their_store_paths() {
    let expression = with_packages(&image("shared-MARK", "latest"));
    let spec = "name: shared\ncontents: [hello]\nconfig: { Cmd: [hello] }\ntags: [latest]\n";
    for (first, second) in [("default.nix", "image.yaml"), ("image.yaml", "default.nix")] {
        let mut job = TestJob::image_of_expression(&expression).file("image.yaml", spec);
        job = job.variable("NIXLAYER_SPEC", first);
        pushed(&job);
        let layers = job.pushed("latest").diff_ids().clone();
        job = job.variable("NIXLAYER_SPEC", second);

        let outcome = pushed(&job);

        let now = job.pushed("latest").diff_ids().clone();
        let (before, now) = (layers.as_array().unwrap(), now.as_array().unwrap());
        let (_, paths) = now.split_last().unwrap();
        assert!(!paths.is_empty() && paths.iter().all(|layer| before.contains(layer)), "{before:?} {now:?}");
        assert!(outcome.trace.contains("layers: 1 ("), "{second}: {}", outcome.trace);
    }
}

#[test]
fn a_changed_package_is_all_that_is_sent() {
    let text = |text: &str| {
        with_packages(&format!(
            "dockerTools.buildLayeredImage {{ name = \"changing-MARK\"; tag = \"latest\"; created = \"now\";\n\
             contents = [ jq (writeTextDir \"share/text\" \"{text}\") ]; }}"
        ))
    };
    let job = TestJob::image_of_expression(&text("one"));
    pushed(&job);
    let before = job.registry.log().len();
    let changed = text("two").replace("MARK", &job.mark());
    fs::write(job.place("project/default.nix"), changed).unwrap();

    let outcome = pushed(&job);

    let sent: usize = job.registry.log()[before..].iter().map(|request| request.body).sum();
    assert!(sent < 64 * 1024, "{sent} bytes: {}", outcome.trace);
    // The package's own layer, and the last one with the links into it.
    assert!(outcome.trace.contains("layers: 2 ("), "{}", outcome.trace);
}

/// What somebody makes of an image is another one, though the image is all that it takes.
#[test]
fn what_is_made_of_an_image_is_not_taken_for_it() {
    let expression = "let image = dockerTools.streamLayeredImage { name = \"inner-MARK\"; tag = \"1\"; }; in\n\
                      runCommand \"outer-MARK.tar\" { } \"${image} --repo_tag other-MARK:2 > $out\"";
    let job = TestJob::image_of_expression(&with_packages(expression));

    pushed(&job);

    assert_eq!(job.tags(), ["team/app:2"]);
    assert_eq!(title(&job, "team/app", "2"), format!("other-{}", job.mark()));
    assert!(job.nix_output(&[]).exists(), "what was wanted has not been built");
}

/// Also where it has the name and the parts of an archive of `buildLayeredImage`.
#[test]
fn what_edits_an_image_is_not_taken_for_its_archive() {
    let made = "runCommand \"inner-MARK.tar\" { } \"COMMAND\"";
    let changed = "(dockerTools.buildLayeredImage { name = \"inner-MARK\"; tag = \"1\"; compressor = \"none\"; })\
                   .overrideAttrs (old: { buildCommand = \"COMMAND\"; })";
    for (archive, command) in [
        (made, "${image} --repo_tag inner-MARK:2 | cat > $out"),
        (made, "${image} | cat > $out; ${image} --repo_tag inner-MARK:2 > $out"),
        (changed, "${image} --repo_tag inner-MARK:2 | cat > $out"),
    ] {
        let image =
            "let image = dockerTools.streamLayeredImage { name = \"inner-MARK\"; tag = \"1\"; }; in\n";
        let expression = format!("{image}{}", archive.replace("COMMAND", command));
        let job = TestJob::image_of_expression(&with_packages(&expression));

        pushed(&job);

        assert_eq!(job.tags(), ["team/app:2"], "{archive}: {command}");
    }
}

/// Nobody can tell what it writes, though it hands over the parts of the image that it takes.
#[test]
fn what_edits_a_stream_is_not_taken_for_it() {
    let expression = "let image = dockerTools.streamLayeredImage { name = \"inner-MARK\"; tag = \"1\"; }; in\n\
                      runCommand \"stream-inner-MARK\" { } \"ln -s ${image} $out\" // { inherit (image) conf imageName imageTag; }";
    let job = TestJob::image_of_expression(&with_packages(expression));

    let outcome = job.run_cleanly();

    assert!(matches!(outcome.status, Status::ScriptFailure { .. }), "{}", outcome.trace);
    assert!(outcome.trace.contains("stream-inner-"), "{}", outcome.trace);
    assert_eq!(job.tags(), [] as [String; 0]);
}

#[test]
fn an_image_whose_name_leads_elsewhere_goes_nowhere() {
    let expression = "let up = name: runCommand \"up-MARK.tar\" { } \"echo > $out\" // { imageName = name; imageTag = \"1\"; };\n\
                      in [ (up \"x/..\") (up \"y\") ]";
    let job = TestJob::image_of_expression(&with_packages(expression));
    let to = format!("oci:{}", job.place("below/images").display());

    let output = job.build(&["default.nix", "--to", &to], &[]);

    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("`localhost/..` is not a repository"), "{said}");
    assert!(!job.place("below").exists(), "{said}");
}
