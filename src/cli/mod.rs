//! The command line.

mod build;
mod credentials;
mod definition;
mod explain;
mod image_script;
mod keygen;
mod lock;
mod nix_place;
mod plan;
mod print_config;
mod push;
mod simulate;
mod spec_place;
mod target;
mod workplace;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin::{AdminConfig, DEFAULT_FILE, Host};
use crate::failure::Failure;
use crate::folder;
use crate::http::Notice;
use crate::job::Environment;
use crate::job::log::sanitise;
use crate::source::nix::forget_roots;
use crate::stage::{self, Driver, Log, Outcome};

/// What the operating system hands to the program.
pub struct Invocation {
    /// The arguments, the program's name first.
    pub arguments: Vec<OsString>,
    /// The whole environment.
    pub environment: BTreeMap<OsString, OsString>,
    /// When the program started.
    pub now: Timestamp,
    /// Seconds since 1970, at any time.
    pub clock: fn() -> u64,
}

/// Builds layered OCI images from Nix packages and pushes them: a custom executor for GitLab Runner.
#[derive(Debug, Parser)]
#[command(name = "nixlayer", version, arg_required_else_help = true)]
struct Arguments {
    /// The admin's configuration [default: /etc/nixlayer/config.yaml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a stage of a job; called by GitLab Runner
    Stage {
        #[command(subcommand)]
        stage: Stage,
    },
    /// Prints the `[runners.custom]` block for the runner's `config.toml`
    PrintConfig,
    /// Builds an image and puts it into registries or folders
    Build(build::Arguments),
    /// Puts a finished image into a registry or folder: of Docker, of an image layout, or of a program that writes one
    Push(push::Arguments),
    /// Says what a push would build, reuse and send
    Plan(plan::Arguments),
    /// Says why a store path is in an image, and what it costs
    Explain(explain::Arguments),
    /// Writes which store paths a spec means into a file beside it
    Lock(lock::Arguments),
    /// Makes the key that signs the layer records of a runner's host
    Keygen(keygen::Arguments),
    /// Plays GitLab and its runner for a project: an image job through all stages
    Simulate(simulate::Arguments),
}

#[derive(Debug, Subcommand)]
enum Stage {
    /// Tells the runner where the job's folders are
    Config,
    /// Checks what can be checked before the checkout
    Prepare,
    /// Runs a script of the job, and builds the image of an image job
    Run {
        /// The script that the runner wrote
        script: PathBuf,
        /// Its name in the runner's contract, such as `build_script`
        stage: String,
    },
    /// Removes what the job left
    Cleanup,
}

/// Runs the program and gives its exit code.
pub fn run(invocation: Invocation) -> u8 {
    let arguments = match Arguments::try_parse_from(&invocation.arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let error = without_credentials(error);
            // Help and version are no mistakes, and go to standard output.
            let _ = error.print();
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    let environment = match Environment::parse(invocation.environment.clone()) {
        Ok(environment) => environment,
        Err(error) => return report(&Failure::system(error), 2, true),
    };
    // What `config` and `cleanup` print on standard output is not for the job's log.
    let to_stderr =
        !matches!(arguments.command, Command::Stage { stage: Stage::Prepare | Stage::Run { .. } });
    match execute(arguments, &invocation, &environment) {
        Ok(code) => code,
        Err(failure) => report(&failure, failure.exit_code(&environment), to_stderr),
    }
}

/// An error that quotes an argument, but not the credentials that somebody put before a host.
fn without_credentials(mut error: clap::Error) -> clap::Error {
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg] {
        let Some(ContextValue::String(argument)) = error.get(kind) else { continue };
        let (place, digest) =
            argument.rfind("@sha256:").map_or((&argument[..], ""), |at| argument.split_at(at));
        if let Some((_, host)) = place.rsplit_once('@') {
            let quoted = ContextValue::String(format!("[redacted]@{host}{digest}"));
            error.insert(kind, quoted);
        }
    }
    error
}

fn execute(arguments: Arguments, invocation: &Invocation, environment: &Environment) -> Result<u8, Failure> {
    let config_file = arguments.config.as_deref();
    let log = || Log::new(Box::new(io::stdout()), invocation.clock);
    let with_driver = |work: &dyn Fn(&Driver<'_>) -> Result<u8, Failure>| {
        let config = read_config(config_file, &invocation.environment)?;
        let driver = Driver {
            config: &config,
            environment,
            host: &invocation.environment,
            now: invocation.now,
            // Only commands whose standard output is for people speak to servers.
            notice: Notice::new(|line| drop(writeln!(io::stdout(), "{}", sanitise(line)))),
        };
        work(&driver)
    };
    match arguments.command {
        Command::PrintConfig => print_config::print(config_file, &mut io::stdout()).map(|()| 0),
        Command::Simulate(arguments) => simulate::simulate(&arguments, config_file, invocation),
        Command::Build(arguments) => {
            with_driver(&|driver| wait(build::build(&arguments, driver)).map(|()| 0))
        }
        Command::Push(arguments) => with_driver(&|driver| wait(push::push(&arguments, driver)).map(|()| 0)),
        Command::Keygen(arguments) => keygen::keygen(&arguments, &mut io::stdout()).map(|()| 0),
        Command::Plan(arguments) => with_driver(&|driver| wait(plan::plan(&arguments, driver)).map(|()| 0)),
        Command::Explain(arguments) => {
            with_driver(&|driver| wait(explain::explain(&arguments, driver)).map(|()| 0))
        }
        Command::Lock(arguments) => with_driver(&|driver| wait(lock::lock(&arguments, driver)).map(|()| 0)),
        Command::Stage { stage } => with_driver(&|driver| match &stage {
            Stage::Config => stage::config(driver, &mut io::stdout()).map(|()| 0),
            Stage::Prepare => wait(stage::prepare(driver, &log())).map(|()| 0),
            Stage::Run { script, stage } => Ok(match wait(stage::run(driver, script, stage, &log()))? {
                Outcome::Success => 0,
                Outcome::ScriptFailed => environment.build_failure,
            }),
            Stage::Cleanup => stage::cleanup(driver).map(|()| 0),
        }),
    }
}

/// Runs `work` to its end. What it left on other threads gets a second to stop.
fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::cannot("start threads"))?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

fn report(failure: &Failure, code: u8, to_stderr: bool) -> u8 {
    // A cause may quote what a builder or a server said.
    let failure = sanitise(&failure.to_string());
    // Nobody is left to tell if this fails; the exit code still says it.
    let _ = if to_stderr { writeln!(io::stderr(), "{failure}") } else { writeln!(io::stdout(), "{failure}") };
    code
}

fn read_config(
    file: Option<&Path>,
    environment: &BTreeMap<OsString, OsString>,
) -> Result<AdminConfig, Failure> {
    let host = Host {
        state_dir: state_dir(environment)?,
        runner_certs: runner_certs(environment),
        threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    match fs::read(path) {
        Ok(bytes) => AdminConfig::parse(&path.to_string_lossy(), &bytes, &host).map_err(|error| {
            let fix = error.fix().to_owned();
            Failure::system(error).fix(fix)
        }),
        Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => {
            Ok(AdminConfig::defaults(&host))
        }
        Err(error) => {
            let failure =
                Failure::cannot(format!("read the admin's configuration `{}`", path.display()))(error);
            Err(failure.fix("correct the name in `--config`, or let the user of this process read it"))
        }
    }
}

/// `/var/lib/nixlayer` for root, else a folder in the user's home.
fn state_dir(environment: &BTreeMap<OsString, OsString>) -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/nixlayer".into());
    }
    let home = || Some(folder(environment, "HOME")?.join(".local/state"));
    let state = folder(environment, "XDG_STATE_HOME").or_else(home);
    // A folder that everybody may write to would do for nobody.
    state.map(|state| state.join("nixlayer")).ok_or_else(|| {
        Failure::system("the runner's user has no `HOME`")
            .fix("set `HOME` in the runner's environment, so that there is a folder for the driver's state")
    })
}

/// Where GitLab Runner looks for certificates: below `/etc` for root, else in the user's home.
fn runner_certs(environment: &BTreeMap<OsString, OsString>) -> PathBuf {
    let home = folder(environment, "HOME").filter(|_| !rustix::process::geteuid().is_root());
    home.map_or_else(|| "/etc/gitlab-runner/certs".into(), |home| home.join(".gitlab-runner/certs"))
}

fn folder(environment: &BTreeMap<OsString, OsString>, name: &str) -> Option<PathBuf> {
    environment.get(OsStr::new(name)).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Does work until it is done, or somebody asks the program to end.
async fn until_interrupted(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    // First, or a signal could end us and leave behind what the work has started by then.
    let mut interruption = Interruption::listen()?;
    tokio::select! {
        done = work => done,
        () = interruption.comes() => Err(Failure::system("interrupted")),
    }
}

/// The ways to ask the program to end: Ctrl-C, `kill`, or a terminal that is closed.
struct Interruption {
    pressed: Signal,
    terminated: Signal,
    hung_up: Signal,
}

impl Interruption {
    /// From here on no signal is lost, nor does one end us. Needs a runtime.
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::cannot("listen to signals"));
        Ok(Self {
            pressed: listen(SignalKind::interrupt())?,
            terminated: listen(SignalKind::terminate())?,
            hung_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits until somebody asks.
    async fn comes(&mut self) {
        tokio::select! {
            _ = self.pressed.recv() => {}
            _ = self.terminated.recv() => {}
            _ = self.hung_up.recv() => {}
        }
    }
}

/// The value of a variable of the environment.
fn variable(driver: &Driver<'_>, name: &str) -> Option<String> {
    Some(driver.host.get(OsStr::new(name))?.to_string_lossy().into_owned())
}

/// Prints a line for the person at the keyboard.
fn say(line: &str) {
    // Whoever closed standard output does not want to know.
    let _ = writeln!(io::stdout(), "{line}");
}

/// A folder for what is of no use afterwards, in the system's folder for such; nobody else's.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let private = fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("nixlayer-").permissions(private).tempdir();
        Ok(Self(folder.map_err(Failure::cannot("make a temporary folder"))?.keep()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may hold folders that only this knows how to remove. What cannot be removed is left.
        let _ = folder::remove(&self.0);
        forget_roots(&self.0);
    }
}
