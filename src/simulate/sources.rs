//! The Git repository that a simulated job clones: a copy of a project folder, made without network.
//!
//! Of a Git repository the job gets the commit at `HEAD`, as from GitLab; changes that are not
//! committed stay behind. Any other folder is committed to a repository of its own.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A bare repository, and the commit in it that a job builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Where the repository is.
    pub repository: PathBuf,
    /// The commit.
    pub sha: String,
    /// When it was made, in RFC 3339.
    pub timestamp: String,
    /// The first line of its message.
    pub title: String,
    /// Its branch.
    pub ref_name: String,
    /// Whether the folder held changes that are in no commit.
    pub uncommitted: bool,
}

/// Why a folder did not become a repository.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// The folder is not there.
    #[error("cannot read the project folder `{folder}`")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no `git`.
    #[error("cannot start `git`")]
    NoGit(#[source] io::Error),
    /// `git` refused.
    #[error("`git {command}` ended with: {message}")]
    Git {
        /// Its subcommand.
        command: String,
        /// What it wrote to its standard error.
        message: String,
    },
}

impl Sources {
    /// Copies the project in `folder` to a new bare repository at `repository`.
    pub fn copy(folder: &Path, repository: &Path) -> Result<Self, SourcesError> {
        let folder = folder
            .canonicalize()
            .map_err(|source| SourcesError::Folder { folder: folder.to_owned(), source })?;
        git(&folder, &["init", "--quiet", "--bare", "--template=", "--"], &[repository.as_os_str()])?;
        let top = git(&folder, &["rev-parse", "--show-toplevel"], &[]).ok();
        let (ref_name, uncommitted) = match top {
            Some(top) if Path::new(&top) == folder => fetch_head(&folder, repository)?,
            _ => ("main".to_owned(), commit_folder(&folder, repository)?),
        };
        let head = format!("refs/heads/{ref_name}");
        let show = |format: &str| in_repository(repository, &["show", "--no-patch", format, &head, "--"]);
        Ok(Self {
            sha: show("--format=%H")?,
            timestamp: show("--format=%cI")?,
            title: show("--format=%s")?,
            ref_name,
            uncommitted,
            repository: repository.to_owned(),
        })
    }
}

fn fetch_head(folder: &Path, repository: &Path) -> Result<(String, bool), SourcesError> {
    // A checkout of a tag or commit has no branch.
    let branch = git(folder, &["symbolic-ref", "--quiet", "--short", "HEAD"], &[])
        .unwrap_or_else(|_| "main".to_owned());
    let refspec = format!("+HEAD:refs/heads/{branch}");
    let git_dir = repository.as_os_str();
    git(
        folder,
        &["--git-dir"],
        &[
            git_dir,
            "fetch".as_ref(),
            "--quiet".as_ref(),
            "--update-shallow".as_ref(),
            folder.as_os_str(),
            refspec.as_ref(),
        ],
    )?;
    let changes = git(folder, &["status", "--porcelain"], &[])?;
    Ok((branch, !changes.is_empty()))
}

/// Commits all of `folder`, which then holds nothing that is in no commit.
fn commit_folder(folder: &Path, repository: &Path) -> Result<bool, SourcesError> {
    let commit = |command: &[&str]| {
        let mut arguments: Vec<&OsStr> =
            vec![repository.as_os_str(), "--work-tree".as_ref(), folder.as_os_str()];
        arguments.extend(command.iter().map(OsStr::new));
        git(folder, &["--git-dir"], &arguments)
    };
    commit(&["symbolic-ref", "HEAD", "refs/heads/main"])?;
    commit(&["add", "--all", "."])?;
    commit(&["commit", "--quiet", "--allow-empty", "--no-gpg-sign", "--message", "Contents of the folder"])?;
    Ok(false)
}

fn in_repository(repository: &Path, command: &[&str]) -> Result<String, SourcesError> {
    git(repository, command, &[])
}

/// The standard output of `git`, without the line end.
fn git(folder: &Path, command: &[&str], more: &[&OsStr]) -> Result<String, SourcesError> {
    let output = Command::new("git")
        .args(["-c", "user.name=nixlayer simulate", "-c", "user.email=simulate@nixlayer.invalid"])
        .args(["-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false"])
        .args(command)
        .args(more)
        .current_dir(folder)
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::null())
        .output()
        .map_err(SourcesError::NoGit)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    Err(SourcesError::Git {
        command: command.join(" "),
        message: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file_in(sources: &Sources, name: &str) -> Result<String, SourcesError> {
        git(&sources.repository, &["show", &format!("{}:{name}", sources.sha)], &[])
    }

    #[test]
    fn a_plain_folder_is_committed_but_for_what_it_ignores() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("image.yaml"), "name: x\n").unwrap();
        fs::write(folder.path().join(".gitignore"), "target\n").unwrap();
        fs::write(folder.path().join("target"), "").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();

        let sources = Sources::copy(folder.path(), &elsewhere.path().join("origin.git")).unwrap();

        assert_eq!(file_in(&sources, "image.yaml").unwrap(), "name: x");
        assert!(file_in(&sources, "target").is_err());
        assert_eq!((sources.ref_name.as_str(), sources.uncommitted), ("main", false));
        assert!(!folder.path().join(".git").exists(), "the project folder stays as it is");
    }

    #[test]
    fn of_a_repository_the_job_gets_head() {
        let folder = tempfile::tempdir().unwrap();
        let project = |command: &[&str]| git(folder.path(), command, &[]).unwrap();
        project(&["init", "--quiet", "--initial-branch=feature/x"]);
        fs::write(folder.path().join("file"), "committed").unwrap();
        project(&["add", "file"]);
        project(&["commit", "--quiet", "--no-gpg-sign", "--message", "First"]);
        fs::write(folder.path().join("file"), "changed").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();

        let sources = Sources::copy(folder.path(), &elsewhere.path().join("origin.git")).unwrap();

        assert_eq!(sources.sha, project(&["rev-parse", "HEAD"]));
        assert_eq!(sources.timestamp, project(&["show", "--no-patch", "--format=%cI"]));
        assert_eq!((sources.title.as_str(), sources.ref_name.as_str()), ("First", "feature/x"));
        assert_eq!(file_in(&sources, "file").unwrap(), "committed");
        assert!(sources.uncommitted);
    }

    /// A folder within a repository is a project of its own, so that examples can be tried.
    #[test]
    fn a_folder_within_a_repository_is_a_plain_folder() {
        let outer = tempfile::tempdir().unwrap();
        git(outer.path(), &["init", "--quiet"], &[]).unwrap();
        let inner = outer.path().join("example");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("image.yaml"), "").unwrap();

        let sources = Sources::copy(&inner, &outer.path().join("origin.git")).unwrap();

        assert_eq!(file_in(&sources, "image.yaml").unwrap(), "");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error =
            Sources::copy(Path::new("/nonexistent/project"), Path::new("/nonexistent/x")).unwrap_err();

        assert_eq!(error.to_string(), "cannot read the project folder `/nonexistent/project`");
    }
}
