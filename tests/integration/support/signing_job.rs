//! Jobs on a host that signs the records of the layers that it pushes, and what is asked of their registry.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use nixlayer::simulate::registry::Logged;
use serde_json::json;

use crate::support::{CacheServer, TestJob, environment, succeed};

/// Everything that a last layer can be made of, and packages.
pub(crate) const SPEC: &str = "\
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
pub(crate) fn plain() -> String {
    let (before, rest) = SPEC.split_once("extraCommands").unwrap();
    before.to_owned() + &rest[rest.find("paths:").unwrap()..]
}

/// A job on a host that signs what it pushes.
pub(crate) fn signing_job(spec: &str) -> TestJob {
    signing(TestJob::image_of_spec(spec).file("public/index.html", "hello\n"))
}

/// The same job on a host that signs what it pushes.
pub(crate) fn signing(mut job: TestJob) -> TestJob {
    fs::create_dir(job.place("keys")).unwrap();
    keygen(&job, "runner-1");
    sign(&mut job, "runner-1");
    job
}

/// Locks the job's spec, and makes its host one whose store paths come from `cache` alone.
pub(crate) fn without_store(mut job: TestJob, cache: &CacheServer) -> TestJob {
    succeed(job.nixlayer(&["lock"]));
    job.admin["caches"] = json!({ cache.url(): {} });
    job.admin["nix"]["programs"] = json!("/nowhere");
    job
}

pub(crate) fn key_file(job: &TestJob, name: &str) -> PathBuf {
    job.place("keys").join(name)
}

/// Makes a key of this name, and gives its public half.
pub(crate) fn keygen(job: &TestJob, name: &str) -> String {
    succeed(job.nixlayer(&["keygen", name, key_file(job, name).to_str().unwrap()])).trim_end().to_owned()
}

pub(crate) fn sign(job: &mut TestJob, name: &str) {
    job.admin["records"] = json!({ "key_file": key_file(job, name) });
}

/// Makes the host one that has never built anything.
pub(crate) fn freshen(job: &TestJob) {
    fs::remove_dir_all(job.place("state")).unwrap();
}

pub(crate) fn cache() -> CacheServer {
    CacheServer::start(&environment().cache_small)
}

pub(crate) fn build(job: &TestJob, tag: &str) -> String {
    build_with(job, tag, &[])
}

pub(crate) fn build_with(job: &TestJob, tag: &str, arguments: &[&str]) -> String {
    push(job, &format!("{}/team/app:{tag}", job.registry_host), arguments)
}

pub(crate) fn push(job: &TestJob, to: &str, arguments: &[&str]) -> String {
    push_with(job, to, arguments, &[])
}

pub(crate) fn push_with(job: &TestJob, to: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    succeed(try_push(job, to, arguments, variables))
}

pub(crate) fn try_push(job: &TestJob, to: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let login = job.login_file();
    let variables = [variables, &[("REGISTRY_AUTH_FILE", login.as_str())]].concat();
    job.build(&[&["image.yaml", "--to", to], arguments].concat(), &variables)
}

/// The requests since `before`, each as method and path.
pub(crate) fn requests(job: &TestJob, before: usize) -> Vec<String> {
    job.registry.log()[before..]
        .iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect()
}

pub(crate) fn sent(log: &[Logged]) -> usize {
    log.iter().map(|request| request.body).sum()
}

pub(crate) const SIGNATURE: &str = "dev.nixlayer.records.signature";
