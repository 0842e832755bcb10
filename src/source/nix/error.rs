//! What can go wrong with Nix.

use std::io;
use std::path::{Path, PathBuf};

use super::Said;
use crate::nix::STORE_DIR;

/// Why what a spec names did not become store paths.
#[derive(Debug, thiserror::Error)]
pub enum NixError {
    /// The package set, or the flake, has no such package.
    #[error("`{name}` is not in the package set")]
    Unknown {
        /// Which of the wanted things it is.
        index: usize,
        /// What the spec calls it.
        name: String,
        /// Names that exist and look like it.
        near: Vec<String>,
    },
    /// There is something of this name that is no package.
    #[error("`{name}` is a {kind}, not a package")]
    NoPackage {
        /// Which of the wanted things it is.
        index: usize,
        /// What the spec calls it.
        name: String,
        /// What it is instead.
        kind: String,
    },
    /// A file or flake has no such value.
    #[error("`{name}` has no attribute `{missing}`")]
    NoAttribute {
        /// What was wanted.
        name: String,
        /// What is not there.
        missing: String,
        /// Names that exist and look like it.
        near: Vec<String>,
    },
    /// A file is a function that cannot be called.
    #[error("`{name}` is a function whose arguments have no default: {}", .needs.join(", "))]
    Arguments {
        /// What was wanted.
        name: String,
        /// The arguments.
        needs: Vec<String>,
    },
    /// There is something that is no image.
    #[error("`{name}` is no image: {reason}")]
    NoImage {
        /// What was wanted.
        name: String,
        /// What it is instead.
        reason: String,
    },
    /// An expression of the project is wrong.
    #[error("{place}: {}", .said.error)]
    Expression {
        /// File, line and column in the project.
        place: String,
        /// What Nix said.
        said: Said,
    },
    /// The expressions, or a builder, are wrong.
    #[error("Nix could not evaluate or build what the spec names")]
    Refused {
        /// What Nix said last.
        #[source]
        said: Said,
    },
    /// Nix did not get what it needs of the host or the network.
    #[error("Nix could not do its work on this host")]
    Host {
        /// What Nix said last.
        #[source]
        said: Said,
    },
    /// The program is not there, or the sandbox does not start.
    #[error("`{program}` cannot be started")]
    Start {
        /// The command.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A folder of the driver's cannot be used.
    #[error("`{folder}` cannot be written to")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nix was started, and its end was not heard.
    #[error("`{program}` broke off")]
    BrokenOff {
        /// The command.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nix answered something we do not understand.
    #[error("Nix gave an answer of an unknown shape")]
    Answer {
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl NixError {
    /// Whether the log of Nix says more.
    pub fn has_log(&self) -> bool {
        matches!(self, Self::Expression { .. } | Self::Refused { .. } | Self::Host { .. })
    }

    /// The same, with the place in a file of the project that led to it, if Nix names one.
    pub(super) fn in_project(self, project: &Path) -> Self {
        let Self::Refused { said } = self else { return self };
        let of_project =
            |place: &String| place.strip_prefix(&format!("{}/", project.display())).map(str::to_owned);
        // Nix evaluates a flake where it has copied it to, as it does others, and package sets.
        let of_copy = |place: &String| {
            let (_, place) = place.strip_prefix(STORE_DIR)?.split_once("-source/")?;
            let file = place.split(':').next()?;
            project.join(file).is_file().then(|| place.to_owned())
        };
        let places = || said.places.iter();
        match places().find_map(of_project).or_else(|| places().find_map(of_copy)) {
            Some(place) => Self::Expression { place, said },
            None => Self::Refused { said },
        }
    }
}

/// Whether an error speaks of the host or the network, so that another try or the admin may help.
///
/// Only its first line counts: what follows may quote the author's own words.
pub(super) fn is_of_host(error: &str) -> bool {
    const SIGNS: [&str; 12] = [
        "cannot connect to daemon",
        "cannot connect to socket",
        "Connection reset by peer",
        "Nix daemon disconnected unexpectedly",
        "No space left on device",
        "Cannot allocate memory",
        "resolve host",
        "Couldn't connect to server",
        "Timeout was reached",
        "timed out",
        "SSL",
        "database disk image is malformed",
    ];
    // An address that is wrong stays wrong.
    const FINAL: [&str; 4] = ["HTTP error 401", "HTTP error 403", "HTTP error 404", "HTTP error 410"];
    let line = error.lines().next().unwrap_or_default();
    let download = line.starts_with("unable to download") && !FINAL.iter().any(|sign| line.contains(sign));
    download || line.starts_with("bwrap: ") || SIGNS.iter().any(|sign| line.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by Nix 2.8.0 with `--show-trace`.
    const OLD_TRACE: &str = "error: undefined variable 'kubctl'\n\n       at /builds/app/default.nix:6:5:\n\n            5|   contents = [\n            6|     kubctl\n             |     ^\n\n       … while evaluating the attribute 'paths'\n\n       at /nix/store/a-nixpkgs/lib.nix:7:9:\n";

    /// Newer versions tell it the other way round.
    const NEW_TRACE: &str = "error:\n       … while evaluating the attribute 'paths'\n         at /nix/store/a-nixpkgs/lib.nix:7:9:\n            6| x\n            7|   paths = y;\n       … while evaluating the file\n         at /builds/app/images.nix:1:1:\n\n       error: undefined variable 'kubctl'\n       at /builds/app/default.nix:6:5:\n            5|   contents = [\n            6|     kubctl\n             |     ^\n";

    #[test]
    fn the_nearest_place_in_the_project_comes_first() {
        for trace in [OLD_TRACE, NEW_TRACE] {
            let error = NixError::Refused { said: Said::last(trace) }.in_project(Path::new("/builds/app"));

            let said = error.to_string();
            assert_eq!(said.lines().next(), Some("default.nix:6:5: undefined variable 'kubctl'"), "{said}");
            assert!(!said.contains('…') && said.contains("6|     kubctl"), "{said}");
            assert!(!said.contains("the log ends"), "{said}");
        }
    }

    #[test]
    fn a_flake_is_named_as_the_project_has_it() {
        let project = tempfile::tempdir().unwrap();
        std::fs::create_dir(project.path().join("nix")).unwrap();
        std::fs::write(project.path().join("nix/image.nix"), "").unwrap();
        let trace = "error: oh no\n\n       at /nix/store/1abc-source/lib/image.nix:7:7:\n\n       \
                     at /nix/store/0abc-source/nix/image.nix:2:3:\n";

        let error = NixError::Refused { said: Said::last(trace) }.in_project(project.path());

        assert!(error.to_string().starts_with("nix/image.nix:2:3: oh no"), "{error}");
    }

    /// `fetchTarball` calls what it fetches `source` as well.
    #[test]
    fn a_file_of_the_project_comes_before_one_of_a_package_set() {
        let trace = "error: oh no\n\n       at /nix/store/0abc-source/lib/a.nix:1:1:\n\n       \
                     at /builds/app/default.nix:2:1:\n";

        let error = NixError::Refused { said: Said::last(trace) }.in_project(Path::new("/builds/app"));

        assert!(error.to_string().starts_with("default.nix:2:1: oh no"), "{error}");
    }

    #[test]
    fn an_error_that_names_no_file_of_the_project_stays_as_it_is() {
        let trace = "error: oh no\n\n       at /nix/store/a-nixpkgs/lib.nix:2:3:\n       at noon:\n";

        let error = NixError::Refused { said: Said::last(trace) }.in_project(Path::new("/builds/app"));

        assert!(matches!(error, NixError::Refused { .. }));
    }

    #[test]
    fn a_daemon_that_is_gone_is_the_hosts_fault() {
        assert!(is_of_host("cannot connect to socket at '/nix/var/nix/daemon-socket/socket': No such file"));
        assert!(!is_of_host("undefined variable 'pkgs'"));
    }

    #[test]
    fn a_download_may_work_later_unless_its_address_is_wrong() {
        assert!(is_of_host("unable to download 'https://example.org/x': HTTP error 503 ('')"));
        assert!(is_of_host("unable to download 'https://example.org/x': Couldn't resolve host name (6)"));
        assert!(!is_of_host("unable to download 'https://example.org/x': HTTP error 404 ('')"));
    }
}
