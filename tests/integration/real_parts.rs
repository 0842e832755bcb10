//! The programs of [`support`](crate::support) do what the other tests count on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::SignedDuration;
use nixlayer::nix::{Closure, StorePath, dump_db};
use tempfile::TempDir;

use crate::support::{
    Account, Auth, DockerRegistry, Environment, NixDaemon, TokenIssuer, UnpackedImage, environment, skopeo,
    succeed,
};

#[test]
fn open_registry_returns_what_it_was_given() {
    let registry = DockerRegistry::start(Auth::None);
    let image = BashImage::new(&environment());

    let copied = TempDir::new().unwrap();
    let there = format!("docker://{}/team/app:1", registry.address());
    let back = format!("oci:{}:1", copied.path().display());
    succeed(skopeo(&["copy", "--dest-tls-verify=false", &image.reference(), &there]));
    succeed(skopeo(&["copy", "--src-tls-verify=false", &there, &back]));

    assert_eq!(digest(&there), digest(&image.reference()));
    assert_eq!(succeed(UnpackedImage::from_layout(copied.path(), "1").run(&[])), "hello from /nix\n");
}

#[test]
fn registry_with_a_password_takes_only_that() {
    let registry = DockerRegistry::start(Auth::Htpasswd { user: "ada", password: "right" });
    let image = BashImage::new(&environment());

    assert_refused(&image.push(&registry, "team/app", "ada:wrong"), "authentication required");
    succeed(image.push(&registry, "team/app", "ada:right"));
}

#[test]
fn registry_with_tokens_follows_the_grants_of_the_issuer() {
    let grants = BTreeMap::from([("team/app", ["pull", "push"].as_slice()), ("team/base", &["pull"])]);
    let issuer = TokenIssuer::start(
        vec![Account { user: "gitlab-ci-token", password: "right", grants }],
        SignedDuration::from_mins(5),
    );
    let registry = DockerRegistry::start(Auth::Token(&issuer));
    let image = BashImage::new(&environment());

    succeed(image.push(&registry, "team/app", "gitlab-ci-token:right"));
    assert_ne!(issuer.requests(), 0);
    assert_refused(
        &image.push(&registry, "team/base", "gitlab-ci-token:right"),
        "access to the resource is denied",
    );
    assert_refused(&image.push(&registry, "team/app", "gitlab-ci-token:wrong"), "unauthorized");
}

#[test]
fn registry_refuses_an_expired_token() {
    let grants = BTreeMap::from([("team/app", ["pull", "push"].as_slice())]);
    let issuer = TokenIssuer::start(
        vec![Account { user: "gitlab-ci-token", password: "right", grants }],
        SignedDuration::from_mins(-2),
    );
    let registry = DockerRegistry::start(Auth::Token(&issuer));

    let push = BashImage::new(&environment()).push(&registry, "team/app", "gitlab-ci-token:right");

    assert_refused(&push, "unauthorized");
}

#[test]
fn daemon_serves_the_store_to_the_user_of_the_jobs() {
    let environment = environment();
    let daemon = NixDaemon::start(&environment);
    let home = TempDir::new().unwrap();
    let as_ci_user = |program: &str| {
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid",
                &environment.ci_user,
                "--regid",
                &environment.ci_user,
                "--clear-groups",
                program,
            ])
            .env("HOME", home.path())
            .env("NIX_REMOTE", daemon.nix_remote())
            .current_dir("/");
        command
    };

    let closure = closure(&environment.small, as_ci_user);
    let built =
        as_ci_user("nix-build").arg(&environment.nixpkgs).args(["-A", "hello", "--no-out-link"]).output();

    assert_eq!(environment.small.iter().find(|path| closure.get(path).is_none()), None);
    assert_eq!(succeed(built.unwrap()).trim(), environment.package("hello").to_string());
}

#[test]
fn image_runs_with_its_own_configuration_and_returns_the_exit_code() {
    let environment = environment();
    let image = BashImage::new(&environment);
    let unpacked = UnpackedImage::from_layout(&image.layout(), "1");
    let shell = format!("{}/bin/bash", environment.package("bash"));

    assert_eq!(succeed(unpacked.run(&[])), "hello from /nix\n");
    assert_eq!(unpacked.run(&[&shell, "-c", "exit 7"]).status.code(), Some(7));
}

/// An image of bash and its closure, made without nixlayer.
struct BashImage {
    folder: TempDir,
}

impl BashImage {
    fn new(environment: &Environment) -> Self {
        let image = Self { folder: TempDir::new().unwrap() };
        let bash = environment.package("bash");
        let as_owner = |program: &str| {
            let mut command = Command::new(program);
            command.env("NIX_CONF_DIR", &environment.nix_conf_dir);
            command
        };
        let layer = image.folder.path().join("layer.tar");
        let closure = closure(std::slice::from_ref(bash), as_owner);
        let paths = closure.paths().map(StorePath::to_path_buf);
        succeed(Command::new("tar").arg("-Pcf").arg(&layer).args(paths).output().unwrap());
        let umoci = |arguments: &[&str], last: &[&Path]| {
            succeed(Command::new("umoci").args(arguments).args(last).output().unwrap());
        };
        let tagged = format!("{}:1", image.layout().display());
        umoci(&["init", "--layout"], &[&image.layout()]);
        umoci(&["new", "--image", &tagged], &[]);
        umoci(&["raw", "add-layer", "--image", &tagged], &[&layer]);
        umoci(&["config", "--image", &tagged, "--config.workingdir=/nix"], &[]);
        let shell = format!("{bash}/bin/bash");
        let command = [&shell, "-c", "echo hello from $PWD"].map(|word| format!("--config.cmd={word}"));
        umoci(&["config", "--image", &tagged, &command[0], &command[1], &command[2]], &[]);
        image
    }

    /// The OCI layout that holds the image as `1`.
    fn layout(&self) -> PathBuf {
        self.folder.path().join("layout")
    }

    /// The image as skopeo names it.
    fn reference(&self) -> String {
        format!("oci:{}:1", self.layout().display())
    }

    fn push(&self, registry: &DockerRegistry, repository: &str, credentials: &str) -> Output {
        let destination = format!("docker://{}/{repository}:1", registry.address());
        skopeo(&[
            "copy",
            "--dest-tls-verify=false",
            "--dest-creds",
            credentials,
            &self.reference(),
            &destination,
        ])
    }
}

/// The closure of `roots`, as the Nix that `nix` starts tells it.
fn closure(roots: &[StorePath], nix: impl Fn(&str) -> Command) -> Closure {
    let ask = |query: &[&str], paths: &[String]| {
        succeed(nix("nix-store").args(query).args(paths).output().unwrap())
    };
    let roots: Vec<_> = roots.iter().map(StorePath::to_string).collect();
    let paths: Vec<_> = ask(&["--query", "--requisites"], &roots).lines().map(str::to_owned).collect();
    Closure::new(dump_db::parse(&ask(&["--dump-db"], &paths)).unwrap()).unwrap()
}

fn digest(image: &str) -> String {
    succeed(skopeo(&["inspect", "--tls-verify=false", "--format={{.Digest}}", image]))
}

fn assert_refused(push: &Output, reason: &str) {
    let stderr = String::from_utf8_lossy(&push.stderr);
    assert!(!push.status.success() && stderr.contains(reason), "{}: {stderr}", push.status);
}
