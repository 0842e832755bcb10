//! Runs one of the job's scripts as the runner wrote it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::signal::unix::Signal;

use super::Driver;
use super::folders::JobFolders;
use crate::sandbox::{Sandbox, View};

/// How a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With this exit code; 128 and the signal's number if a signal ended it, as shells count.
    With(i32),
    /// The runner asked for the end of the stage meanwhile.
    Cancelled,
}

/// How long it takes at most to hear of a signal that has come.
const HEARING: Duration = Duration::from_millis(2);

/// Variables of the driver's own environment that scripts and Nix get as they are.
const PASSED_ON: [&str; 6] = ["USER", "LOGNAME", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE"];

/// Proxies, which scripts and Nix get unless they hold a password.
const PROXIES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

impl Driver<'_> {
    /// Runs `script`, handing its output on as it comes, until it ends or `asked_to_end` comes.
    pub(super) async fn script(
        &self,
        script: &Path,
        folders: &JobFolders,
        sandbox: &Sandbox,
        daemon: bool,
        asked_to_end: &mut Signal,
    ) -> io::Result<Ended> {
        let view = self.script_view(Some(script), folders, daemon);
        folders.make_way(&view.writable)?;
        let mut command = sandbox.command(&view, OsStr::new(&self.config.scripts.shell));
        let mut child = command.arg(sandbox.script_path(&view).unwrap_or(script)).spawn()?;
        tokio::select! {
            // Without a sandbox the runner's signal reaches the script as well, and may end it first.
            biased;
            () = received(asked_to_end) => {
                sandbox.terminate(&mut child, self.config.limits.grace).await?;
                Ok(Ended::Cancelled)
            }
            status = child.wait() => {
                let code = exit_code(status?);
                // Whoever was waiting for the script may hear of its end first.
                let asked = tokio::time::timeout(HEARING, received(asked_to_end)).await;
                Ok(asked.map_or(Ended::With(code), |()| Ended::Cancelled))
            }
        }
    }

    /// What a script of the job sees: `docs/admin.md`, "What a job sees".
    pub(super) fn script_view(&self, script: Option<&Path>, folders: &JobFolders, daemon: bool) -> View {
        let mut environment = self.environment_of_children();
        environment.insert("HOME".into(), folders.home().into());
        environment.insert("TMPDIR".into(), "/tmp".into());
        if daemon {
            environment.insert("NIX_REMOTE".into(), "daemon".into());
        }
        environment
            .extend(self.config.scripts.environment.iter().map(|(name, value)| (name.into(), value.into())));
        View {
            read_only: self.config.scripts.read_only.clone(),
            placed: Vec::new(),
            script: script.map(Path::to_owned),
            writable: vec![folders.builds(), folders.home(), folders.cache().to_owned()],
            host: true,
            network: true,
            tmp: Some(folders.tmp()),
            environment,
            working_directory: folders.builds(),
        }
    }

    /// What children get whatever they are: `docs/admin.md`, "What a job sees".
    pub(super) fn environment_of_children(&self) -> BTreeMap<OsString, OsString> {
        let mut environment = BTreeMap::from([
            ("PATH".into(), OsString::from(&self.config.scripts.path)),
            ("LANG".into(), "C.UTF-8".into()),
        ]);
        let mut pass_on = |name: &str, fits: fn(&OsStr) -> bool| {
            if let Some(value) = self.host.get(OsStr::new(name)).filter(|value| fits(value)) {
                environment.insert(name.into(), value.clone());
            }
        };
        PASSED_ON.iter().for_each(|name| pass_on(name, |_| true));
        PROXIES.iter().for_each(|name| pass_on(name, |proxy| !proxy.as_encoded_bytes().contains(&b'@')));
        environment
    }
}

/// Waits for the signal; for ever if it cannot come any more.
pub(super) async fn received(signal: &mut Signal) {
    while signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
