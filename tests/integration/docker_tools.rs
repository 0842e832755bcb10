//! An image that nixpkgs' `dockerTools` describe is the one that they make, without their archive.

use std::fs;

use nixlayer::simulate::Status;
use serde_json::Value;

use crate::support::{Image, TestJob, UnpackedImage, skopeo, succeed, timeless};

/// Images of every function, with a tag or time of its own where they have one.
const IMAGES: &str = r#"
with import <nixpkgs> { };
let
  small = {
    name = "Team/Small-MARK";
    contents = [ hello ];
    config = { Env = [ "A=1" "B=2" ]; Cmd = [ "hello" ]; };
  };
in rec {
  layered = dockerTools.buildLayeredImage (small // { tag = "1"; });
  plain = dockerTools.buildLayeredImage (small // { tag = "1"; compressor = "none"; });
  few = dockerTools.buildLayeredImage (small // { tag = "1"; compressor = "zstd"; maxLayers = 2; });
  untagged = dockerTools.buildLayeredImage (small // { compressor = "none"; });
  empty = dockerTools.buildLayeredImage { name = "empty-MARK"; tag = "1"; };
  mentioned = dockerTools.buildLayeredImage { name = "m-MARK"; tag = "1"; config.Cmd = [ "${hello}/bin/hello" ]; };
  bare = dockerTools.buildLayeredImage (small // { tag = "1"; includeStorePaths = false; });
  owned = dockerTools.streamLayeredImage (small // {
    tag = "1";
    created = "2024-05-06T07:08:09Z";
    mtime = "2001-02-03T04:05:06Z";
    uid = 1000; gid = 100; uname = "app"; gname = "users";
    extraCommands = "mkdir -p home/app tmp; chmod 1777 tmp; echo ${jq} > home/app/notes";
    fakeRootCommands = "chown -R 1000:100 home/app; chmod 700 home/app";
  });
  child = dockerTools.streamLayeredImage {
    name = "child-MARK";
    tag = "1";
    fromImage = layered;
    contents = [ jq ];
    config = { Env = [ "B=3" "C=4" ]; WorkingDir = "/srv"; };
  };
  copied = dockerTools.buildImage {
    name = "copied-MARK";
    tag = "1";
    copyToRoot = hello;
    config.Cmd = [ "/bin/hello" ];
    extraCommands = "mkdir srv; echo text > srv/file";
  };
  copiedOn = dockerTools.buildImage {
    name = "copied-on-MARK";
    tag = "1";
    fromImage = layered;
    contents = [ jq ];
    config.Env = [ "C=4" ];
  };
}
"#;

#[test]
fn the_example_becomes_the_image_that_upstream_makes_without_its_archive() {
    let job = TestJob::example("dockertools").variable("NIXLAYER_SPEC", "default.nix");
    let name = format!("k8s-deployer-{}", job.mark());
    let expression = fs::read_to_string(job.place("project/default.nix")).unwrap();
    let job = job.file("default.nix", &expression.replace("k8s-deployer", &name));

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert_eq!(job.tags(), ["team/app:latest"], "the tag is the expression's own");
    assert!(!job.nix_output(&[]).exists(), "the archive was built");
    let image = job.pushed("latest");
    assert_eq!(timeless(&image.configuration), job.configuration_by_rules(&name, &[], &[]));
    assert!(created(&image).as_second() > 1_700_000_000, "it is when the image was made");
    assert_eq!(image.manifest["annotations"]["org.opencontainers.image.title"], name);

    let there = format!("docker://{}/team/app:latest", job.registry_host);
    let layout = job.place("layout");
    let copy = format!("oci:{}:latest", layout.display());
    succeed(skopeo(&["copy", "--src-tls-verify=false", &there, &copy]));
    let said =
        succeed(UnpackedImage::from_layout(&layout, "latest").run(&["/usr/bin/env", "jq", "--version"]));
    assert!(said.starts_with("jq-1."), "{said}");
}

#[test]
fn every_image_is_the_one_that_skopeo_reads_in_its_archive() {
    let job = TestJob::image_of_expression(IMAGES);
    for attribute in [
        "layered",
        "plain",
        "few",
        "untagged",
        "empty",
        "mentioned",
        "bare",
        "owned",
        "child",
        "copied",
        "copiedOn",
    ] {
        // First, so that what is built is built in our way, and not there already.
        let ours = build(&job, attribute);

        let theirs = job.image_by_skopeo(&["--attr", attribute]);
        assert_eq!(timeless(&ours.configuration), timeless(&theirs.configuration), "{attribute}");
        // skopeo writes times in another way.
        assert_eq!(created(&ours), created(&theirs), "{attribute}");
        assert!(ours.layers == theirs.layers, "{attribute}: other members");
    }
}

/// A job's builders run in its sandbox, which knows one user.
#[test]
fn a_job_gives_files_to_users_that_its_sandbox_does_not_have() {
    let job = TestJob::image_of_expression(IMAGES).variable("NIXLAYER_SPEC", "default.nix#owned");

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert_eq!(job.pushed("1").root()["./home/app/notes"].owner, (1000, 100));
}

/// The image of an attribute of `default.nix`, built on a laptop, with the only tag that it has.
fn build(job: &TestJob, attribute: &str) -> Image {
    let layout = job.place(&format!("layout-{attribute}"));
    let to = format!("oci:{}", layout.display());
    succeed(job.build(&[&format!("default.nix#{attribute}"), "--to", &to], &[]));
    Image::only_one(&layout)
}

fn created(image: &Image) -> jiff::Timestamp {
    image.configuration["created"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_base_image_gives_its_layers_and_its_environment_and_nothing_else() {
    let job = TestJob::image_of_expression(IMAGES);

    let (base, child) = (build(&job, "layered"), build(&job, "child"));

    assert!(child.layers.starts_with(&base.layers), "other layers come first");
    let expected = serde_json::json!({ "Env": ["A=1", "B=3", "C=4"], "WorkingDir": "/srv" });
    assert_eq!(*child.config(), expected);
    assert_eq!(child.diff_ids().as_array().unwrap().len(), child.layers.len());
}

#[test]
fn an_image_without_a_tag_gets_the_one_that_upstream_gives_it() {
    let job = TestJob::image_of_expression(IMAGES).variable("NIXLAYER_SPEC", "default.nix#untagged");

    let outcome = job.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    let archive = format!("docker-archive:{}", job.nix_build(&["--attr", "untagged"]).display());
    let said: Value = serde_json::from_str(&succeed(skopeo(&["list-tags", &archive]))).unwrap();
    let own = said["Tags"][0].as_str().unwrap().rsplit_once(':').unwrap().1;
    assert_eq!(job.tags(), [format!("team/app:{own}")], "{said}");
}

/// Its archive is made by `stream-stream-…`.
#[test]
fn an_image_may_be_called_like_a_stream() {
    let job = TestJob::image_of_expression(
        "with import <nixpkgs> { }; dockerTools.buildLayeredImage { name = \"stream-MARK\"; tag = \"1\"; contents = [ hello ]; }",
    );

    let outcome = job.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert_eq!(job.tags(), ["team/app:1"]);
    assert!(!job.nix_output(&[]).exists(), "the archive was built");
}

#[test]
fn every_age_of_nixpkgs_gives_the_layers_that_it_gave_then() {
    for (generation, mode) in [("20.09", "555"), ("21.05", "555"), ("24.11", "755"), ("26.05", "755")] {
        for created in ["1970-01-01T00:00:01Z", "2024-05-06T07:08:09Z", "now"] {
            let job = TestJob::image_of_expression(&format!(
                r#"with import <nixpkgs> {{ generation = "{generation}"; }};
                dockerTools.buildLayeredImage {{
                  name = "old-MARK"; created = "{created}"; tag = "1"; contents = [ hello jq ]; config.Cmd = [ "hello" ];
                }}"#
            ));

            let outcome = job.run();

            assert_eq!(outcome.status, Status::Success, "{generation}: {}", outcome.trace);
            assert!(!job.nix_output(&[]).exists(), "the archive was built");
            let time_of_files = generation < "24.11" && created == "now";
            let mut options = vec!["--nix-mode", mode];
            if time_of_files {
                options.extend(["--mtime", "1"]);
            }
            let name = format!("old-{}", job.mark());
            let image = job.pushed("1");
            let expected = job.configuration_by_rules(&name, &[], &options);
            assert_eq!(timeless(&image.configuration), expected, "{generation}, {created}");
            let warns = outcome
                .trace
                .contains("files of the layers get a constant time instead of the time of this build");
            assert_eq!(warns, time_of_files, "{generation}, {created}: {}", outcome.trace);
        }
    }
}

#[test]
fn an_archive_of_several_images_is_pushed_as_several() {
    let job = TestJob::image_of_expression(
        &IMAGES.replace("in rec {", "in rec {\n  merged = dockerTools.mergeImages [ layered copied ];"),
    )
    .variable("NIXLAYER_SPEC", "default.nix#merged");

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    let names = ["copied-MARK", "small-MARK"].map(|name| name.replace("MARK", &job.mark()));
    assert_eq!(job.tags(), names.clone().map(|name| format!("team/app/{name}:1")), "{}", outcome.trace);
    for name in names {
        let image = job.pushed_to(&format!("team/app/{name}"), "1");
        assert_eq!(image.manifest["annotations"]["org.opencontainers.image.title"], name);
    }
}
