//! Expressions that want more than an image: files that the driver can read and a builder cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nixlayer::oci::Digest;
use nixlayer::simulate::Status;

use crate::support::TestJob;

const SECRET: &str = "canary: a key of the driver's\n";

/// Derivations that name a `SECRET` of the host, whose SHA-256 is `SHA256`, where an image has files of its own.
const IMAGES: &str = r#"
with import <nixpkgs> { };
let
  run = name: runCommand "${name}-MARK";
  layer = run "layer" { } "mkdir $out; ln -s SECRET $out/layer.tar; echo SHA256 > $out/checksum; :";
  checksum = run "layer" { } "mkdir $out; touch $out/layer.tar; ln -s SECRET $out/checksum; :";
  good = run "layer" { } "mkdir $out; echo > $out/layer.tar; sha256sum $out/layer.tar | cut -c -64 > $out/checksum; :";
  base = run "base" { } "ln -s SECRET $out; :";
  fields = { architecture = "amd64"; store_layers = [ ]; created = "now"; repo_tag = "app:1"; };
  conf = fields: runCommand "stream-MARK" {
    conf = runCommand "MARK-conf.json" { text = builtins.toJSON fields; passAsFile = [ "text" ]; } "cp $textPath $out; :";
  } "echo > $out";
  plan = layer: runCommand "image-MARK.json" {
    text = builtins.toJSON { version = 1; arch = "amd64"; layers = [ (layer // { mediatype = "application/vnd.oci.image.layer.v1.tar"; }) ]; };
    passAsFile = [ "text" ];
  } "cp $textPath $out; :";
  known = { digest = "sha256:SHA256"; diff_ids = "sha256:SHA256"; };
in {
  customisationLayer = conf (fields // { customisation_layer = layer; });
  checksum = conf (fields // { customisation_layer = checksum; });
  base = conf (fields // { customisation_layer = good; from_image = base; });
  baseOutside = conf (fields // { customisation_layer = good; from_image = "SECRET"; });
  layerOutside = conf (fields // { customisation_layer = "SECRET"; });
  otherPaths = conf (fields // { customisation_layer = good; store_layers = [ [ (builtins.unsafeDiscardStringContext "${hello}") ] ]; });
  otherBase = conf (fields // { customisation_layer = good; from_image = builtins.unsafeDiscardStringContext "${hello}"; });
  confIsLink = runCommand "stream-MARK" { conf = runCommand "MARK-conf.json" { } "ln -s SECRET $out; :"; } "echo > $out";
  archive = run "archive" { } "ln -s SECRET $out; :";
  layout = run "layout" { } "mkdir $out; ln -s SECRET $out/oci-layout; ln -s SECRET $out/index.json; :";
  layerPath = plan (known // { layer-path = "${base}"; });
  layerPathOutside = plan (known // { layer-path = "SECRET"; });
  planIsLink = runCommand "image-MARK.json" { } "ln -s SECRET $out; :";
  forged = { type = "derivation"; drvPath = "--option"; outPath = "SECRET"; outputName = "out"; name = "x"; };
}
"#;

#[test]
fn no_file_of_the_host_becomes_a_part_of_an_image() {
    let job = TestJob::image_of_expression("");
    let secret = job.place("secret");
    fs::write(&secret, SECRET).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let sha256 = Digest::of(SECRET.as_bytes()).hex();
    let expression = IMAGES
        .replace("SECRET", &secret.display().to_string())
        .replace("SHA256", &sha256)
        .replace("MARK", &job.mark());
    let mut job = job.file("default.nix", &expression);
    let mut all = String::new();
    for attribute in [
        "customisationLayer",
        "checksum",
        "base",
        "baseOutside",
        "layerOutside",
        "otherPaths",
        "otherBase",
        "confIsLink",
        "archive",
        "layout",
        "layerPath",
        "layerPathOutside",
        "planIsLink",
        "forged",
    ] {
        job = job.variable("NIXLAYER_SPEC", &format!("default.nix#{attribute}"));

        let outcome = job.run_cleanly();

        let trace = &outcome.trace;
        assert!(matches!(outcome.status, Status::ScriptFailure { .. }), "{attribute}: {trace}");
        assert!(!trace.contains("canary: a key"), "{attribute}: {trace}");
        assert_eq!(job.tags(), [] as [String; 0], "{attribute}");
        let log = job.registry.log();
        assert!(log.iter().all(|request| request.body == 0), "{attribute}: something was sent");
        let said = job.said(&outcome).replace(&job.mark(), "MARK").replace(&sha256, "SHA256");
        let errors: Vec<&str> = said.lines().skip_while(|line| !line.starts_with("error: ")).collect();
        all.push_str(&format!("# {attribute}\n{}\n", errors.join("\n")));
    }
    insta::assert_snapshot!("errors", all);
}
