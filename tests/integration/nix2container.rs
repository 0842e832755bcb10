//! An image that nix2container describes has the layers whose hashes it has recorded.

use std::fs;

use nixlayer::simulate::Status;
use serde_json::{Value, json};

use crate::support::{Image, Kind, TestJob, environment, succeed};

const IMAGES: &str = r#"
with import <nixpkgs> { };
let
  shells = nix2container.buildLayer { deps = [ bash ]; };
  kept = nix2container.buildLayer { deps = [ jq ]; reproducible = false; };
  oddities = runCommand "oddities" { } ''
    folder=$out/share/$(printf 'long%.0s' $(seq 40))/$(printf 'name%.0s' $(seq 20))
    mkdir -p $folder $out/empty
    echo text > "$folder/a file"
    echo text > $out/share/é
    ln -s "$folder/a file" $out/share/link
    echo end
  '';
in {
  image = nix2container.buildImage {
    name = "n2c-MARK";
    tag = "1";
    config = { entrypoint = [ "/bin/hello" ]; WorkingDir = "/share"; };
    copyToRoot = [ hello ];
    layers = [ shells ];
    perms = [
      { path = hello; regex = ".*/bin/hello"; mode = "0700"; }
      { path = hello; regex = ".*/bin"; uid = 5; gid = 6; uname = "five"; gname = "six"; }
    ];
  };
  kept = nix2container.buildImage { name = "kept-MARK"; tag = "1"; layers = [ kept ]; config.Cmd = [ "${jq}/bin/jq" ]; };
  odd = nix2container.buildImage { name = "odd-MARK"; tag = "1"; copyToRoot = oddities; };
}
"#;

/// The image of an attribute, whose layers are those recorded.
fn build(job: &TestJob, attribute: &str) -> Image {
    let layout = job.place(&format!("layout-{attribute}"));
    let to = format!("oci:{}", layout.display());
    succeed(job.build(&[&format!("default.nix#{attribute}"), "--to", &to], &[]));
    let image = Image::from_layout(&layout, "1");
    let recorded = fs::read(job.nix_build(&["--attr", attribute])).unwrap();
    let recorded: Value = serde_json::from_slice(&recorded).unwrap();
    let recorded: Vec<_> =
        recorded["layers"].as_array().unwrap().iter().map(|layer| layer["diff_ids"].clone()).collect();
    assert_eq!(*image.diff_ids(), Value::from(recorded), "{attribute}");
    image
}

#[test]
fn layers_are_those_that_nix2container_has_recorded() {
    let job = TestJob::image_of_expression(IMAGES);

    let image = build(&job, "image");
    assert_eq!(*image.config(), json!({ "Entrypoint": ["/bin/hello"], "WorkingDir": "/share" }));
    let root = image.root();
    let seen = |path: &str| (root[path].mode, root[path].owner);
    assert_eq!(seen("/bin/hello"), (0o700, (5, 6)));
    assert_eq!(seen("/share"), (0o555, (0, 0)));
    assert!(matches!(root["/bin/hello"].kind, Kind::File(_)), "files are copied, not linked");
    let hello = environment().package("hello").to_string();
    assert!(!image.store_paths().contains(&hello.as_str()));
    assert!(image.store_paths().contains(&environment().package("bash").to_string().as_str()));

    // One layer is a tar that lies in the store, one has the names that a tar cannot hold as they are.
    assert_eq!(build(&job, "kept").layers.len(), 1);
    let odd = build(&job, "odd");
    assert!(odd.root().contains_key("/share/é") && odd.root().contains_key("/empty"));
}

#[test]
fn a_job_pushes_it_and_the_next_one_sends_no_layer() {
    let job = TestJob::image_of_expression(IMAGES).variable("NIXLAYER_SPEC", "default.nix#image");
    assert_eq!(job.run_cleanly().status, Status::Success);
    assert_eq!(job.tags(), ["team/app:1"]);

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert!(outcome.trace.contains("layers: 0 (0 B) built, 2 ("), "{}", outcome.trace);
    assert!(outcome.trace.contains("; 0 B sent"), "{}", outcome.trace);
}
