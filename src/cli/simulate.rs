//! `nixlayer simulate`: an image job through all stages, without GitLab.
//!
//! A registry runs inside this process; the simulated runner calls this program for each stage, as a
//! real one would. Everything is in a temporary folder that goes with the command.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_yaml::{Mapping, Value};

use super::target::Target;
use super::{Interruption, Invocation, Scratch};
use crate::admin::Isolation;
use crate::failure::Failure;
use crate::job::payload::Variable;
use crate::oci::Digest;
use crate::publish::{Blob, Destination, OciLayout};
use crate::sandbox::Sandbox;
use crate::secret::Secret;
use crate::simulate::registry::{Registry, RegistrySettings, User};
use crate::simulate::runner::ExitCodes;
use crate::simulate::{Driver, Runner, RunnerVersion, SimulatedJob, Sources, SourcesError, Status};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The project: its last commit, or the folder as it is where there is no Git repository
    project: PathBuf,
    /// The spec, as `NIXLAYER_SPEC` would name it
    #[arg(long, default_value = "image.yaml", value_name = "FILE")]
    spec: String,
    /// A line of the job's script; may be given several times
    #[arg(long, value_name = "LINE")]
    script: Vec<String>,
    /// A job variable, `KEY=VALUE`; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    variable: Vec<Variable>,
    /// Leaves the image in this folder: `oci:FOLDER`
    #[arg(long, value_name = "DEST", value_parser = layout_folder)]
    to: Option<PathBuf>,
    /// Leaves what the job would upload as artifacts in this folder
    #[arg(long, value_name = "FOLDER")]
    artifacts: Option<PathBuf>,
}

fn variable(text: &str) -> Result<Variable, String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok(job_variable(key, value))
}

fn job_variable(key: &str, value: &str) -> Variable {
    Variable {
        key: key.to_owned(),
        value: value.into(),
        public: true,
        file: false,
        masked: false,
        raw: false,
    }
}

fn layout_folder(text: &str) -> Result<PathBuf, String> {
    match text.parse() {
        Ok(Target::OciLayout { folder, tag: None }) => Ok(folder),
        Ok(_) | Err(_) => Err("write oci:FOLDER; the tags are the job's".to_owned()),
    }
}

/// Runs the job and gives the exit code that tells how it ended: 0, the script's own, or 2.
pub(super) fn simulate(
    arguments: &Arguments,
    config: Option<&Path>,
    invocation: &Invocation,
) -> Result<u8, Failure> {
    let scratch = Scratch::new()?;
    let folder = scratch.0.as_path();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::system)?;
    let project_path = project_path(&arguments.project)?;
    let password = random_password().map_err(Failure::cannot("make a password"))?;
    let user = User::new(&password).may_push(&project_path);
    let settings = RegistrySettings::default().user("gitlab-ci-token", user);
    let registry =
        runtime.block_on(Registry::start(settings)).map_err(Failure::cannot("start the registry"))?;
    let address = registry.address().to_string();

    let config_file = folder.join("config.yaml");
    let given = super::read_config(config, &invocation.environment)?;
    let mut config = admin_config(config, folder, &address)?;
    if given.sandbox == Isolation::Bubblewrap && !runtime.block_on(sandbox_works(&given.scripts.path)) {
        say("note: bubblewrap does not work on this machine, so the job's script runs without a sandbox");
        config.insert("sandbox".into(), "none".into());
    }
    let config = serde_yaml::to_string(&config).map_err(Failure::system)?;
    fs::write(&config_file, config).map_err(Failure::cannot("write the configuration"))?;
    let sources =
        Sources::copy(&arguments.project, &folder.join("origin.git")).map_err(|error| match error {
            SourcesError::NoGit(_) => Failure::build(error, "install git, which hands the job its project"),
            SourcesError::Folder { .. } | SourcesError::Git { .. } => {
                Failure::build(error, "name the folder of a project")
            }
        })?;
    if sources.uncommitted {
        say("note: changes of the project that are in no commit are left out, as in GitLab");
    }
    let mut variables = vec![job_variable("NIXLAYER_SPEC", &arguments.spec)];
    variables.extend(arguments.variable.iter().cloned());
    let job = SimulatedJob {
        id: 1,
        name: "image".to_owned(),
        project_path,
        server_url: format!("http://{address}"),
        registry: Some(address),
        password: Secret::from(password),
        protected: true,
        sources,
        variables,
        script: arguments.script.clone(),
        after_script: Vec::new(),
        artifacts: vec!["nixlayer-report".to_owned()],
        timeout: 3600,
    };
    let runner = runner(arguments, &config_file, folder, invocation)?;
    let cancel = Arc::new(AtomicBool::new(false));
    let mut interruption = {
        let _in_runtime = runtime.enter();
        Interruption::listen()?
    };
    runtime.spawn({
        let cancel = Arc::clone(&cancel);
        async move {
            interruption.comes().await;
            cancel.store(true, Ordering::Relaxed);
        }
    });
    let outcome = runner.run(&job, &cancel, &mut show).map_err(Failure::system)?;
    let code = match outcome.status {
        Status::Success => 0,
        Status::ScriptFailure { exit_code } => u8::try_from(exit_code).unwrap_or(1),
        Status::SystemFailure | Status::Cancelled => 2,
    };
    if let (Some(target), 0) = (&arguments.to, code) {
        runtime.block_on(copy_images(&registry, target))?;
        say(&format!("the image is in {}", target.display()));
    }
    Ok(code)
}

fn runner(
    arguments: &Arguments,
    config: &Path,
    folder: &Path,
    invocation: &Invocation,
) -> Result<Runner, Failure> {
    let stage = |name: &str| vec!["--config".into(), config.into(), "stage".into(), name.into()];
    let temp_dir = folder.join("tmp");
    let artifacts_dir = arguments.artifacts.clone().unwrap_or_else(|| folder.join("artifacts"));
    for folder in [&temp_dir, &artifacts_dir] {
        fs::create_dir_all(folder).map_err(Failure::cannot("make a folder of the runner"))?;
    }
    Ok(Runner {
        version: RunnerVersion::NEWEST,
        driver: Driver {
            program: std::env::current_exe().map_err(Failure::cannot("find this program"))?,
            config_args: stage("config"),
            prepare_args: stage("prepare"),
            run_args: stage("run"),
            cleanup_args: stage("cleanup"),
        },
        environment: invocation.environment.clone(),
        temp_dir,
        builds_dir: None,
        cache_dir: None,
        artifacts_dir: artifacts_dir
            .canonicalize()
            .map_err(Failure::cannot("find the folder for artifacts"))?,
        exit_codes: ExitCodes { build_failure: 1, system_failure: 2 },
        retry_pause: Duration::from_secs(3),
        graceful_kill: Duration::from_secs(60),
        force_kill: Duration::from_secs(10),
    })
}

/// The admin's configuration with the registry inside this process, and folders of this simulation.
fn admin_config(file: Option<&Path>, folder: &Path, registry: &str) -> Result<Mapping, Failure> {
    let mut config = match file {
        None => Mapping::new(),
        Some(file) => {
            let doing = format!("read the admin's configuration `{}`", file.display());
            let text = fs::read_to_string(file).map_err(Failure::cannot(&doing))?;
            serde_yaml::from_str(&text).map_err(Failure::cannot(doing))?
        }
    };
    for name in ["builds_dir", "cache_dir", "state_dir"] {
        let folder = folder.join(name.trim_end_matches("_dir"));
        config.insert(name.into(), folder.to_string_lossy().into_owned().into());
    }
    let plain = Mapping::from_iter([(Value::from("plain_http"), Value::from(true))]);
    let registries = config.entry("registries".into()).or_insert_with(|| Mapping::new().into());
    let Value::Mapping(registries) = registries else {
        return Err(Failure::system("`registries` of the configuration is no mapping")
            .fix("write `HOST: { … }` below it"));
    };
    registries.insert(registry.into(), plain.into());
    Ok(config)
}

/// Whether jobs can be kept apart here. A runner insists on it; who simulates a project of their own runs
/// its script anyway.
async fn sandbox_works(path: &str) -> bool {
    match Sandbox::bubblewrap_in(path) {
        Some(sandbox) => sandbox.try_out().await.is_ok(),
        None => false,
    }
}

/// `simulated/NAME`, with the folder's name as far as a project may be called so.
fn project_path(project: &Path) -> Result<String, Failure> {
    let project = project.canonicalize().map_err(|error| {
        Failure::build(
            format!("there is no project `{}`: {error}", project.display()),
            "name the folder that has the spec, such as `.`",
        )
    })?;
    let name = project.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let name: String = name.chars().map(plain).collect();
    let words: Vec<&str> = name.split('-').filter(|word| !word.is_empty()).collect();
    Ok(format!("simulated/{}", if words.is_empty() { "project".to_owned() } else { words.join("-") }))
}

fn random_password() -> io::Result<String> {
    let mut bytes = [0; 24];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Digest::of(&bytes).hex()[..40].to_owned())
}

/// Copies every tagged image of the registry into a layout; those of several repositories into one each, below the
/// folder.
async fn copy_images(registry: &Registry, folder: &Path) -> Result<(), Failure> {
    let tags = registry.tags();
    let several = tags.iter().any(|(repository, _)| *repository != tags[0].0);
    for (repository, tag) in tags {
        let name = repository.rsplit('/').next().filter(|_| several).unwrap_or_default();
        let layout = Arc::new(OciLayout::open(folder.join(name))?);
        let destination = Destination::OciLayout(Arc::clone(&layout));
        let Some(manifest) = registry.manifest(&repository, &tag) else { continue };
        for digest in blobs_of(&manifest)? {
            if let Some(blob) = registry.blob(&repository, &digest) {
                destination.put_blob(&|| Blob::of(blob.clone())).await?;
            }
        }
        let tag = tag.parse().map_err(Failure::system)?;
        tokio::task::block_in_place(|| layout.put_manifest(&manifest, &[tag]))?;
    }
    Ok(())
}

fn blobs_of(manifest: &[u8]) -> Result<Vec<Digest>, Failure> {
    let manifest: oci_client::manifest::OciImageManifest =
        serde_json::from_slice(manifest).map_err(Failure::system)?;
    let digests = manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.digest.parse());
    digests.collect::<Result<_, _>>().map_err(Failure::system)
}

fn show(text: &str) {
    let mut out = io::stdout().lock();
    // Whoever closed standard output does not want to know.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn say(line: &str) {
    show(&format!("{line}\n"));
}
