//! The folders of one job on this host.
//!
//! They follow from the admin's configuration and the job's identity, so that each stage finds them
//! without being told, and `cleanup` finds them when no other stage finished.

use std::io;
use std::path::{Path, PathBuf};

use crate::admin::AdminConfig;
use crate::folder;
use crate::job::Job;

/// Where one job's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobFolders {
    own: PathBuf,
    state: PathBuf,
    cache: PathBuf,
    fetched: PathBuf,
}

impl JobFolders {
    /// The folders of `job`.
    pub(super) fn new(config: &AdminConfig, job: &Job) -> Self {
        let host = file_name(&job.gitlab_host);
        let key = format!("{host}-{}", job.id);
        // Numbers, since a path may come to lie in the folder of a project that is gone, and lead
        // wherever that project's last job made it lead.
        let project = format!("{host}-{}", job.project_id);
        Self {
            own: config.builds_dir.join(&key),
            state: config.state_dir.join("jobs").join(&key),
            cache: config.cache_dir.join(&project),
            fetched: config.state_dir.join("nix").join(&project),
        }
    }

    /// The `builds_dir` that the runner is told; nobody else's.
    pub(super) fn builds(&self) -> PathBuf {
        self.own.join("builds")
    }

    /// What the job's scripts have as `HOME`, from the first stage to the last.
    pub(super) fn home(&self) -> PathBuf {
        self.own.join("home")
    }

    /// What the job's scripts have as `/tmp`, from the first stage to the last.
    pub(super) fn tmp(&self) -> PathBuf {
        self.own.join("tmp")
    }

    /// The project's part of the host's cache folder, which is the whole of it for the runner.
    pub(super) fn cache(&self) -> &Path {
        &self.cache
    }

    /// Garbage collector roots; not visible to the job.
    pub(super) fn roots(&self) -> PathBuf {
        self.state.join("roots")
    }

    /// What Nix and a spec's commands work in; not visible to the job.
    pub(super) fn scratch(&self) -> PathBuf {
        self.state.join("scratch")
    }

    /// What Nix has downloaded for the project, kept from job to job.
    pub(super) fn fetched(&self) -> &Path {
        &self.fetched
    }

    /// Makes the folders, for the runner's user only. Those that are there stay as they are.
    pub(super) fn create(&self) -> io::Result<()> {
        for folder in [
            &self.builds(),
            &self.home(),
            &self.tmp(),
            &self.roots(),
            &self.scratch(),
            &self.fetched,
            &self.cache,
        ] {
            folder::make_private(folder)?;
        }
        Ok(())
    }

    /// Makes the mount points of `shown` that lie in the job's `/tmp`: a link which the job left on the
    /// way would have them made elsewhere.
    pub(super) fn make_way(&self, shown: &[PathBuf]) -> io::Result<()> {
        for below in shown.iter().filter_map(|path| path.strip_prefix("/tmp").ok()) {
            folder::make_way(&self.tmp(), below)?;
        }
        Ok(())
    }

    /// Removes everything but the caches, whatever is left of it.
    pub(super) fn remove(&self) -> io::Result<()> {
        let own = folder::remove(&self.own);
        own.and(folder::remove(&self.state))
    }
}

/// `text` with everything but letters, digits, dots and dashes replaced.
fn file_name(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || character == '.' || character == '-';
    text.chars().map(|character| if plain(character) { character } else { '_' }).collect()
}
