//! What a push costs when somebody has pushed much of the image before.

use std::fs;

use nixlayer::simulate::Status;
use serde_json::json;

use crate::support::TestJob;
use crate::support::signing_job::{
    SPEC, build, cache, freshen, plain, push, push_with, requests, sent, signing, signing_job, without_store,
};

#[test]
fn an_unchanged_image_is_three_requests_and_no_store_path_on_a_host_that_never_built_it() {
    let cache = cache();
    let job = without_store(signing_job(SPEC), &cache);
    build(&job, "latest");
    let (digest, before) = (job.tag("latest"), job.registry.log().len());
    freshen(&job);
    let downloads = cache.requests().len();

    let said = build(&job, "latest");

    assert_eq!(
        requests(&job, before),
        ["GET /v2/", "GET /jwt/auth", "GET /v2/team/app/manifests/latest"],
        "{said}"
    );
    assert_eq!((cache.requests().len(), job.tag("latest")), (downloads, digest));
    assert!(said.contains("layers: 0 (0 B) built, "), "{said}");
}

/// The time of the commit is in the image, so this one is another.
#[test]
fn a_new_commit_of_the_same_packages_is_eight_requests() {
    let cache = cache();
    let spec = SPEC.replace("created: epoch", "created: commit");
    let job =
        without_store(signing_job(&spec), &cache).variable("NIXLAYER_TAGS", "latest $CI_COMMIT_SHORT_SHA");
    assert_eq!(job.run_cleanly().status, Status::Success);
    let (before, downloads) = (job.registry.log().len(), cache.requests().len());
    freshen(&job);
    let job = job.file("README.md", "something else\n");

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    let asked = requests(&job, before);
    // `prepare` is a process of its own, and has asked for a token, too.
    let (prepare, push) = asked.split_at(2);
    assert_eq!(prepare, ["GET /v2/", "GET /jwt/auth"]);
    assert!(push.len() <= 8, "{push:?}");
    assert_eq!(cache.requests().len(), downloads);
    assert_eq!(job.tags().len(), 3, "{:?}", job.tags());
    assert!(outcome.trace.contains("layers: 0 (0 B) built"), "{}", outcome.trace);
}

#[test]
fn what_changed_is_all_that_is_made_and_sent() {
    let cache = cache();
    let job = without_store(signing_job(SPEC), &cache);
    build(&job, "latest");
    freshen(&job);
    let before = job.registry.log().len();
    let job = job.file("public/index.html", "changed\n");

    let said = build(&job, "latest");

    assert!(said.contains("layers: 1 ("), "{said}");
    assert_eq!(job.pushed("latest").root()["/srv/www/index.html"].text(), "changed\n");
    // Configuration, two manifests, one small layer.
    assert!(sent(&job.registry.log()[before..]) < 64 * 1024);
}

/// A change of anything that the last layer is made of makes another one, and back again the old one.
#[test]
fn every_part_of_the_last_layer_is_in_its_key() {
    let cache = cache();
    let job = without_store(signing_job(SPEC), &cache);
    build(&job, "latest");
    for (from, to) in [
        ("contents: [hello, jq]", "contents: [jq, hello]"),
        ("srv/hello", "srv/hi"),
        ("path: /srv/www", "path: /srv/web"),
        ("content: hi", "content: ho"),
        ("uid: 1000", "uid: 1001"),
        ("[tmp, usr-bin-env]", "[tmp]"),
        ("type: file, content: hi", "type: file, content: hi, mode: \"0600\""),
        ("type: file, content: hi", "type: file, content: hi, uid: 5"),
    ] {
        assert!(SPEC.contains(from));
        let job = &job;
        fs::write(job.place("project/image.yaml"), SPEC.replace(from, to)).unwrap();

        let said = build(job, "latest");

        assert!(said.contains("layers: 1 ("), "{to}: {said}");
        fs::write(job.place("project/image.yaml"), SPEC).unwrap();
        assert!(build(job, "latest").contains("layers: 0 (0 B) built"), "{to}");
    }
}

#[test]
fn layers_of_another_repository_are_mounted() {
    let cache = cache();
    let job = signing_job(&format!("{SPEC}layers: {{ reuseFrom: [\"$CI_REGISTRY_IMAGE/sub:latest\"] }}\n"));
    let job = without_store(job, &cache);
    push(&job, &format!("{}/team/app/sub:latest", job.registry_host), &[]);
    freshen(&job);
    let (before, downloads) = (job.registry.log().len(), cache.requests().len());

    let image = format!("{}/team/app", job.registry_host);
    let variables = [("CI_REGISTRY_IMAGE", image.as_str())];
    let said = push_with(&job, &format!("{image}:latest"), &[], &variables);

    assert_eq!(cache.requests().len(), downloads);
    assert!(said.contains("layers: 0 (0 B) built, 0 (0 B) reused, "), "{said}");
    assert!(said.contains(" mounted; 0 B sent"), "{said}");
    assert!(sent(&job.registry.log()[before..]) < 64 * 1024);
    assert_eq!(job.registry.open_uploads(), 0);
    assert_eq!(job.pushed("latest").root()["/srv/www/index.html"].text(), "hello\n");
}

/// GitLab's cleanup may take blobs between the look and the push.
#[test]
fn layers_that_the_registry_has_lost_are_made_again() {
    let spec = SPEC.replace("created: epoch", "created: now");
    let mut job = signing_job(&spec);
    job.start_registry_with(|settings| settings.loses_blobs_at_manifest(3));
    build(&job, "latest");

    let said = build(&job, "latest");

    assert!(said.contains("layers are there already"), "{said}");
    assert!(said.contains("the registry has lost "), "{said}");
    assert!(!said.contains("layers: 0 (0 B) built"), "{said}");
    assert_eq!(job.pushed("latest").root()["/srv/www/index.html"].text(), "hello\n");
}

/// With the image before at hand, what has not changed keeps its layers, though the closure is another.
#[test]
fn stable_layers_stay_where_they_are() {
    let spec = |contents: &str, strategy: &str| {
        format!(
            "name: s\ncontents: [{contents}]\ncreated: epoch\nlayers: {{ max: 12, strategy: {strategy} }}\n"
        )
    };
    let mut sent_by = Vec::new();
    for strategy in ["auto", "stable"] {
        let job = signing_job(&spec("hello, jq, curl", strategy));
        build(&job, "latest");
        fs::write(job.place("project/image.yaml"), spec("hello, jq, curl, moreutils", strategy)).unwrap();
        freshen(&job);
        let before = job.registry.log().len();

        build(&job, "latest");

        sent_by.push(sent(&job.registry.log()[before..]));
        let (before, digest) = (job.registry.log().len(), job.tag("latest"));
        freshen(&job);
        let said = build(&job, "latest");
        assert!(said.contains("layers: 0 (0 B) built"), "{said}");
        assert_eq!(job.tag("latest"), digest);
        // The history of the image is one more.
        assert_eq!(requests(&job, before).len(), if strategy == "stable" { 4 } else { 3 });
    }
    assert!(sent_by[1] < sent_by[0], "{sent_by:?}");
}

/// A host that has made the layers itself knows them, but the repository lacks them.
#[test]
fn a_host_mounts_the_layers_that_it_has_pushed_elsewhere() {
    let mut job =
        signing_job(&format!("{}layers: {{ reuseFrom: [\"$CI_REGISTRY_IMAGE/sub:latest\"] }}\n", plain()));
    job.admin["records"] = json!({});
    let image = format!("{}/team/app", job.registry_host);
    let variables = [("CI_REGISTRY_IMAGE", image.as_str())];
    push_with(&job, &format!("{image}/sub:latest"), &[], &variables);

    let said = push_with(&job, &format!("{image}:latest"), &[], &variables);

    assert!(said.contains(" mounted; 0 B sent"), "{said}");
    assert!(said.contains("layers: 0 (0 B) built, 0 (0 B) reused, "), "{said}");
}

/// With a default branch, whose image is one more to look at, if something is missing.
#[test]
fn an_unchanged_stable_image_is_four_requests() {
    let cache = cache();
    let spec = "name: s\ncontents: [hello, jq]\ncreated: epoch\nlayers: { max: 4, strategy: stable }\n";
    let job = without_store(signing_job(spec), &cache);
    build(&job, "latest");
    freshen(&job);
    let (before, downloads) = (job.registry.log().len(), cache.requests().len());

    let there = format!("{}/team/app:latest", job.registry_host);
    push_with(&job, &there, &[], &[("CI_DEFAULT_BRANCH", "main")]);

    let asked = requests(&job, before);
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert_eq!(cache.requests().len(), downloads);
}

/// No tag of the job's own names an image yet, but that of the default branch does.
#[test]
fn an_expression_takes_layers_of_the_default_branch_on_a_host_that_has_never_built_it() {
    let expression = "with import <nixpkgs> { };\n\
                      dockerTools.buildLayeredImage { name = \"near-MARK\"; tag = \"main\"; contents = [ hello ]; }\n";
    let job = signing(TestJob::image_of_expression(expression));
    assert_eq!(job.run_cleanly().status, Status::Success);
    freshen(&job);
    let job = job.variable("NIXLAYER_TAGS", "$CI_COMMIT_SHORT_SHA").file("README.md", "something else\n");

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert!(outcome.trace.contains("layers: 0 (0 B) built, "), "{}", outcome.trace);
}
