//! A job of nixlayer itself, played by the simulated runner against the registry in this process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nixlayer::job::payload::Variable;
use nixlayer::secret::Secret;
use nixlayer::simulate::registry::{Registry, RegistrySettings, User};
use nixlayer::simulate::runner::ExitCodes;
use nixlayer::simulate::{Driver, Outcome, Runner, RunnerVersion, SimulatedJob, Sources, Status};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::traces::{eventually, indirect_roots, processes_naming};

/// The token of every job here, which is the registry's password as well.
pub(crate) const TOKEN: &str = "canary-token-4711";

/// A package set without nixpkgs. `ADDITION` makes room for more packages.
const PACKAGES: &str = r#"{ }:
let
  run = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-c" script ];
  };
in {
  hello = run "hello-1.0" "mkdir $out; echo hello > $out/greeting";
  ADDITION
}
"#;

/// A job before and after its run: its project, its runner, and what the admin configured.
pub(crate) struct TestJob {
    pub(crate) root: TempDir,
    pub(crate) registry: Registry,
    /// The admin's configuration.
    pub(crate) admin: Value,
    /// Its `driver` is [`TestJob::run`]'s to fill in, unless it names a program.
    pub(crate) runner: Runner,
    pub(crate) id: u64,
    pub(crate) project: String,
    /// What the job takes for its registry; [`TestJob::registry`] if a test does not say otherwise.
    pub(crate) registry_host: String,
    pub(crate) variables: Vec<Variable>,
    pub(crate) script: Vec<String>,
    pub(crate) after_script: Vec<String>,
    pub(crate) artifacts: Vec<String>,
    pub(crate) cancel: AtomicBool,
    /// Bash lines in the place of the driver. `"$@"` is the call of the driver, `$stage` its last
    /// argument, `$ROOT` the folder of the test.
    pub(crate) wrapper: Option<String>,
    runtime: Runtime,
}

impl TestJob {
    /// An ordinary job of the project `team/app`.
    pub(crate) fn new(script: &[&str]) -> Self {
        let root = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let place = |name: &str| root.path().join(name);
        for folder in ["project", "home", "tmp", "artifacts"] {
            fs::create_dir(place(folder)).unwrap();
        }
        fs::write(place("project/hello.txt"), "hello\n").unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let registry = start_registry(&runtime, registry_settings());
        let host = registry.address().to_string();
        let admin = json!({
            "state_dir": place("state"),
            "registries": { &host: { "plain_http": true } },
            "nix": { "store": "local", "options": { "substitute": "false" } },
            "limits": { "patience": 2 },
        });
        let no_driver = Driver {
            program: PathBuf::new(),
            config_args: Vec::new(),
            prepare_args: Vec::new(),
            run_args: Vec::new(),
            cleanup_args: Vec::new(),
        };
        let runner = Runner {
            version: RunnerVersion::NEWEST,
            driver: no_driver,
            environment: BTreeMap::from([
                ("PATH".into(), env!("PATH").into()),
                ("HOME".into(), place("home").into()),
            ]),
            temp_dir: place("tmp"),
            builds_dir: None,
            cache_dir: None,
            artifacts_dir: place("artifacts"),
            exit_codes: ExitCodes { build_failure: 41, system_failure: 42 },
            retry_pause: Duration::ZERO,
            graceful_kill: Duration::from_secs(300),
            force_kill: Duration::from_secs(300),
        };
        Self {
            root,
            registry,
            admin,
            runner,
            id: 7,
            project: "team/app".to_owned(),
            registry_host: host,
            variables: Vec::new(),
            script: script.iter().map(|line| (*line).to_owned()).collect(),
            after_script: Vec::new(),
            artifacts: Vec::new(),
            cancel: AtomicBool::new(false),
            wrapper: None,
            runtime,
        }
    }

    /// Gives the job another registry, with other settings.
    pub(crate) fn start_registry_with(&mut self, change: impl FnOnce(RegistrySettings) -> RegistrySettings) {
        self.registry = start_registry(&self.runtime, change(registry_settings()));
        self.registry_host = self.registry.address().to_string();
        self.admin["registries"][&self.registry_host] = json!({ "plain_http": true });
    }

    /// A job that makes an image of the package `hello` after `script`.
    pub(crate) fn image(script: &[&str]) -> Self {
        Self::image_of("hello", "", script)
    }

    /// A job that makes an image of `package`, which is `hello` or one of `additions`, written in Nix:
    /// `NAME = run "NAME-VERSION" "SHELL COMMANDS";`.
    pub(crate) fn image_of(package: &str, additions: &str, script: &[&str]) -> Self {
        let mut job = Self::new(script)
            .file("packages/default.nix", &PACKAGES.replace("ADDITION", additions))
            .file("image.yaml", &format!("name: app\nnixpkgs: ./packages\ncontents: [{package}]\n"))
            .variable("NIXLAYER_SPEC", "image.yaml");
        job.artifacts = vec!["nixlayer-report".to_owned()];
        job
    }

    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        let file = self.place("project").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self
    }

    pub(crate) fn variable(mut self, key: &str, value: &str) -> Self {
        self.variables.push(Variable {
            key: key.to_owned(),
            value: Secret::from(value),
            public: true,
            ..Variable::default()
        });
        self
    }

    pub(crate) fn version(mut self, major: u16, minor: u16) -> Self {
        self.runner.version = RunnerVersion::new(major, minor);
        self
    }

    pub(crate) fn wrapper(mut self, lines: &str) -> Self {
        self.wrapper = Some(lines.to_owned());
        self
    }

    /// A file or folder of the test.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// What is in a file of the test; empty if there is none.
    pub(crate) fn noted(&self, name: &str) -> String {
        fs::read_to_string(self.place(name)).unwrap_or_default()
    }

    /// Runs the job to its end.
    pub(crate) fn run(&self) -> Outcome {
        self.run_watching(|_| {})
    }

    /// Runs the job, and cancels it once `text` is in its log.
    pub(crate) fn run_cancelled_at(&self, text: &str) -> Outcome {
        let outcome = self.run_watching(|log| {
            if log.contains(text) {
                self.cancel.store(true, Ordering::Relaxed);
            }
        });
        assert!(outcome.trace.contains(text), "the job was never cancelled:\n{}", outcome.trace);
        assert_eq!(outcome.status, Status::Cancelled, "{}", outcome.trace);
        outcome
    }

    /// Runs the job to its end; `watch` sees the log whenever it has grown.
    pub(crate) fn run_watching(&self, mut watch: impl FnMut(&str)) -> Outcome {
        let config = self.write_config();
        let mut runner = self.runner.clone();
        if runner.driver.program.as_os_str().is_empty() {
            runner.driver = self.driver(&config);
        }
        let mut log = String::new();
        let mut show = |lines: &str| {
            log.push_str(lines);
            watch(&log);
        };
        let outcome = runner.run(&self.simulated(), &self.cancel, &mut show).unwrap();
        let left: Vec<_> = fs::read_dir(&self.runner.temp_dir).unwrap().collect();
        assert!(left.is_empty(), "temporary folders stay behind: {left:?}");
        outcome
    }

    /// Lets a script go on that waits for the file `go` in its checkout.
    pub(crate) fn go_on(&self) {
        let own = fs::read_dir(self.place("state/builds")).unwrap().next().unwrap().unwrap().path();
        fs::write(own.join("builds/team/app/go"), "").unwrap();
    }

    /// Writes down what the admin configured.
    pub(crate) fn write_config(&self) -> PathBuf {
        let config = self.place("config.yaml");
        // JSON is YAML.
        fs::write(&config, self.admin.to_string()).unwrap();
        config
    }

    fn driver(&self, config: &Path) -> Driver {
        let nixlayer = env!("CARGO_BIN_EXE_nixlayer");
        let call = |stage: &str| ["--config".into(), config.into(), "stage".into(), stage.into()];
        let (program, before) = match &self.wrapper {
            None => (nixlayer, Vec::new()),
            Some(lines) => {
                let root = self.root.path().display();
                let script = format!("ROOT='{root}'; stage=\"${{@: -1}}\"\n{lines}\nexec \"$@\"");
                ("/bin/bash", vec!["-c".into(), script.into(), "driver".into(), nixlayer.into()])
            }
        };
        let args = |stage: &str| -> Vec<OsString> { before.iter().cloned().chain(call(stage)).collect() };
        Driver {
            program: program.into(),
            config_args: args("config"),
            prepare_args: args("prepare"),
            run_args: args("run"),
            cleanup_args: args("cleanup"),
        }
    }

    fn simulated(&self) -> SimulatedJob {
        let origin = self.place("origin.git");
        if origin.exists() {
            fs::remove_dir_all(&origin).unwrap();
        }
        SimulatedJob {
            id: self.id,
            name: "image".to_owned(),
            project_path: self.project.clone(),
            server_url: format!("http://{}", self.registry.address()),
            registry: Some(self.registry_host.clone()),
            password: Secret::from(TOKEN),
            protected: true,
            sources: Sources::copy(&self.place("project"), &origin).unwrap(),
            variables: self.variables.clone(),
            script: self.script.clone(),
            after_script: self.after_script.clone(),
            artifacts: self.artifacts.clone(),
            timeout: 3600,
        }
    }

    /// The digest that `tag` of the project's own repository names.
    pub(crate) fn tag(&self, tag: &str) -> Option<nixlayer::oci::Digest> {
        self.registry.manifest_digest(&self.project, tag)
    }

    /// Another registry in this process, with the same user.
    pub(crate) fn another_registry(&self) -> Registry {
        start_registry(&self.runtime, registry_settings())
    }

    /// Checks that no folder, process or garbage collector root of the job is left.
    pub(crate) fn assert_nothing_left(&self) {
        for folder in ["state/builds", "state/jobs", "tmp"] {
            let left: Vec<_> = fs::read_dir(self.place(folder)).into_iter().flatten().collect();
            assert!(left.is_empty(), "{folder} holds {left:?}");
        }
        assert_eq!(indirect_roots(self.root.path()), Vec::<PathBuf>::new());
        let running = eventually(|| processes_naming(&self.root.path().to_string_lossy()), Vec::is_empty);
        assert_eq!(running, Vec::<String>::new());
    }
}

impl Drop for TestJob {
    fn drop(&mut self) {
        for link in indirect_roots(self.root.path()) {
            // A garbage collection removes links that lead nowhere, too.
            let _ = fs::remove_file(link);
        }
    }
}

fn registry_settings() -> RegistrySettings {
    let user = User::new(TOKEN).may_push("team/app");
    RegistrySettings::default().user("gitlab-ci-token", user)
}

fn start_registry(runtime: &Runtime, settings: RegistrySettings) -> Registry {
    runtime.block_on(Registry::start(settings)).unwrap()
}

/// The stages of which the driver was called.
pub(crate) fn stages(outcome: &Outcome) -> Vec<&str> {
    outcome.calls.iter().map(|call| call.stage.as_str()).collect()
}

/// The exit code of the driver in a stage that was called once.
pub(crate) fn exit_code(outcome: &Outcome, stage: &str) -> Option<i32> {
    let call = outcome.calls.iter().find(|call| call.stage == stage);
    call.unwrap_or_else(|| panic!("`{stage}` was never called:\n{}", outcome.trace)).exit_code
}
