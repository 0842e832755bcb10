//! Whose layer records a host believes, and which stay beside an image.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use nixlayer::http::{Http, HttpSettings};
use nixlayer::oci::Repository;
use nixlayer::publish::{Credentials, ManifestReference, Registry};
use nixlayer::secret::Secret;
use serde_json::{Value, json};

use crate::support::signing_job::{
    SIGNATURE, SPEC, build, build_with, freshen, keygen, plain, push, sign, signing_job,
};
use crate::support::{TOKEN, TestJob};

/// Two hosts that do not know each other push the same image by turns.
#[test]
fn a_tag_does_not_move_for_the_sake_of_another_signature() {
    let mut job = signing_job(&plain());
    keygen(&job, "runner-2");
    build(&job, "latest");
    let digest = job.tag("latest");
    for name in ["runner-2", "runner-1", "runner-2"] {
        freshen(&job);
        sign(&mut job, name);

        let said = build(&job, "latest");

        assert_eq!(job.tag("latest"), digest, "{name}");
        assert!(said.contains(&format!("digest: {}", digest.unwrap())), "{said}");
        let stranger = said.contains("are not used: their key `runner-1` is not trusted here");
        assert_eq!(stranger, name == "runner-2", "{said}");
    }
}

#[test]
fn a_host_believes_the_keys_that_its_admin_names() {
    let mut job = signing_job(&plain());
    let public = keygen(&job, "runner-2");
    sign(&mut job, "runner-2");
    build(&job, "latest");
    freshen(&job);
    job.admin["records"] = json!({ "public_keys": [public] });

    assert!(build(&job, "latest").contains("layers: 0 (0 B) built"));
}

/// Puts another manifest under a tag, as somebody can who may push to the project.
fn forge(job: &TestJob, from: &str, to: &str, change: impl FnOnce(&mut Value)) {
    let mut manifest: Value =
        serde_json::from_slice(&job.registry.manifest("team/app", from).unwrap()).unwrap();
    change(&mut manifest);
    let plain_http = [job.registry_host.clone()].into();
    let http = Arc::new(Http::new(HttpSettings { plain_http, ..HttpSettings::default() }).unwrap());
    let credentials =
        Credentials::Password { user: "gitlab-ci-token".to_owned(), password: Secret::from(TOKEN) };
    let registry = Registry::new(http, &job.registry_host, credentials, BTreeSet::new());
    let repository: Repository = format!("{}/team/app", job.registry_host).parse().unwrap();
    let bytes = serde_json::to_vec(&manifest).unwrap().into();
    let reference = ManifestReference::Tag(to.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(registry.put_manifest(&repository, &reference, bytes)).unwrap();
}

/// What the log then says, and what was done to a manifest.
type Forgery = (&'static str, fn(&mut Value));

/// Somebody else's layer under the key of ours.
fn swap(manifest: &mut Value) {
    let other = manifest["layers"][1].clone();
    for part in ["digest", "size"] {
        manifest["layers"][0][part] = other[part].clone();
    }
}

#[test]
fn forged_records_are_not_used() {
    let job = signing_job(&plain());
    build(&job, "good");
    let expected =
        job.pushed("good").layer_digests().iter().map(|digest| (*digest).to_owned()).collect::<Vec<_>>();
    let forgeries: [Forgery; 4] = [
        ("they are not what `runner-1` has signed for this repository", swap),
        ("they are not signed", |manifest| {
            swap(manifest);
            manifest["annotations"].as_object_mut().unwrap().remove(SIGNATURE);
        }),
        ("their signature is none", |manifest| {
            swap(manifest);
            manifest["annotations"][SIGNATURE] = json!("x");
        }),
        ("their key `evil` is not trusted here", |manifest| {
            swap(manifest);
            let signature = manifest["annotations"][SIGNATURE].as_str().unwrap().replace("runner-1", "evil");
            manifest["annotations"][SIGNATURE] = json!(signature);
        }),
    ];
    for (reason, change) in forgeries {
        forge(&job, "good", "bad", change);
        freshen(&job);

        let said = build_with(&job, "bad", &[]);

        assert!(said.contains(reason), "{reason}: {said}");
        assert_eq!(job.pushed("bad").layer_digests(), expected, "{reason}");
    }
}

/// A manifest that was signed for another repository says nothing here, though it is whole.
#[test]
fn records_are_for_the_repository_that_they_were_signed_for() {
    let spec = format!("{SPEC}layers: {{ reuseFrom: [] }}\n");
    let job = signing_job(&spec);
    let there = format!("{}/team/app/sub:latest", job.registry_host);
    push(&job, &there, &[]);
    let manifest = job.registry.manifest("team/app/sub", "latest").unwrap();
    build(&job, "latest");
    forge(&job, "latest", "latest", |here| *here = serde_json::from_slice(&manifest).unwrap());
    freshen(&job);

    let said = build(&job, "latest");

    assert!(
        said.contains("are not used: they are not what `runner-1` has signed for this repository"),
        "{said}"
    );
}

/// Whichever tag comes first, and whoever's records stand there.
#[test]
fn the_order_of_tags_moves_none_of_them() {
    let mut job = signing_job(&plain());
    keygen(&job, "runner-2");
    build(&job, "latest");
    let digest = job.tag("latest");
    sign(&mut job, "runner-2");
    let spec = format!("{}tags: [v1, latest]\n", plain());
    fs::write(job.place("project/image.yaml"), spec).unwrap();
    let repository = format!("{}/team/app", job.registry_host);
    // Once with what this host has made, and once on a fresh one.
    push(&job, &repository, &[]);
    freshen(&job);
    push(&job, &repository, &[]);

    assert_eq!((job.tag("latest"), job.tag("v1")), (digest, digest));
}

/// An image from before there was a key gets records that others believe, and keeps them.
#[test]
fn records_that_nobody_has_signed_give_way_to_signed_ones() {
    let mut job = signing_job(&plain());
    job.admin["records"] = json!({});
    build(&job, "latest");
    sign(&mut job, "runner-1");
    build(&job, "latest");
    let signed = job.tag("latest");
    freshen(&job);

    assert!(build(&job, "latest").contains("layers: 0 (0 B) built"));
    job.admin["records"] = json!({});
    build(&job, "latest");
    assert_eq!(job.tag("latest"), signed);
}
