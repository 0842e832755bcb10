//! Images of real packages: they run, they hold the store's bytes, and they are the same every time.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nixlayer::simulate::Status;
use serde_json::{Value, json};

use crate::support::{Image, Kind, Member, TestJob, UnpackedImage, closure_of, environment, skopeo, succeed};

#[test]
fn seed_image_runs_from_where_the_job_pushed_it() {
    let job = TestJob::example("k8s-deployer").variable("NIXLAYER_TAGS", "latest $CI_COMMIT_SHORT_SHA");

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    let there = format!("docker://{}/team/app:latest", job.registry_host);
    let seen: Value =
        serde_json::from_str(&succeed(skopeo(&["inspect", "--tls-verify=false", &there]))).unwrap();
    let commit = seen["Labels"]["org.opencontainers.image.revision"].as_str().unwrap();
    assert_eq!(job.tags(), [format!("team/app:{}", &commit[..8]), "team/app:latest".to_owned()]);
    assert_report(&job, &seen, commit);

    let layout = job.place("layout");
    let copy = format!("oci:{}:latest", layout.display());
    succeed(skopeo(&["copy", "--src-tls-verify=false", &there, &copy]));
    let image = UnpackedImage::from_layout(&layout, "latest");
    for (words, expected) in [
        (&["/bin/kubectl", "version", "--client"][..], "Client Version"),
        (&["/bin/jq", "--version"], "jq-1."),
        (&["/bin/git", "--version"], "git version 2."),
        (&["/bin/python3", "-c", "print(1)"], "1\n"),
        (&["/usr/bin/env", "bash", "-c", "echo $0 in $PWD; stat -c %a /tmp"], "bash in /\n1777\n"),
        (&["/bin/curl", "--version"], "curl 7."),
        (&["/bin/yq", "--version"], "yq "),
    ] {
        let said = succeed(image.run(words));
        assert!(said.starts_with(expected), "{words:?}: {said}");
    }
    assert_eq!(job.pushed("latest").root()["/tmp"].mode, 0o1777);
}

/// What the job leaves for later jobs and for people, given what skopeo sees in the registry.
fn assert_report(job: &TestJob, seen: &Value, commit: &str) {
    let report = |file: &str| job.artifact(&format!("nixlayer-report/{file}")).unwrap();
    let digest = seen["Digest"].as_str().unwrap();
    let repository = seen["Name"].as_str().unwrap();
    let (host, _) = repository.split_once('/').unwrap();

    assert_eq!(
        report("image.env"),
        format!(
            "NIXLAYER_IMAGE={repository}\nNIXLAYER_DIGEST={digest}\nNIXLAYER_REF={repository}@{digest}\nNIXLAYER_TAG=latest\n"
        )
    );
    let image: Value = serde_json::from_str(&report("image.json")).unwrap();
    assert_eq!(
        image,
        json!({
            "repository": repository,
            "digest": digest,
            "reference": format!("{repository}@{digest}"),
            "tags": ["latest", &commit[..8]],
            "project": "team/app",
            "commit": commit,
            "ref": "main",
            "job": { "id": 7, "url": format!("http://{host}/team/app/-/jobs/7") },
            "pipeline": { "id": "1", "url": format!("http://{host}/team/app/-/pipelines/1") },
        })
    );
    let annotations: Value = serde_json::from_str(&report("annotations.json")).unwrap();
    let link = &annotations["Image"][0]["external_link"];
    assert_eq!(link["url"], format!("http://{host}/team/app/container_registry"));
    assert!(link["label"].as_str().unwrap().starts_with(&format!("{repository}:latest ")), "{link}");
}

#[test]
fn layers_hold_the_closure_as_it_is_in_the_store_and_nothing_else() {
    let contents = ["curl", "jq", "bash", "coreutils", "ca-certificates", "hello"];
    let packages = contents.map(|name| environment().package(name).to_string());
    let spec = format!("name: small\ncontents: [{}]\n", contents.join(", "));
    let job = TestJob::image_of_spec(&spec);

    succeed(job.build(&["image.yaml", "--to", "oci:layout"], &[]));

    let image = Image::from_layout(&job.place("project/layout"), "latest");
    let closure = closure_of(&packages);
    assert_eq!(image.store_paths(), closure, "each path is in one layer");
    let (root, store) = image.layers.split_last().unwrap();
    let mut expected = BTreeMap::new();
    for path in &closure {
        walk(Path::new(path), &mut expected);
    }
    for layer in store {
        let (tops, members) = layer.split_at(2);
        for (top, path) in tops.iter().zip(["/nix", "/nix/store"]) {
            assert_eq!(
                *top,
                (path.to_owned(), Member { mode: 0o755, owner: (0, 0), mtime: 1, kind: Kind::Folder })
            );
        }
        for (path, member) in members {
            assert_eq!(Some(member), expected.remove(path).as_ref(), "{path}");
        }
    }
    assert_eq!(expected.keys().next(), None, "every file of the closure is in the image");
    let root: BTreeMap<_, _> = root.iter().cloned().collect();
    assert_eq!(root, merged(&packages));
}

/// What the store holds at `path` and below, with the one mtime and owner that layers have.
fn walk(path: &Path, found: &mut BTreeMap<String, Member>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let (mode, kind) = if metadata.is_symlink() {
        (0o777, Kind::Link(fs::read_link(path).unwrap().to_str().unwrap().to_owned()))
    } else if metadata.is_dir() {
        for member in fs::read_dir(path).unwrap() {
            walk(&member.unwrap().path(), found);
        }
        (0o555, Kind::Folder)
    } else {
        let mode = metadata.permissions().mode() & 0o7777;
        assert!(mode == 0o444 || mode == 0o555, "{} has the mode {mode:o}", path.display());
        (mode, Kind::File(fs::read(path).unwrap()))
    };
    found.insert(path.to_str().unwrap().to_owned(), Member { mode, owner: (0, 0), mtime: 1, kind });
}

/// The last layer of an image of `packages` alone: real folders, and links to what is in them. The first package wins.
fn merged(packages: &[String]) -> BTreeMap<String, Member> {
    let mut tree = BTreeMap::new();
    for package in packages {
        let mut inside = BTreeMap::new();
        walk(Path::new(package), &mut inside);
        inside.remove(package);
        for (path, member) in inside {
            let (mode, kind) = match member.kind {
                Kind::Folder => (0o755, Kind::Folder),
                Kind::File(_) | Kind::Link(_) => (0o777, Kind::Link(path.clone())),
            };
            let place = path.strip_prefix(package.as_str()).unwrap().to_owned();
            tree.entry(place).or_insert(Member { mode, owner: (0, 0), mtime: 1, kind });
        }
    }
    tree
}

#[test]
fn same_spec_makes_the_same_layers_whatever_the_machine_does() {
    let spec = |created: &str| {
        format!(
            "name: same\ncontents: [jq, bash]\ncreated: {created}\npresets: [tmp]\nextraCommands: |\n  \
             mkdir -p srv; pwd > srv/folder; echo text > srv/file; touch srv/empty; ln -s file srv/link\n"
        )
    };
    let mut job = TestJob::image_of_spec(&spec("epoch")).file("now.yaml", &spec("now"));
    let mut build = |threads: usize, uploads: usize, spec: &str, variables: &[(&str, &str)]| {
        job.admin["limits"] = json!({ "threads": threads, "uploads": uploads });
        let layout = format!("{spec}-{threads}");
        let output = job.build(&[spec, "--to", &format!("oci:{layout}")], variables);
        let said = succeed(output);
        let digest = said.lines().find_map(|line| line.strip_prefix("digest: ")).unwrap();
        (digest.to_owned(), Image::from_layout(&job.place("project").join(layout), "latest"))
    };

    let elsewhere = [("TZ", "Asia/Tokyo"), ("LANG", "C"), ("LC_ALL", "tr_TR.UTF-8"), ("USER", "somebody")];
    let (now_1, image_1) = build(1, 1, "now.yaml", &[]);
    let (now_2, image_2) = build(2, 4, "now.yaml", &elsewhere);
    let (epoch_1, image_3) = build(1, 1, "image.yaml", &[]);
    let (epoch_2, _) = build(2, 4, "image.yaml", &elsewhere);

    assert_ne!(now_1, now_2, "each says when it was made");
    assert_ne!(image_1.configuration["created"], image_2.configuration["created"]);
    assert_eq!(image_1.layer_digests(), image_2.layer_digests());
    assert_eq!(image_1.layer_digests(), image_3.layer_digests());
    assert_eq!(epoch_1, epoch_2);
    assert_eq!(image_3.configuration["created"], "1970-01-01T00:00:00Z");
}
