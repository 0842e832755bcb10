//! `nixlayer plan` and `nixlayer explain`: what a push would cost, and what is in an image and why.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{Auth, DockerRegistry, TestJob, environment, succeed};

const SPEC: &str = "name: app\ncontents: [hello, jq]\ncreated: epoch\n";

fn job(registry: &DockerRegistry) -> TestJob {
    TestJob::image_of_spec(SPEC).trusting(registry.address())
}

fn there(registry: &DockerRegistry) -> String {
    format!("{}/team/app:latest", registry.address())
}

fn plan(job: &TestJob, registry: &DockerRegistry) -> Value {
    let said = succeed(job.nixlayer(&["plan", "image.yaml", "--against", &there(registry), "--json"]));
    serde_json::from_str(&said).unwrap()
}

fn failed(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_plan_says_what_the_push_then_does() {
    let registry = DockerRegistry::start(Auth::None);
    let job = job(&registry);
    let layers = |plan: &Value, decision: &str| {
        plan["layers"].as_array().unwrap().iter().filter(|layer| layer["decision"] == decision).count()
    };

    let before = plan(&job, &registry);
    assert_eq!(layers(&before, "reuse"), 0);
    assert_eq!((&before["unchanged"], &before["reuse"]["layers"]), (&json!(false), &json!(0)));
    assert!(registry.log().lines().all(|line| !line.contains("POST")), "nothing moves");

    let pushed = succeed(job.build(&["image.yaml", "--to", &there(&registry)], &[]));
    assert!(pushed.contains(&format!("layers: {} (", layers(&before, "build"))), "{pushed}");

    let after = plan(&job, &registry);
    assert_eq!((layers(&after, "build"), &after["unchanged"]), (0, &json!(true)));
    assert_eq!(after["build"], json!({ "layers": 0, "narSize": 0 }));

    fs::write(job.place("project/image.yaml"), SPEC.replace("jq]", "jq, yq]")).unwrap();
    let said = succeed(job.nixlayer(&["plan", "image.yaml", "--against", &there(&registry)]));
    let changed = plan(&job, &registry);
    let (build, reuse) = (layers(&changed, "build"), layers(&changed, "reuse"));
    assert!(build > 0 && reuse > 0, "{changed}");
    assert!(said.contains(&format!("layers: {build} to build (")), "{said}");
    assert!(said.contains(" to send), "), "{said}");
    let pushed = succeed(job.build(&["image.yaml", "--to", &there(&registry)], &[]));
    assert!(pushed.contains(&format!("layers: {build} (")), "{pushed}");
}

#[test]
fn a_plan_needs_no_registry() {
    let job = TestJob::image_of_spec(SPEC);

    let said = succeed(job.nixlayer(&["plan", "image.yaml"]));

    assert!(said.lines().last().unwrap().starts_with("layers: "), "{said}");
    assert!(said.contains("  build   jq-"), "{said}");
}

#[test]
fn a_store_path_is_explained_by_the_spec_and_by_the_image() {
    let registry = DockerRegistry::start(Auth::None);
    let job = job(&registry);
    let jq = environment().package("jq").to_string();

    let said = succeed(job.nixlayer(&["explain", "image.yaml", &format!("{jq}/bin/jq")]));
    assert!(said.contains(&format!("{jq}\n  size:   ")), "{said}");
    assert!(said.contains("  why:    `contents[1]` of the spec: jq-"), "{said}");
    assert!(said.contains("  users:  the spec alone"), "{said}");
    // What everything needs, by name; the shortest way is shown.
    let said = succeed(job.nixlayer(&["explain", "image.yaml", "glibc"]));
    assert!(said.contains("  why:    `contents[0]` of the spec: hello-2.10"), "{said}");

    succeed(job.build(&["image.yaml", "--to", &there(&registry)], &[]));
    let said = succeed(job.nixlayer(&["explain", &there(&registry), "jq"]));
    assert!(said.starts_with(&format!("{jq}\n  layer:  ")), "{said}");

    let error = failed(&job.nixlayer(&["explain", "image.yaml", "no-such-package"]));
    assert!(error.contains("no store path of `image.yaml` is `no-such-package`"), "{error}");
    let error = failed(&job.nixlayer(&["explain", &there(&registry).replace("latest", "no"), "jq"]));
    assert!(error.contains("there is no image"), "{error}");
}
