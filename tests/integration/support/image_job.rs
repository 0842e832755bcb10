//! Image jobs of the packages that this machine has, and the same by hand.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nixlayer::simulate::Outcome;
use serde_json::json;

use super::environment::environment;
use super::image::Image;
use super::process::{peak_memory, succeed};
use super::test_job::{TOKEN, TestJob};

impl TestJob {
    /// A job that makes the image of `spec`, on a machine whose `<nixpkgs>` is that of the tests.
    pub(crate) fn image_of_spec(spec: &str) -> Self {
        Self::of_machine().file("image.yaml", spec)
    }

    /// A job that makes the image of `examples/NAME`.
    pub(crate) fn example(name: &str) -> Self {
        let job = Self::of_machine();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).join(".");
        succeed(Command::new("cp").arg("-R").arg(example).arg(job.place("project")).output().unwrap());
        job
    }

    fn of_machine() -> Self {
        let mut job = Self::new(&[]).variable("NIXLAYER_SPEC", "image.yaml");
        job.admin["nix"]["search_path"] = json!({ "nixpkgs": environment().nixpkgs });
        job.artifacts = vec!["nixlayer-report".to_owned()];
        job
    }

    /// Lets the machine speak to `registry` without TLS.
    pub(crate) fn trusting(mut self, registry: &str) -> Self {
        self.admin["registries"][registry] = json!({ "plain_http": true });
        self
    }

    /// Lets `registry` have its tokens made at `host`.
    pub(crate) fn with_tokens_from(mut self, registry: &str, host: &str) -> Self {
        self.admin["registries"][registry]["token_hosts"] = json!([host]);
        self
    }

    /// Runs the job to its end, after which nothing is left of it and its token is in no log.
    pub(crate) fn run_cleanly(&self) -> Outcome {
        let outcome = self.run();
        assert!(!outcome.trace.contains(TOKEN) && !outcome.cleanup_log.contains(TOKEN));
        assert_eq!(outcome.cleanup_log, "", "the runner's own log");
        self.assert_nothing_left();
        outcome
    }

    /// `nixlayer build ARGUMENTS` in the project's folder, with `variables` as its environment.
    pub(crate) fn build(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        self.nixlayer_in(
            Command::new(env!("CARGO_BIN_EXE_nixlayer")),
            &[&["build"], arguments].concat(),
            variables,
        )
    }

    /// A file of credentials for the job's registry, as `REGISTRY_AUTH_FILE` names it.
    pub(crate) fn login_file(&self) -> String {
        let login = json!({ "username": "gitlab-ci-token", "password": TOKEN });
        let file = self.place("auth.json");
        fs::write(&file, json!({ "auths": { &self.registry_host: login } }).to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// `nixlayer ARGUMENTS` in the project's folder.
    pub(crate) fn nixlayer(&self, arguments: &[&str]) -> Output {
        self.nixlayer_in(Command::new(env!("CARGO_BIN_EXE_nixlayer")), arguments, &[])
    }

    /// `PROGRAM … ARGUMENTS` in the project's folder, where `program` ends with nixlayer.
    pub(crate) fn nixlayer_in(
        &self,
        program: Command,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Output {
        self.command(program, arguments).envs(variables.iter().copied()).output().unwrap()
    }

    /// The same, and the most memory that it held, in kilobytes; what it says is not kept.
    pub(crate) fn memory_of(&self, program: Command, arguments: &[&str]) -> u64 {
        let mut child = self.command(program, arguments).stdout(Stdio::null()).spawn().unwrap();
        let (status, peak) = peak_memory(&mut child);
        assert!(status.success());
        assert!(peak > 0, "it ended before its memory was looked at");
        peak
    }

    fn command(&self, mut program: Command, arguments: &[&str]) -> Command {
        let config = self.place("config.yaml");
        // JSON is YAML.
        fs::write(&config, self.admin.to_string()).unwrap();
        program
            .arg("--config")
            .arg(config)
            .args(arguments)
            .current_dir(self.place("project"))
            .env_clear()
            .envs(&self.runner.environment)
            // What this project has committed meanwhile is no matter of the test's.
            .env("GIT_CEILING_DIRECTORIES", self.root.path())
            .env("TMPDIR", self.place("tmp"));
        program
    }

    /// The lines that the driver printed beside or after the job's own script, without what differs from run to run.
    pub(crate) fn said(&self, outcome: &Outcome) -> String {
        let (_, said) =
            outcome.trace.split_once("Executing \"build_script\" stage of the job script\n").unwrap();
        let (said, _) = said.split_once("Executing \"").unwrap_or((said, ""));
        // The folders of a job bear the name of its GitLab, which is where the registry is.
        let key = self.registry_host.replace(':', "_");
        let place = self.root.path().to_string_lossy();
        let said =
            said.replace(&self.registry_host, "REGISTRY").replace(&key, "GITLAB").replace(&*place, "PLACE");
        let lines = said.lines().filter(|line| !line.starts_with("\x1b[0Ksection_"));
        lines.map(|line| format!("{}\n", without_hash(line))).collect()
    }

    /// What arrived of the artifact `file`.
    pub(crate) fn artifact(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.place("artifacts").join(file)).ok()
    }

    /// Every repository of the job's registry with every tag, as `REPOSITORY:TAG`.
    pub(crate) fn tags(&self) -> Vec<String> {
        self.registry.tags().into_iter().map(|(repository, tag)| format!("{repository}:{tag}")).collect()
    }

    /// The project's image `tag`.
    pub(crate) fn pushed(&self, tag: &str) -> Image {
        self.pushed_to(&self.project, tag)
    }

    /// The image `tag` of a repository.
    pub(crate) fn pushed_to(&self, repository: &str, tag: &str) -> Image {
        let manifest = self.registry.manifest(repository, tag);
        let manifest = manifest.unwrap_or_else(|| panic!("there is no tag `{tag}` in `{repository}`"));
        Image::read(&manifest, |digest| {
            self.registry.blob(repository, &digest.parse().unwrap()).unwrap().to_vec()
        })
    }
}

/// A line in which no store path has its hash.
fn without_hash(line: &str) -> String {
    let mut parts = line.split("/nix/store/");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, rest| format!("{line}/nix/store/HASH{}", rest.get(32..).unwrap_or(rest)))
}
