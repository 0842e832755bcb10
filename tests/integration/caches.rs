//! Images of what real Nix put into real binary caches, on hosts that have neither Nix nor a store.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use nixlayer::http::{Http, HttpSettings};
use nixlayer::layer::{StoreLayer, StoreMetadata};
use nixlayer::nix::{Closure, StorePath, dump_db};
use nixlayer::oci::Hasher;
use nixlayer::simulate::Status;
use nixlayer::source::StorePaths;
use nixlayer::source::binary_cache::{BinaryCaches, CachePlace, CacheSettings, RequireSignatures};
use serde_json::{Value, json};

use crate::support::{
    BinaryCache, CacheServer, Fault, Image, Packages, StaticServer, TestJob, closure_of, environment, nix,
    succeed,
};

/// The program in a mount namespace in which `/nix` is an empty folder.
fn without_store() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs none /nix && exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_nixlayer"));
    command
}

/// The driver of a job in such a namespace.
const HIDDEN_STORE: &str = "exec unshare --mount sh -c 'mount -t tmpfs none /nix && exec \"$@\"' sh \"$@\"";

/// A folder with links to the programs of this machine, but for Nix's.
fn programs_without_nix(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for program in ["/usr/bin", "/bin"].iter().flat_map(|folder| fs::read_dir(folder).unwrap()) {
        let program = program.unwrap();
        let name = program.file_name();
        if !name.to_string_lossy().starts_with("nix") {
            // `/bin` may be `/usr/bin`.
            let _ = symlink(program.path(), folder.join(name));
        }
    }
}

/// Makes the machine of `job` one without Nix, which downloads from `url`.
fn hide_nix(job: &mut TestJob, url: &str) {
    let programs = job.place("programs");
    programs_without_nix(&programs);
    job.admin["scripts"] = json!({ "path": programs, "read_only": [programs] });
    job.admin["caches"] = json!({ url: {} });
    job.admin["limits"] = json!({ "patience": 5 });
}

fn digest_in(output: Output) -> String {
    let said = succeed(output);
    said.lines().find_map(|line| line.strip_prefix("digest: ")).unwrap_or_else(|| panic!("{said}")).to_owned()
}

fn failed(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with a link, an executable, and names that sort and count in special ways.
fn write_oddities(folder: &Path) {
    fs::create_dir_all(folder.join("share/a")).unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    for (name, text) in [
        ("share/a/f", "1\n"),
        ("share/a-b", "2\n"),
        ("share/a.c", "3\n"),
        ("é ü.txt", ""),
        ("run", "#!/bin/sh\n"),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    let deep = folder.join("n".repeat(80)).join("m".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("README"), "x".repeat(70_000)).unwrap();
    fs::set_permissions(folder.join("run"), Permissions::from_mode(0o755)).unwrap();
    symlink("share/a.c", folder.join("link")).unwrap();
}

#[test]
fn layers_from_a_cache_are_those_from_the_store_for_every_path_of_the_set() {
    let environment = environment();
    let paths = closure_of(&environment.seed);
    let dump = succeed(nix("nix-store").arg("--dump-db").args(&paths).output().unwrap());
    let closure = Closure::new(dump_db::parse(&dump).unwrap()).unwrap();
    let folder =
        cap_std::fs::Dir::open_ambient_dir(&environment.cache_seed, cap_std::ambient_authority()).unwrap();
    let cache = CacheSettings {
        name: "seed".to_owned(),
        place: CachePlace::Folder(Arc::new(folder)),
        public_keys: vec![environment.cache_public_key.parse().unwrap()],
        priority: None,
        authorization: None,
    };
    let http = Arc::new(Http::new(HttpSettings::default()).unwrap());
    let caches = Arc::new(BinaryCaches::new(http, vec![cache], RequireSignatures::Always));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let all: Vec<StorePath> = closure.paths().cloned().collect();
    let layers = |store: &StorePaths| -> Vec<(StorePath, String)> {
        let layers = store.upcoming(&all).map(|tree| {
            let path = tree.path();
            let mut layer = StoreLayer::new(Hasher::default(), StoreMetadata::default()).unwrap();
            tree.read(|entry| layer.append(path, entry)).unwrap();
            (path.clone(), layer.finish().unwrap().diff_id().to_string())
        });
        layers.collect()
    };

    let from_store = layers(&StorePaths::of_host(&closure));
    let from_cache = layers(&StorePaths::new(&closure, Default::default(), Some(caches)));

    assert_eq!(from_store.len(), paths.len());
    assert_eq!(from_cache, from_store);
}

#[test]
fn images_are_the_same_from_every_compression() {
    let packages = Packages::new();
    let odd = packages.add("odd", write_oddities);
    let file = packages.add("file", |path| fs::write(path, "alone\n").unwrap());
    let mut job =
        TestJob::image_of_spec(&format!("name: odd\ncontents: [{odd}]\nconfig: {{ Env: [\"F={file}\"] }}\n"));
    succeed(job.nixlayer(&["lock"]));
    let expected = digest_in(job.build(&["image.yaml", "--no-lock", "--to", "oci:expected"], &[]));

    for compression in ["none", "zstd", "gzip", "bzip2", "xz", "br"] {
        let cache = BinaryCache::of([&odd], compression);
        job.admin["caches"] = json!({ cache.file_url(): {} });
        let arguments = ["build", "image.yaml", "--to", &format!("oci:{compression}")];

        let digest = digest_in(job.nixlayer_in(without_store(), &arguments, &[]));

        assert_eq!(digest, expected, "{compression}");
    }
}

const SEED: &str = "\
name: seed
contents: [kubectl, jq, yq, bash, coreutils, python3, moreutils, git, cacert, curl]
presets: [tmp, usr-bin-env, ca-certificates]
config: { Cmd: [/bin/bash], WorkingDir: / }
tags: [latest]
";

#[test]
fn the_seed_image_needs_no_nix_and_is_the_same() {
    let mut job = TestJob::image_of_spec(SEED);
    succeed(job.nixlayer(&["lock"]));
    let expected = digest_in(job.build(&["image.yaml", "--no-lock", "--to", "oci:expected"], &[]));
    let server = StaticServer::start(&environment().cache_seed);
    hide_nix(&mut job, &server.url());

    let digest =
        digest_in(job.nixlayer_in(without_store(), &["build", "image.yaml", "--to", "oci:image"], &[]));

    assert_eq!(digest, expected);
    let image = Image::from_layout(&job.place("project/image"), "latest");
    assert_eq!(image.root()["/bin/jq"].target(), format!("{}/bin/jq", environment().package("jq")));

    // The same as a job, whose every stage sees no store and no Nix.
    let job = job.wrapper(HIDDEN_STORE);
    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert!(outcome.trace.contains("74 of 74 store paths come from binary caches"), "{}", outcome.trace);
    assert_eq!(job.pushed("latest").layer_digests(), image.layer_digests());
}

#[test]
fn commands_get_a_store_of_their_own_and_see_in_it_what_nix_would_show() {
    let spec = "name: c\ncontents: [hello]\nextraCommands: |\n  \
                mkdir srv; cd srv; cp -r ${pkgs.jq}/bin copied\n  \
                cd /nix/store; stat --format '%n %a %Y %F' * *-jq-*/* *-jq-*/bin/* > /tmp/image/srv/seen\n";
    let mut job = TestJob::image_of_spec(spec);
    succeed(job.nixlayer(&["lock"]));
    let expected = digest_in(job.build(&["image.yaml", "--no-lock", "--to", "oci:expected"], &[]));
    hide_nix(&mut job, &format!("file://{}", environment().cache_seed.display()));

    let digest =
        digest_in(job.nixlayer_in(without_store(), &["build", "image.yaml", "--to", "oci:image"], &[]));

    assert_eq!(digest, expected);
    let image = Image::from_layout(&job.place("project/image"), "latest");
    assert!(
        image.root()["/srv/seen"].text().contains("/bin/jq 555 1 regular file\n"),
        "{}",
        image.root()["/srv/seen"].text()
    );
    assert_eq!(fs::read_dir(job.place("tmp")).unwrap().count(), 0, "the scratch store is gone");

    // In a job it lies among what the job leaves, and `cleanup` removes it.
    let job = job.wrapper(HIDDEN_STORE);
    let outcome = job.run_cleanly();
    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert_eq!(job.pushed("latest").layer_digests(), image.layer_digests());
}

#[test]
fn a_job_that_waits_for_a_cache_can_be_cancelled() {
    let mut job = TestJob::image_of_spec("name: h\ncontents: [hello]\n");
    succeed(job.nixlayer(&["lock"]));
    // Two, so that there is one to turn to when the first one's download ends.
    let servers = [(); 2].map(|()| CacheServer::start(&environment().cache_small));
    servers.iter().for_each(|server| server.fault(".nar.zst", Fault::Hang, 20));
    hide_nix(&mut job, &servers[0].url());
    job.admin["caches"][servers[1].url()] = json!({});
    let job = job.wrapper(HIDDEN_STORE);

    let outcome = job.run_cancelled_at("store paths come from binary caches");

    assert!(!outcome.trace.contains("panicked"), "{}", outcome.trace);
    assert_eq!((outcome.cleanup_log.as_str(), job.tags()), ("", vec![]));
    job.assert_nothing_left();
}

/// A user without any right to namespaces, on a machine without a store.
fn without_namespaces() -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-user", "--disable-userns", "--dev-bind", "/", "/", "--tmpfs", "/nix", "--"]);
    command.arg(env!("CARGO_BIN_EXE_nixlayer"));
    command
}

#[test]
fn a_host_without_namespaces_builds_what_has_no_commands() {
    let mut job = TestJob::image_of_spec("name: n\ncontents: [hello]\npresets: [tmp, bin-sh]\n");
    succeed(job.nixlayer(&["lock"]));
    let expected = digest_in(job.build(&["image.yaml", "--no-lock", "--to", "oci:expected"], &[]));
    let server = CacheServer::start(&environment().cache_small);
    hide_nix(&mut job, &server.url());

    let build = |job: &TestJob| {
        job.nixlayer_in(without_namespaces(), &["build", "image.yaml", "--to", "oci:image"], &[])
    };
    assert_eq!(digest_in(build(&job)), expected);
}

#[test]
fn commands_without_namespaces_fail_before_anything_is_downloaded() {
    let mut job = TestJob::image_of_spec("name: n\ncontents: [hello]\nextraCommands: mkdir x\n");
    succeed(job.nixlayer(&["lock"]));
    let server = CacheServer::start(&environment().cache_small);
    hide_nix(&mut job, &server.url());
    let arguments = ["build", "image.yaml", "--to", "oci:image"];

    let error = failed(&job.nixlayer_in(without_namespaces(), &arguments, &[]));
    assert!(error.contains("`extraCommands` cannot run: this host lets no sandbox start"), "{error}");
    assert!(error.contains("fix:   use `paths`, `accounts` and `presets`"), "{error}");

    job.admin["sandbox"] = json!("none");
    let error = failed(&job.nixlayer_in(without_store(), &arguments, &[]));
    assert!(error.contains("there is no sandbox to show them in"), "{error}");
    let outcome = job.wrapper(HIDDEN_STORE).run_cleanly();
    assert_eq!(outcome.status, Status::ScriptFailure { exit_code: 1 }, "{}", outcome.trace);
    assert_eq!(server.requests(), [], "it was known before");
}

#[test]
fn one_image_is_made_of_the_store_and_of_a_cache() {
    let packages = Packages::new();
    let [lib, app] = packages.build(
        r#"lib = run "lib-1.0" "echo lib > $out"; app = run "app-1.0" "mkdir $out; ln -s ${lib} $out/lib";"#,
        ["lib", "app"],
    );
    let mut job = TestJob::image_of_spec(&format!("name: both\ncontents: [{app}]\n"));
    succeed(job.nixlayer(&["lock"]));
    let expected = digest_in(job.build(&["image.yaml", "--no-lock", "--to", "oci:expected"], &[]));
    let cache = BinaryCache::of([&app], "xz");
    drop(packages);
    let there = nix("nix")
        .args([
            "--extra-experimental-features",
            "nix-command",
            "copy",
            "--no-check-sigs",
            "--from",
            &cache.file_url(),
        ])
        .arg(lib.to_string())
        .output();
    succeed(there.unwrap());
    let server = CacheServer::start(cache.folder());
    job.admin["caches"] = json!({ server.url(): {} });

    let said = succeed(job.build(&["image.yaml", "--to", "oci:image"], &[]));

    assert!(said.contains("1 of 2 store paths come from binary caches"), "{said}");
    assert!(said.contains(&format!("digest: {expected}\n")), "{said}");
    let asked: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert!(!asked.iter().any(|path| path.contains(lib.hash_part())), "{asked:?}");
    succeed(nix("nix-store").args(["--delete", &lib.to_string()]).output().unwrap());
}

/// The same path with other contents than the lock's is not what was locked.
#[test]
fn what_the_store_has_otherwise_comes_from_the_cache() {
    let mut job = TestJob::image_of_spec("name: h\ncontents: [hello]\n");
    succeed(job.nixlayer(&["lock"]));
    let expected = digest_in(job.build(&["image.yaml", "--no-lock", "--to", "oci:expected"], &[]));
    job.admin["caches"] = json!({ format!("file://{}", environment().cache_small.display()): {} });
    let hello = environment().package("hello").base_name().to_owned();
    let file = job.place("project/image.lock.json");
    let lock: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let paths = lock["systems"]["x86_64-linux"]["closure"].as_array().unwrap().len();
    // Nobody has this.
    let mut altered = lock.clone();
    let closure = altered["systems"]["x86_64-linux"]["closure"].as_array_mut().unwrap();
    let entry = closure.iter_mut().find(|entry| entry["path"] == hello.as_str()).unwrap();
    entry["narHash"] = json!("sha256:0081040h2081040h2081040h2081040h2081040h2081040h2081");
    fs::write(&file, altered.to_string()).unwrap();

    let output = job.build(&["image.yaml", "--to", "oci:image"], &[]);

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&format!("1 of {paths} store paths come from binary caches")), "{said}");
    let error = failed(&output);
    assert!(error.contains(&format!("`/nix/store/{hello}` cannot be had from `file://")), "{error}");
    assert!(error.contains("cause: it says that the NAR hash is `sha256:"), "{error}");
    assert!(error.contains("fix:   run `nixlayer lock --update`"), "{error}");
    assert!(!job.place("project/image/index.json").exists(), "no image of it");
    fs::write(&file, lock.to_string()).unwrap();
    assert_eq!(digest_in(job.build(&["image.yaml", "--to", "oci:image"], &[])), expected);
}

#[test]
fn a_cache_that_wants_a_password_gets_it_and_nobody_sees_it() {
    let mut job = TestJob::image_of_spec("name: h\ncontents: [hello]\n");
    succeed(job.nixlayer(&["lock"]));
    let server = StaticServer::with_password(&environment().cache_small, "me", "canary-password");
    hide_nix(&mut job, &server.url());
    let build =
        |job: &TestJob| job.nixlayer_in(without_store(), &["build", "image.yaml", "--to", "oci:image"], &[]);

    let error = failed(&build(&job));
    assert!(
        error.contains("is refused with status 401") && error.contains("`caches.URL.netrc_file`"),
        "{error}"
    );

    fs::write(job.place("netrc"), "machine 127.0.0.1 login me password canary-password\n").unwrap();
    job.admin["caches"][server.url()] = json!({ "netrc_file": job.place("netrc") });
    let output = build(&job);
    assert!(!format!("{output:?}").contains("canary"));
    digest_in(output);
}

#[test]
fn a_project_adds_only_the_caches_that_the_admin_lists() {
    let packages = Packages::new();
    let odd = packages.add("odd", write_oddities);
    let cache = BinaryCache::of([&odd], "zstd");
    let server = CacheServer::start(cache.folder());
    let spec = |caches: &str| format!("name: p\ncaches: [{caches}]\ncontents: [{odd}]\n");
    let mut job = TestJob::image_of_spec(&spec(""));
    succeed(job.nixlayer(&["lock"]));
    let build =
        |job: &TestJob| job.nixlayer_in(without_store(), &["build", "image.yaml", "--to", "oci:image"], &[]);
    let job_with = |job: TestJob, caches: &str| job.file("image.yaml", &spec(caches));
    job = job_with(job, &server.url());
    let error = failed(&build(&job));
    assert!(
        error.contains("image.yaml:2:10: `caches[0]`: the admin of this machine does not list"),
        "{error}"
    );
    assert_eq!(server.requests(), []);

    job.admin["caches"] = json!({ server.url(): { "use": "on_request" } });
    digest_in(build(&job));
    let asked = server.requests().len();
    // What is there need not be fetched.
    fs::remove_dir_all(job.place("project/image")).unwrap();
    job = job_with(job, "");
    let error = failed(&build(&job));
    assert!(error.contains("there is no binary cache to ask for it"), "{error}");
    assert_eq!(server.requests().len(), asked, "nobody named it");

    succeed(
        Command::new("cp").arg("-R").arg(cache.folder()).arg(job.place("project/cache")).output().unwrap(),
    );
    job = job_with(job, "./cache");
    digest_in(build(&job));
}

#[test]
fn memory_is_bounded_whatever_the_size_of_a_store_path() {
    let packages = Packages::new();
    let large: Vec<StorePath> = ["one", "two", "three", "four"]
        .map(|name| {
            packages.add(name, |path| {
                fs::create_dir(path).unwrap();
                let file = fs::File::create(path.join(name)).unwrap();
                // Nothing but zeros, which take no room on disk.
                file.set_len(300 << 20).unwrap();
            })
        })
        .into();
    let cache = BinaryCache::of(&large, "none");
    let server = StaticServer::start(cache.folder());
    let contents: Vec<String> = large.iter().map(ToString::to_string).collect();
    let mut job =
        TestJob::image_of_spec(&format!("name: l\ncontents: [{}]\ncompression: fast\n", contents.join(", ")));
    succeed(job.nixlayer(&["lock"]));
    hide_nix(&mut job, &server.url());
    job.admin["limits"]["chunk"] = json!(1);
    job.admin["limits"]["uploads"] = json!(4);

    let peak = job.memory_of(without_store(), &["build", "image.yaml", "--to", "oci:image"]);

    // 64 MiB, four layers with four downloads of 1 MiB each, and four uploads with chunks of 1 MiB.
    assert!(peak < (64 + 16 + 4) << 10, "{peak} kB");
}

#[test]
fn a_host_with_neither_lock_nor_nix_says_what_would_do() {
    let mut job = TestJob::image_of_spec("name: h\ncontents: [hello]\n");
    hide_nix(&mut job, "https://cache.invalid");
    let build = job.nixlayer_in(without_store(), &["build", "image.yaml", "--to", "oci:image"], &[]);
    let error = failed(&build);
    assert!(error.contains("there is neither a lock for this spec nor Nix on this host"), "{error}");
    assert!(error.contains("fix:   run `nixlayer lock` where Nix is"), "{error}");
    let error = failed(&job.nixlayer_in(without_store(), &["lock"], &[]));
    assert!(error.contains("there is no Nix on this machine"), "{error}");
}

#[test]
fn a_broken_cache_of_the_project_is_its_authors_to_mend() {
    let mut job = TestJob::example("hello");
    hide_nix(&mut job, "file:///var/empty/no-such-cache");
    let nar = fs::read_dir(job.place("project/cache/nar")).unwrap();
    nar.for_each(|file| fs::write(file.unwrap().path(), "broken").unwrap());

    let outcome = job.wrapper(HIDDEN_STORE).run_cleanly();

    assert_eq!(outcome.status, Status::ScriptFailure { exit_code: 1 }, "{}", outcome.trace);
    assert!(outcome.trace.contains("fix:   make `./cache` anew with `nix copy --to`"), "{}", outcome.trace);
}

#[test]
fn a_script_may_make_the_cache_and_a_missing_one_of_the_admin_stops_nobody() {
    let mut job = TestJob::example("hello");
    hide_nix(&mut job, "file:///var/empty/no-such-cache");
    fs::rename(job.place("project/cache"), job.place("project/made-later")).unwrap();
    job.script = vec!["mv made-later cache".to_owned()];

    let outcome = job.wrapper(HIDDEN_STORE).run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
}

#[test]
fn wrong_bytes_of_one_cache_give_way_to_another() {
    let packages = Packages::new();
    let odd = packages.add("odd", write_oddities);
    let mut job = TestJob::image_of_spec(&format!("name: odd\ncontents: [{odd}]\n"));
    succeed(job.nixlayer(&["lock"]));
    let expected = digest_in(job.build(&["image.yaml", "--no-lock", "--to", "oci:expected"], &[]));
    let [wrong, right] = ["none", "xz"].map(|compression| BinaryCache::of([&odd], compression));
    let nar = wrong.nar(&odd);
    let mut bytes = fs::read(&nar).unwrap();
    // In the contents of a file, where only the hash can tell.
    let place = bytes.windows(100).position(|bytes| bytes == [b'x'; 100]).unwrap();
    bytes[place] = b'y';
    fs::write(&nar, bytes).unwrap();
    wrong.edit_narinfo(&odd, |text| {
        text.lines()
            .filter(|line| !line.starts_with("FileHash"))
            .fold(String::new(), |all, line| all + line + "\n")
    });
    job.admin["caches"] = json!({ wrong.file_url(): { "priority": 1 } });
    let arguments = ["build", "image.yaml", "--to", "oci:image"];
    let error = failed(&job.nixlayer_in(without_store(), &arguments, &[]));
    assert!(error.contains("holds a NAR with the hash"), "{error}");

    job.admin["caches"][right.file_url()] = json!({ "priority": 2 });

    assert_eq!(digest_in(job.nixlayer_in(without_store(), &arguments, &[])), expected);
}
