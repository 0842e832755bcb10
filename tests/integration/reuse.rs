//! What a push costs when somebody has pushed much of the image before.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;

use nixlayer::http::{Http, HttpSettings};
use nixlayer::oci::{Digest, Repository};
use nixlayer::publish::{Credentials, ManifestReference, Registry};
use nixlayer::secret::Secret;
use nixlayer::simulate::Status;
use nixlayer::simulate::registry::Logged;
use serde_json::{Value, json};

use crate::support::{CacheServer, Packages, TOKEN, TestJob, environment, exit_code, succeed};

/// Everything that a last layer can be made of, and packages.
const SPEC: &str = "\
name: app
contents: [hello, jq]
extraCommands: |
  mkdir -p srv && ln -s ${pkgs.hello}/bin/hello srv/hello
paths:
  - { path: /srv/www, type: copy, source: public }
  - { path: /etc/motd, type: file, content: hi }
accounts: { users: [{ name: app, uid: 1000 }] }
presets: [tmp, usr-bin-env]
created: epoch
";

/// The same without commands, of whose layer a host keeps no record where builders can write to its store.
fn plain() -> String {
    let (before, rest) = SPEC.split_once("extraCommands").unwrap();
    before.to_owned() + &rest[rest.find("paths:").unwrap()..]
}

/// A job on a host that signs what it pushes.
fn signing_job(spec: &str) -> TestJob {
    signing(TestJob::image_of_spec(spec).file("public/index.html", "hello\n"))
}

/// The same job on a host that signs what it pushes.
fn signing(mut job: TestJob) -> TestJob {
    fs::create_dir(job.place("keys")).unwrap();
    keygen(&job, "runner-1");
    sign(&mut job, "runner-1");
    job
}

/// Locks the job's spec, and makes its host one whose store paths come from `cache` alone.
fn without_store(mut job: TestJob, cache: &CacheServer) -> TestJob {
    succeed(job.nixlayer(&["lock"]));
    job.admin["caches"] = json!({ cache.url(): {} });
    job.admin["nix"]["programs"] = json!("/nowhere");
    job
}

fn key_file(job: &TestJob, name: &str) -> PathBuf {
    job.place("keys").join(name)
}

/// Makes a key of this name, and gives its public half.
fn keygen(job: &TestJob, name: &str) -> String {
    succeed(job.nixlayer(&["keygen", name, key_file(job, name).to_str().unwrap()])).trim_end().to_owned()
}

fn sign(job: &mut TestJob, name: &str) {
    job.admin["records"] = json!({ "key_file": key_file(job, name) });
}

/// Makes the host one that has never built anything.
fn freshen(job: &TestJob) {
    fs::remove_dir_all(job.place("state")).unwrap();
}

fn cache() -> CacheServer {
    CacheServer::start(&environment().cache_small)
}

fn build(job: &TestJob, tag: &str) -> String {
    build_with(job, tag, &[])
}

fn build_with(job: &TestJob, tag: &str, arguments: &[&str]) -> String {
    push(job, &format!("{}/team/app:{tag}", job.registry_host), arguments)
}

fn push(job: &TestJob, to: &str, arguments: &[&str]) -> String {
    push_with(job, to, arguments, &[])
}

fn push_with(job: &TestJob, to: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    succeed(try_push(job, to, arguments, variables))
}

fn try_push(job: &TestJob, to: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let login = job.login_file();
    let variables = [variables, &[("REGISTRY_AUTH_FILE", login.as_str())]].concat();
    job.build(&[&["image.yaml", "--to", to], arguments].concat(), &variables)
}

/// The requests since `before`, each as method and path.
fn requests(job: &TestJob, before: usize) -> Vec<String> {
    job.registry.log()[before..]
        .iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect()
}

fn sent(log: &[Logged]) -> usize {
    log.iter().map(|request| request.body).sum()
}

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

/// Without a key, what this host has made itself still counts.
#[test]
fn a_host_without_a_key_remembers_its_own_layers() {
    let cache = cache();
    let mut job = without_store(signing_job(SPEC), &cache);
    job.admin["records"] = json!({});
    build(&job, "latest");
    let (before, downloads) = (job.registry.log().len(), cache.requests().len());

    build(&job, "latest");

    assert_eq!(requests(&job, before).len(), 3);
    assert_eq!(cache.requests().len(), downloads);

    // On another host there is nobody whose word counts, and the log says so.
    freshen(&job);
    let said = build(&job, "latest");
    let line = format!(
        "the layer records of `{}/team/app:latest` are not used: they are not signed; hosts that are to believe each other need \
         keys (`nixlayer keygen`)",
        job.registry_host
    );
    assert!(said.contains(&line), "{said}");
    assert!(cache.requests().len() > downloads);
}

/// Records that are lost, cut short or older than the image cost a push its speed, never its truth.
#[test]
fn a_record_of_the_host_that_is_broken_is_made_again() {
    let mut job = signing_job(&plain());
    job.admin["records"] = json!({});
    build(&job, "latest");
    let digest = job.tag("latest");
    for folder in fs::read_dir(job.place("state/records")).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            let file = fs::OpenOptions::new().write(true).open(file.unwrap().path()).unwrap();
            file.set_len(100).unwrap();
        }
    }

    let said = build(&job, "latest");

    assert!(!said.contains("layers: 0 (0 B) built"), "{said}");
    assert_eq!(job.tag("latest"), digest);
    assert!(build(&job, "latest").contains("layers: 0 (0 B) built"));
}

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

const SIGNATURE: &str = "dev.nixlayer.records.signature";

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

#[test]
fn verifying_makes_every_layer_and_finds_a_wrong_record() {
    let job = signing_job(&plain());
    build(&job, "latest");
    let verified = build_with(&job, "latest", &["--verify-layers"]);
    assert!(verified.contains(", 0 (0 B) reused; 0 B sent"), "{verified}");

    // A record as this host would write it, of other bytes than it makes.
    let (file, mut words) = a_record_of_the_host(&job);
    falsify(&file, &mut words);

    let failed = try_push(&job, &format!("{}/team/app:other", job.registry_host), &["--verify-layers"], &[]);

    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains(&format!("and the record of this host says `{}`", words[2])), "{said}");
    assert_eq!(job.tag("other"), None);
}

#[test]
fn where_jobs_could_read_the_key_it_is_not_loaded() {
    let mut job = signing_job(SPEC);
    job.admin["sandbox"] = json!("none");

    let said = build(&job, "latest");

    assert!(
        said.contains("layer records are not signed: with `sandbox: none`, jobs could read the key"),
        "{said}"
    );
    assert!(
        !String::from_utf8_lossy(&job.registry.manifest("team/app", "latest").unwrap()).contains(SIGNATURE)
    );
    assert!(!job.place("state/records").exists());
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let mut job = signing_job(SPEC);
    fs::set_permissions(key_file(&job, "runner-1"), fs::Permissions::from_mode(0o640)).unwrap();
    let failed = try_push(&job, &format!("{}/team/app:latest", job.registry_host), &[], &[]);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        said.contains("cause: others can read it, or own it\n  fix:   make it the runner's user's own"),
        "{said}"
    );

    // In a job, before anything else is done.
    let outcome = job.run();
    assert_eq!(exit_code(&outcome, "prepare"), Some(42), "{}", outcome.trace);

    fs::set_permissions(key_file(&job, "runner-1"), fs::Permissions::from_mode(0o600)).unwrap();
    job.admin["scripts"] = json!({ "read_only": [job.place("keys")] });
    let failed = try_push(&job, &format!("{}/team/app:latest", job.registry_host), &[], &[]);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("cause: jobs can read it there"), "{said}");
}

#[test]
fn a_key_is_made_once_and_is_its_owners() {
    let job = signing_job(SPEC);
    let file = key_file(&job, "runner-1");
    let secret = fs::read_to_string(&file).unwrap();

    let again = job.nixlayer(&["keygen", "runner-1", file.to_str().unwrap()]);

    assert!(!again.status.success());
    assert_eq!(fs::read_to_string(&file).unwrap(), secret);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(secret.starts_with("runner-1:"));
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

/// The record under the key of a store layer of `job`'s host, as a file, and its words.
fn a_record_of_the_host(job: &TestJob) -> (PathBuf, Vec<String>) {
    let folder = fs::read_dir(job.place("state/records")).unwrap().next().unwrap().unwrap().path();
    let file = fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&file).unwrap();
    let words = text.lines().next().unwrap().split(' ').map(str::to_owned).collect();
    (file, words)
}

/// Makes a record of the host say that the layer is another blob.
fn falsify(file: &std::path::Path, words: &mut [String]) {
    words[2] = Digest::of(b"other").to_string();
    let line = words.join(" ");
    fs::write(file, format!("{line}\n{}\n", Digest::of(line.as_bytes()))).unwrap();
}

#[test]
fn a_registry_that_says_otherwise_than_this_host_is_not_believed() {
    let job = signing_job(&plain());
    build(&job, "latest");
    let digest = job.tag("latest");
    let (file, mut words) = a_record_of_the_host(&job);
    falsify(&file, &mut words);

    let said = build(&job, "latest");

    let reason = format!("are not used: this host has made another layer of `{}`", words[0]);
    assert!(said.contains(&reason), "{said}");
    // What the host knew of that layer is nowhere, so it was made again.
    assert!(said.contains("layers: 1 ("), "{said}");
    assert_eq!(job.tag("latest"), digest);
}

#[test]
fn verifying_finds_a_false_record_that_a_trusted_key_has_signed() {
    let mut job = signing_job(&plain());
    let public = keygen(&job, "runner-2");
    // A host whose store or program is broken: it believes a false record of its own, and signs it.
    sign(&mut job, "runner-2");
    build(&job, "good");
    let (file, mut words) = a_record_of_the_host(&job);
    falsify(&file, &mut words);
    let failed = try_push(&job, &format!("{}/team/app:x", job.registry_host), &["--verify-layers"], &[]);
    assert!(!failed.status.success());
    // The record that was wrong is right now.
    assert!(build_with(&job, "x", &["--verify-layers"]).contains("0 B sent"));

    freshen(&job);
    job.admin["records"] = json!({ "key_file": key_file(&job, "runner-1"), "public_keys": [public] });
    assert!(build_with(&job, "good", &["--verify-layers"]).contains(", 0 (0 B) reused; "));
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

/// A builder that can write to the store, or a bad disk, must not get a layer signed that is not what its key says.
#[test]
fn a_store_path_that_is_not_what_its_hash_says_makes_no_layer() {
    let packages = Packages::new();
    let package = packages.add("tampered", |path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("file"), "honest\n").unwrap();
    });
    let job = signing_job(&format!("name: t\ncontents: [{package}]\ncreated: epoch\n"));
    let file = package.to_path_buf().join("file");
    let write = |text: &str| {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    };
    let there = format!("{}/team/app:latest", job.registry_host);
    write("hostile\n");

    let failed = try_push(&job, &there, &[], &[]);

    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains(&format!("`{package}` on this host has a NAR of the hash `sha256:")), "{said}");
    assert!(said.contains(&format!("nix-store --repair-path {package}")), "{said}");
    assert_eq!(job.tag("latest"), None);

    write("honest\n");
    let said = push_with(&job, &there, &[], &[]);
    let layer = said.lines().find(|line| line.starts_with("layer   1 ")).unwrap_or_default();
    assert!(layer.contains("  new  "), "it is recorded: {said}");
}

/// Commands run with programs that other builders may have changed.
#[test]
fn what_commands_make_is_not_recorded_where_builders_can_write_to_the_store() {
    let job = signing_job(SPEC);
    build(&job, "latest");

    let said = build(&job, "latest");

    assert!(said.contains("layers: 1 ("), "{said}");
    assert!(said.contains("there   files of the image itself"), "{said}");
    let manifest: Value =
        serde_json::from_slice(&job.registry.manifest("team/app", "latest").unwrap()).unwrap();
    let (last, others) = manifest["layers"].as_array().unwrap().split_last().unwrap();
    let recorded = |layer: &Value| layer["annotations"]["dev.nixlayer.layer.key"].is_string();
    assert!(!recorded(last) && others.iter().all(recorded));
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
