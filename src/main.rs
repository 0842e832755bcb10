//! The `nixlayer` program: takes the command line, environment and clock, and gives an exit code.
//!
//! Everything else is in the library.

use std::panic::{self, UnwindSafe};
use std::process::ExitCode;

use jiff::Timestamp;
use nixlayer::cli::{self, Invocation};
use nixlayer::job::Environment;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tracing_subscriber::EnvFilter;

#[expect(clippy::disallowed_methods, reason = "here is where the environment and the clock come in")]
fn main() -> ExitCode {
    let invocation = Invocation {
        arguments: std::env::args_os().collect(),
        environment: std::env::vars_os().collect(),
        now: Timestamp::now(),
        clock: || u64::try_from(Timestamp::now().as_second()).unwrap_or_default(),
    };
    let filter = EnvFilter::try_from_env("NIXLAYER_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();

    keep_memory_to_ourselves();
    let system_failure = Environment::parse(invocation.environment.clone())
        .map_or(2, |environment| environment.system_failure);
    ExitCode::from(caught(|| cli::run(invocation), system_failure))
}

/// The payload of the job is in our memory: no core dump holds it, and no process of the same user may
/// attach to us or read our environment.
fn keep_memory_to_ourselves() {
    // Where the system does not do it, the program can still work, as it would without asking.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// The exit code of `run`, or `system_failure` if it panics: that is a bug of ours and never the
/// job's fault, and its usual exit code, 101, is one that the runner does not know.
fn caught(run: impl FnOnce() -> u8 + UnwindSafe, system_failure: u8) -> u8 {
    panic::catch_unwind(run).unwrap_or(system_failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_system_failure() {
        assert_eq!(caught(|| panic!("a bug"), 42), 42);
        assert_eq!(caught(|| 41, 42), 41);
    }
}
