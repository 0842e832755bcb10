//! What ends a command early: whose fault it is, what happened, why, and what mends it.
//!
//! GitLab Runner tells two kinds of failure apart by the exit code. A *build failure* is the job
//! author's to fix, ends the job at once, and always says how. A *system failure* may pass on
//! another try, so the runner repeats `prepare`, and GitLab repeats jobs with
//! `retry: { when: runner_system_failure }`. Any other exit code counts as an unknown system
//! failure, so this module is the only place that chooses one.

mod classify;
mod images;
mod network;
mod packages;

use std::error::Error;
use std::fmt;

use crate::job::Environment;

/// Who can fix it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The author of the job.
    Build,
    /// Nobody, another try, or the admin of the runner.
    System,
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    error: Box<dyn Error + Send + Sync>,
    fix: Option<String>,
}

impl Failure {
    /// A failure that the job's author can fix, and how.
    pub fn build(error: impl Into<Box<dyn Error + Send + Sync>>, fix: impl Into<String>) -> Self {
        Self { kind: Kind::Build, error: error.into(), fix: Some(fix.into()) }
    }

    /// A failure that the job's author cannot fix.
    pub fn system(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::System, error: error.into(), fix: None }
    }

    /// For `map_err`: a system failure that says what could not be done, with the reason as its cause.
    pub fn cannot<E: Into<Box<dyn Error + Send + Sync>>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |reason| Self::system(Undone { doing, reason: reason.into() })
    }

    /// The same failure with what the admin, or another try, can do.
    #[must_use]
    pub fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    /// The same failure with a fix, if there is one.
    #[must_use]
    fn fix_if(self, fix: Option<String>) -> Self {
        Self { fix: fix.or(self.fix), ..self }
    }

    /// Who can fix it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The exit code that tells the runner so.
    pub fn exit_code(&self, environment: &Environment) -> u8 {
        match self.kind {
            Kind::Build => environment.build_failure,
            Kind::System => environment.system_failure,
        }
    }
}

/// Something that the system did not let us do.
#[derive(Debug)]
struct Undone {
    doing: String,
    reason: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for Undone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot {}", self.doing)
    }
}

impl Error for Undone {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.reason)
    }
}

impl fmt::Display for Failure {
    /// `error:` what, a line `cause:` for each reason behind it, `fix:` what to do.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "error: {}", indented(&self.error.to_string()))?;
        let mut cause = self.error.source();
        while let Some(error) = cause {
            write!(formatter, "\n  cause: {}", indented(&error.to_string()))?;
            cause = error.source();
        }
        if let Some(fix) = &self.fix {
            write!(formatter, "\n  fix:   {}", indented(fix))?;
        }
        Ok(())
    }
}

/// The most characters of one reason: it may quote what somebody else wrote, and logs have an end.
const MOST_TEXT: usize = 16 << 10;

/// Lines after the first stand below the first one's text.
fn indented(text: &str) -> String {
    let shown = match text.char_indices().nth(MOST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.trim_end().to_owned(),
    };
    shown.replace('\n', "\n         ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read `image.yaml`")]
    struct Unreadable(#[source] io::Error);

    #[test]
    fn what_the_system_refused_has_its_reason_as_cause() {
        let refused: Result<(), _> = Err(io::Error::other("no space"));

        let failure = refused.map_err(Failure::cannot("write `x`")).unwrap_err();

        assert_eq!(failure.to_string(), "error: cannot write `x`\n  cause: no space");
        assert_eq!(failure.kind(), Kind::System);
    }

    #[test]
    fn a_failure_says_what_why_and_how_to_fix_it() {
        let failure = Failure::build(Unreadable(io::Error::other("the disk\nis wet")), "dry it");

        assert_eq!(
            failure.to_string(),
            "error: cannot read `image.yaml`\n  cause: the disk\n         is wet\n  fix:   dry it"
        );
    }
}
