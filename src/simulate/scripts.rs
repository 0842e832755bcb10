//! The Bash scripts of a job's stages, as the runner's generator writes them, in short.
//!
//! Each begins with `set -eo pipefail`, exports all job variables, and does its own `cd`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::variables::Resolved;

/// What scripts are made of.
pub(super) struct Scripts<'a> {
    /// All job variables.
    pub(super) variables: &'a BTreeMap<String, Resolved>,
    /// The project's working folder.
    pub(super) project_dir: &'a Path,
}

/// The folder beside a project's working folder for what is not the project's own.
pub(super) fn temp_project_dir(project_dir: &Path) -> PathBuf {
    let mut path = project_dir.as_os_str().to_owned();
    path.push(".tmp");
    PathBuf::from(path)
}

impl Scripts<'_> {
    /// `prepare_script`: says where the job runs. File variables do not exist yet.
    pub(super) fn prepare(&self) -> String {
        format!("{HEADER}echo \"Running on $(uname -n)...\"\n")
    }

    /// `get_sources`: checks `sha` out of `repository`.
    pub(super) fn get_sources(&self, repository: &Path, sha: &str, ref_name: &str) -> String {
        let repository = quote_path(repository);
        let refspecs = "'+refs/heads/*:refs/remotes/origin/*' '+refs/tags/*:refs/tags/*'";
        let checkout = format!("Checking out {sha} as detached HEAD (ref is {ref_name})...");
        format!(
            "{}git init --quiet\n\
             git remote add origin {repository} 2>/dev/null || git remote set-url origin {repository}\n\
             echo 'Fetching changes...'\n\
             git fetch --quiet --prune origin {refspecs}\n\
             echo {}\n\
             git -c advice.detachedHead=false checkout --force --quiet {}\n\
             git clean -ffdxq\n",
            self.in_project(),
            quote(&checkout),
            quote(sha),
        )
    }

    /// `build_script`, `after_script`: the job's own lines, each shown before it runs.
    pub(super) fn user(&self, lines: &[String]) -> String {
        let mut script = self.in_project();
        for line in lines {
            let shown = quote(&format!("\x1b[32;1m$ {line}\x1b[0;m"));
            script.push_str(&format!("echo {shown}\n{line}\n"));
        }
        script
    }

    /// `upload_artifacts_on_…`: copies what there is of `paths` into `outbox`.
    ///
    /// The real one sends them to GitLab; a sandboxed job can write to its builds folder only.
    pub(super) fn upload(&self, paths: &[String], outbox: &Path) -> String {
        let outbox = quote_path(outbox);
        let mut script = format!("{}rm -rf {outbox}\nmkdir -p {outbox}\n", self.in_project());
        for path in paths {
            let path = quote(path);
            script.push_str(&format!(
                "if [ -e {path} ]; then cp -R --parents -- {path} {outbox}; \
                 else echo WARNING: {path}: no matching files; fi\n"
            ));
        }
        script
    }

    /// `cleanup_file_variables`: removes the files of file variables.
    pub(super) fn cleanup_files(&self) -> String {
        let files = self.variables.iter().filter(|(_, variable)| variable.file);
        let removals = files.map(|(key, _)| format!("rm -f -- {}\n", quote_path(&self.file(key))));
        format!("{HEADER}{}", removals.collect::<String>())
    }

    fn in_project(&self) -> String {
        let mut script = HEADER.to_owned();
        let temp = quote_path(&temp_project_dir(self.project_dir));
        let project = quote_path(self.project_dir);
        script.push_str(&format!("mkdir -p {project} {temp}\n"));
        for (key, variable) in self.variables.iter().filter(|(key, _)| is_shell_name(key)) {
            let mut value = quote(&variable.value);
            if variable.file {
                let file = quote_path(&self.file(key));
                script.push_str(&format!("printf '%s' {value} > {file}\n"));
                value = file;
            }
            script.push_str(&format!("export {key}={value}\n"));
        }
        script.push_str(&format!("cd {project}\n"));
        script
    }

    fn file(&self, key: &str) -> PathBuf {
        temp_project_dir(self.project_dir).join(key)
    }
}

const HEADER: &str =
    "#!/usr/bin/env bash\n\ntrap 'exit 1' TERM\nset -eo pipefail\nset +o noclobber\nexec < /dev/null\n";

fn is_shell_name(key: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    key.bytes().all(word) && key.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

fn quote_path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

/// One word of a POSIX shell: within single quotes only the single quote is special.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn run(script: &str) -> String {
        let output = Command::new("bash").args(["-c", script]).env_clear().output().unwrap();
        assert!(output.status.success(), "{output:?}\n{script}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn bash_gets_every_value_as_it_is() {
        let project = tempfile::tempdir().unwrap();
        let hostile = "a 'b' \"c\" $(touch x) `y` \\ $HOME\nsecond line";
        let variable = |file| Resolved { value: hostile.to_owned(), file };
        let variables = BTreeMap::from([
            ("PLAIN".to_owned(), variable(false)),
            ("AS_FILE".to_owned(), variable(true)),
            ("not-a-name".to_owned(), variable(false)),
        ]);
        let project_dir = project.path().join("team's/app");
        let scripts = Scripts { variables: &variables, project_dir: &project_dir };
        let lines = ["printf '%s|' \"$PLAIN\" \"$(cat \"$AS_FILE\")\" \"$AS_FILE\" \"$PWD\"".to_owned()];

        let printed = run(&scripts.user(&lines));

        let folder = project_dir.display();
        assert!(
            printed.ends_with(&format!("{hostile}|{hostile}|{folder}.tmp/AS_FILE|{folder}|")),
            "{printed}"
        );
        assert!(!project_dir.join("x").exists());
        run(&scripts.cleanup_files());
        assert!(!temp_project_dir(&project_dir).join("AS_FILE").exists());
    }

    #[test]
    fn artifacts_keep_their_paths_and_missing_ones_are_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let project_dir = folder.path().join("app");
        std::fs::create_dir_all(project_dir.join("a/b")).unwrap();
        std::fs::write(project_dir.join("a/b/c"), "text").unwrap();
        let variables = BTreeMap::new();
        let scripts = Scripts { variables: &variables, project_dir: &project_dir };
        let outbox = folder.path().join("outbox");

        let printed = run(&scripts.upload(&["a/b/".to_owned(), "none".to_owned()], &outbox));

        assert_eq!(std::fs::read_to_string(outbox.join("a/b/c")).unwrap(), "text");
        assert_eq!(printed, "WARNING: none: no matching files\n");
    }
}
