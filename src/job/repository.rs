//! Which repositories a job may push to: its project's own, and at most two names below it.
//!
//! GitLab's registry would refuse others too, but with the same "denied" for every reason.

use super::{Job, JobError};
use crate::oci::Repository;

/// How many names GitLab allows below a project's own repository.
const NAMES_BELOW: usize = 2;

impl Job {
    /// The repository that a spec or a job names, all variables in it replaced.
    ///
    /// `requested` is a whole name (`registry.example.com/team/app/web`), or one below the
    /// project's own repository (`web`); empty, it is the project's own.
    pub fn repository(&self, requested: &str) -> Result<Repository, JobError> {
        let own = self.own_repository()?;
        if requested.is_empty() {
            return Ok(own);
        }
        let name = match host(requested) {
            Some((host, name)) if host == own.registry() => name.to_owned(),
            Some(_) => {
                return Err(JobError::OtherRegistry {
                    requested: requested.to_owned(),
                    registry: own.registry().to_owned(),
                });
            }
            None => format!("{}/{requested}", own.name()),
        };
        let repository = Repository::new(own.registry(), &name)
            .map_err(|source| JobError::Repository { requested: requested.to_owned(), source })?;
        match names_below(&repository, &own) {
            Some(0..=NAMES_BELOW) => Ok(repository),
            Some(_) => Err(JobError::TooDeep { requested: requested.to_owned(), own: own.to_string() }),
            None => Err(JobError::OtherProject { requested: requested.to_owned(), own: own.to_string() }),
        }
    }
}

/// A first name with a dot or a port is a host, as in every image reference.
fn host(requested: &str) -> Option<(&str, &str)> {
    let (first, rest) = requested.split_once('/')?;
    let is_host = first == "localhost" || (first.contains(['.', ':']) && !first.starts_with('.'));
    is_host.then_some((first, rest))
}

fn names_below(repository: &Repository, own: &Repository) -> Option<usize> {
    let below = repository.name().strip_prefix(own.name())?;
    if below.is_empty() {
        return Some(0);
    }
    Some(below.strip_prefix('/')?.split('/').count())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::context::tests::job;
    use super::*;

    const OWN: &str = "registry.example.com:5050/team/k8s-deployer";

    fn error_of(requested: &str) -> JobError {
        job().repository(requested).unwrap_err()
    }

    #[test]
    fn names_at_and_below_the_project_are_the_jobs_own() {
        for (requested, expected) in [
            ("", OWN.to_owned()),
            (OWN, OWN.to_owned()),
            ("web", format!("{OWN}/web")),
            ("web/arm64", format!("{OWN}/web/arm64")),
            (&format!("{OWN}/web/arm64"), format!("{OWN}/web/arm64")),
        ] {
            assert_eq!(job().repository(requested).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn other_hosts_are_refused() {
        for requested in [
            "registry.example.com/team/k8s-deployer",
            "evil.example/team/k8s-deployer",
            "localhost/team/k8s-deployer",
            "registry.example.com:5050@evil.example/x",
        ] {
            assert!(matches!(error_of(requested), JobError::OtherRegistry { .. }), "{requested}");
        }
    }

    #[test]
    fn other_projects_are_refused() {
        for path in ["team/other", "team", "team/k8s-deployer-2", "x/team/k8s-deployer"] {
            let requested = format!("registry.example.com:5050/{path}");

            assert!(matches!(error_of(&requested), JobError::OtherProject { .. }), "{requested}");
        }
    }

    #[test]
    fn a_third_name_is_too_deep() {
        assert_eq!(
            error_of("a/b/c").to_string(),
            "`a/b/c` is more than two names below `registry.example.com:5050/team/k8s-deployer`"
        );
    }

    #[test]
    fn names_that_no_registry_takes_are_refused() {
        for requested in
            ["Web", "a b", "../other", "web/", "/web", "-web", "web:latest", &format!("{OWN}/Web")]
        {
            assert!(matches!(error_of(requested), JobError::Repository { .. }), "{requested}");
        }
    }

    proptest! {
        /// Whatever is asked for: the answer is on the project's registry, at or below its path.
        #[test]
        fn no_request_leaves_the_project(requested in "([a-z.:/@$%-]|team|k8s-deployer|registry\\.example\\.com:5050){0,8}") {
            if let Ok(repository) = job().repository(&requested) {
                prop_assert_eq!(repository.registry(), "registry.example.com:5050");
                let text = format!("{repository}/");
                prop_assert!(text.starts_with("registry.example.com:5050/team/k8s-deployer/"), "{}", text);
            }
        }
    }
}
