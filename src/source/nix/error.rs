//! What can go wrong with Nix.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::Said;
use crate::folder::Folder;
use crate::nix::STORE_DIR;
use crate::source::store_file;
use crate::spec::ProjectPath;

/// Bytes of a file of the project that is compared with its copy in the store.
const MOST_COMPARED: u64 = 4 << 20;

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
    /// Images are only where Nix does not look for them.
    #[error(
        "`{name}` is no image: `{set}` has derivations, and is a set without `recurseForDerivations = true`"
    )]
    PassedOver {
        /// What was wanted.
        name: String,
        /// What was not looked into.
        set: String,
    },
    /// An expression of the project is wrong.
    #[error("{place}: {}", .said.error)]
    Expression {
        /// File, line and column in the project.
        place: String,
        /// What Nix said.
        said: Said,
    },
    /// An expression is wrong, and Nix names no place of the project.
    #[error("`{name}` cannot be evaluated")]
    Evaluation {
        /// What was wanted.
        name: String,
        /// What Nix said last.
        #[source]
        said: Said,
    },
    /// The expressions, or a builder, are wrong.
    #[error("Nix could not evaluate or build what the spec names")]
    Refused {
        /// What Nix said last.
        #[source]
        said: Said,
    },
    /// A file of a flake is there, and not for Nix.
    #[error("`{file}` is not there for Nix: Git does not track it")]
    Untracked {
        /// The file, from the project's folder down.
        file: String,
        /// Whether Git shall ignore it.
        ignored: bool,
        /// What Nix said.
        #[source]
        said: Option<Said>,
    },
    /// Git failed.
    #[error("Git does not say which files of `{checkout}` it tracks")]
    Git {
        /// The top of the checkout.
        checkout: PathBuf,
        /// What Git said last.
        #[source]
        said: Said,
    },
    /// There is a checkout and no Git.
    #[error("`{checkout}` is a Git checkout, and there is no `git` in `{path}` to say which files it tracks")]
    NoGit {
        /// The top of the checkout.
        checkout: PathBuf,
        /// Where it was looked for.
        path: String,
    },
    /// Nix did not get what it needs of the host or the network.
    #[error("{}Nix could not do its work on this host", .place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default())]
    Host {
        /// File, line and column in the project, if Nix names them.
        place: Option<String>,
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
        matches!(
            self,
            Self::Expression { .. } | Self::Evaluation { .. } | Self::Refused { .. } | Self::Host { .. }
        )
    }

    /// The same, with the place in a file of the project that led to it, if Nix names one: there, or in its copy of
    /// `flake`, a folder of the project.
    pub(super) fn in_project(self, project: &Path, flake: Option<&ProjectPath>) -> Self {
        let (Self::Refused { said } | Self::Host { said, .. }) = &self else { return self };
        let of_project =
            |place: &String| place.strip_prefix(&format!("{}/", project.display())).map(str::to_owned);
        // Nix evaluates a flake where it has copied it to, as it does others, and package sets.
        let of_copy = |place: &String| {
            let (_, below) = place.strip_prefix(STORE_DIR)?.split_once("-source/")?;
            let (copy, file) = (place.split(':').next()?, below.split(':').next()?);
            let folder = flake?.as_str();
            let folder = if folder == "." { String::new() } else { format!("{folder}/") };
            // The copy is of the folder, or of all that is kept with it in one repository.
            let folders = [folder, String::new()];
            let is_of = |folder: &&String| is_copy(Path::new(copy), project, &format!("{folder}{file}"));
            folders.iter().find(is_of).map(|folder| format!("{folder}{below}"))
        };
        let places = || said.places.iter();
        let place = places().find_map(of_project).or_else(|| places().find_map(of_copy));
        match (self, place) {
            (Self::Refused { said }, Some(place)) => Self::Expression { place, said },
            (Self::Host { said, .. }, place) => Self::Host { place, said },
            (error, _) => error,
        }
    }

    /// The same, of the evaluation of `name` in `project`: where Nix names no place, the name stands for it.
    pub(super) fn of_evaluation(self, name: &str, project: &Path) -> Self {
        let marked = |mut said: Said| {
            said.is_outside = said.missing_file().is_some_and(|file| leads_out(file, project));
            said
        };
        match self {
            Self::Refused { said } => Self::Evaluation { name: name.to_owned(), said: marked(said) },
            Self::Expression { place, said } => Self::Expression { place, said: marked(said) },
            Self::Host { place: None, said } => Self::Host { place: Some(format!("`{name}`")), said },
            error => error,
        }
    }
}

/// Whether a file is not the project's, by its path or by a link on the way. Outside of it nothing is looked at, for
/// the author would be told of it.
fn leads_out(file: &str, project: &Path) -> bool {
    let file = Path::new(file);
    let Ok(below) = file.strip_prefix(project) else { return !file.starts_with(STORE_DIR) };
    let found = Folder::open(project).map(|project| project.leads_out(below));
    found.unwrap_or_default()
}

/// Whether a file of the store is one of the project. What Nix has said of both may be the author's own words.
fn is_copy(copy: &Path, project: &Path, file: &str) -> bool {
    let mut copied = Vec::new();
    let read = store_file::open(copy).and_then(|copy| copy.take(MOST_COMPARED).read_to_end(&mut copied));
    let own = || Folder::open(project).and_then(|project| project.read(file, MOST_COMPARED));
    read.is_ok() && own().is_ok_and(|own| own == copied)
}

/// Whether an error speaks of the host or the network, so that another try or the admin may help.
///
/// Its first line says so in words of Nix, at its beginning, or of the system, at its end. Whoever throws an error in
/// these words has it tried again.
pub(super) fn is_of_host(error: &str) -> bool {
    const OF_NIX: [&str; 5] = [
        "cannot connect to daemon",
        "cannot connect to socket",
        "Nix daemon disconnected unexpectedly",
        "executing SQLite",
        "bwrap: ",
    ];
    const OF_SYSTEM: [&str; 3] =
        [": Connection reset by peer", ": No space left on device", ": Cannot allocate memory"];
    // An address that is wrong stays wrong.
    const FINAL: [&str; 4] = ["HTTP error 401", "HTTP error 403", "HTTP error 404", "HTTP error 410"];
    let line = error.lines().next().unwrap_or_default();
    let download = line.starts_with("unable to download")
        && !line.contains("': Couldn't read a file:// file")
        && !FINAL.iter().any(|sign| line.contains(sign));
    let begins = |sign: &&str| line.starts_with(*sign);
    let ends = |sign: &&str| line.ends_with(*sign);
    download || OF_NIX.iter().any(begins) || OF_SYSTEM.iter().any(ends)
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
            let error =
                NixError::Refused { said: Said::last(trace) }.in_project(Path::new("/builds/app"), None);

            let said = error.to_string();
            assert_eq!(said.lines().next(), Some("default.nix:6:5: undefined variable 'kubctl'"), "{said}");
            assert!(!said.contains('…') && said.contains("6|     kubctl"), "{said}");
            assert!(!said.contains("the log ends"), "{said}");
        }
    }

    /// `fetchTarball` calls what it fetches `source` as well.
    #[test]
    fn a_file_of_the_project_comes_before_one_of_a_package_set() {
        let trace = "error: oh no\n\n       at /nix/store/0abc-source/lib/a.nix:1:1:\n\n       \
                     at /builds/app/default.nix:2:1:\n";

        let error = NixError::Refused { said: Said::last(trace) }.in_project(Path::new("/builds/app"), None);

        assert!(error.to_string().starts_with("default.nix:2:1: oh no"), "{error}");
    }

    /// It is printed like the places that Nix adds.
    #[test]
    fn a_place_that_the_author_writes_leads_nowhere() {
        let project = tempfile::tempdir().unwrap();
        for place in ["/nix/store/0abc-source/../../../proc/self/pagemap", "/nix/store/../proc/x-source/x"] {
            let trace = format!("error: oh no\n\n       at {place}:1:1:\n");

            let error = NixError::Refused { said: Said::last(&trace) }
                .in_project(project.path(), Some(&"./.".parse().unwrap()));

            assert!(matches!(error, NixError::Refused { .. }), "{place}");
        }
    }

    #[test]
    fn an_error_that_names_no_file_of_the_project_stays_as_it_is() {
        let trace = "error: oh no\n\n       at /nix/store/a-nixpkgs/lib.nix:2:3:\n       at noon:\n";

        let error = NixError::Refused { said: Said::last(trace) }.in_project(Path::new("/builds/app"), None);

        assert!(matches!(error, NixError::Refused { .. }));
    }

    #[test]
    fn what_the_host_lacks_is_not_the_authors_fault() {
        for of_host in [
            "cannot connect to socket at '/nix/var/nix/daemon-socket/socket': No such file or directory",
            "writing to file: No space left on device",
            "executing SQLite query 'select id from ValidPaths': database disk image is malformed (in 'db.sqlite')",
        ] {
            assert!(is_of_host(of_host), "{of_host}");
        }
        for of_author in [
            "undefined variable 'SSL_CERT_FILE'",
            "builder for '/nix/store/a-perl5-IO-Socket-SSL-2.083.drv' failed with exit code 1",
            "the service timed out, we said: No space left on device, didn't we",
            "attribute 'bwrap' missing",
        ] {
            assert!(!is_of_host(of_author), "{of_author}");
        }
    }

    #[test]
    fn a_download_may_work_later_unless_its_address_is_wrong() {
        assert!(is_of_host("unable to download 'https://example.org/x': HTTP error 503 ('')"));
        assert!(is_of_host("unable to download 'https://example.org/x': Couldn't resolve host name (6)"));
        assert!(!is_of_host("unable to download 'https://example.org/x': HTTP error 404 ('')"));
        assert!(!is_of_host("unable to download 'file:///x': Couldn't read a file:// file (37)"));
    }
}
