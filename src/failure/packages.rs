//! Who can fix what went wrong with Nix, the host's store and binary caches.

use super::Failure;
use super::network::{certificate_fix, redirect_fix, unreachable_fix};
use crate::http::HttpError;
use crate::source::ReadError;
use crate::source::binary_cache::{BinaryCacheError, CacheFault};
use crate::source::nix::NixError;

/// For what an expression names outside of its project.
pub(super) const OUTSIDE: &str = "put it into the project's folder, with no link that leads out, for Nix sees nothing else; or, outside GitLab, let \
     `--project` name a folder that holds both";

impl From<NixError> for Failure {
    fn from(error: NixError) -> Self {
        match &error {
            NixError::Unknown { .. } | NixError::NoPackage { .. } => {
                Self::build(error, "check the spelling, and that `nixpkgs:` is the package set that has it")
            }
            NixError::NoAttribute { near, .. } if near.is_empty() => {
                Self::build(error, "check the spelling of what follows the `#`")
            }
            NixError::NoAttribute { near, .. } => {
                let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
                let fix = format!("write {}", near.join(" or "));
                Self::build(error, fix)
            }
            NixError::Arguments { .. } => {
                Self::build(error, "give them defaults, as in `{ pkgs ? import <nixpkgs> { } }:`")
            }
            NixError::NoImage { .. } => Self::build(
                error,
                "name the image itself behind a `#`, as in `default.nix#image`, or let the file be one",
            ),
            NixError::PassedOver { set, .. } => {
                let fix = format!("name it as `{set}`, or give it `recurseForDerivations = true`");
                Self::build(error, fix)
            }
            NixError::Expression { said, .. } | NixError::Evaluation { said, .. } if said.is_outside() => {
                Self::build(error, OUTSIDE)
            }
            NixError::Refused { said }
            | NixError::Expression { said, .. }
            | NixError::Evaluation { said, .. } => {
                let fix = match said.missing_entry() {
                    Some(name) => format!(
                        "pin the package set instead of `<{name}>`, or say what that is in `nix.search_path` of the \
                         admin's configuration or in `NIX_PATH`"
                    ),
                    None => "mend the expression or package that Nix names".to_owned(),
                };
                Self::build(error, fix)
            }
            NixError::Untracked { file, ignored, .. } => {
                let force = if *ignored { "--force " } else { "" };
                let fix = format!("run `git add --intent-to-add {force}{}`", shell_word(file));
                Self::build(error, fix)
            }
            NixError::Git { .. } => Self::build(error, "mend the checkout until `git ls-files` works in it"),
            NixError::NoGit { .. } => Self::system(error).fix("install git, or add its folder to `scripts.path`"),
            NixError::Start { .. } => Self::system(error).fix(
                "install Nix and bubblewrap on the runner's host, or say in `nix.programs` and `scripts.path` where they are",
            ),
            NixError::Folder { .. } => Self::system(error).fix("let the runner's user write there"),
            NixError::Host { said, .. } if said.is_download() => {
                Self::system(error).fix("check the address, and whether this host reaches it")
            }
            NixError::Host { .. } | NixError::BrokenOff { .. } | NixError::Answer { .. } => Self::system(error),
        }
    }
}

/// A file as a word for a shell.
fn shell_word(file: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,@%".contains(&byte);
    if file.bytes().all(is_plain) { file.to_owned() } else { format!("'{}'", file.replace('\'', r"'\''")) }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::BinaryCache(error) => error.into(),
            ReadError::Altered { ref path, .. } => {
                let fix = format!("mend the store of this host with `nix-store --repair-path {path}`");
                Self::system(error).fix(fix)
            }
            ReadError::Disk { .. } | ReadError::Visit(_) => Self::system(error),
        }
    }
}

impl From<BinaryCacheError> for Failure {
    fn from(error: BinaryCacheError) -> Self {
        match &error {
            BinaryCacheError::NoCache { .. } => Self::system(error).fix(
                "list a binary cache in `caches` of the admin's configuration, or name one in `caches` of the spec",
            ),
            BinaryCacheError::Missing { .. } => Self::build(
                error,
                "copy it to one of them (`nix copy --to`), or lock packages that they have (`nixlayer lock --update`)",
            ),
            BinaryCacheError::Fault { cache, fault, .. } => match &**fault {
                CacheFault::Differs { .. } => Self::build(
                    error,
                    "run `nixlayer lock --update` if the cache is right; if the lock is, the cache was given something else",
                ),
                CacheFault::Unsigned => Self::system(error).fix(
                    "give `caches.URL.public_keys` the key that signs the cache, in the admin's configuration",
                ),
                CacheFault::Http(HttpError::ClientRefused { .. }) => Self::system(error).fix(
                    "give `caches.URL.client_certificate` and `client_key` what it takes, in the admin's configuration",
                ),
                // A folder of the project is its author's to mend, whatever is wrong with it.
                _ if cache.starts_with("./") => {
                    let fix = format!("make `{cache}` anew with `nix copy --to`, and commit all of it");
                    Self::build(error, fix)
                }
                CacheFault::Http(HttpError::NotEncrypted { .. }) => Self::system(error)
                    .fix("list the cache by its `http://` address, if it is meant to be without TLS"),
                CacheFault::Refused { status, .. } if matches!(status.as_u16(), 401 | 403) => Self::system(error)
                    .fix("give `caches.URL.netrc_file` or `token_file` credentials that the cache takes"),
                CacheFault::Http(HttpError::Certificate { fault, .. }) => {
                    let fix = certificate_fix(*fault, "caches.URL.ca_file");
                    Self::system(error).fix(fix)
                }
                CacheFault::Http(HttpError::Connect { source, .. }) => {
                    let fix = unreachable_fix(source, "the cache");
                    Self::system(error).fix_if(fix)
                }
                CacheFault::Http(HttpError::Redirect { to, rule, .. }) => {
                    let fix = redirect_fix(to, *rule);
                    Self::system(error).fix_if(fix)
                }
                CacheFault::Http(_)
                | CacheFault::Refused { .. }
                | CacheFault::File { .. }
                | CacheFault::CacheInfo(_)
                | CacheFault::NarInfo(_)
                | CacheFault::Encoding { .. }
                | CacheFault::OtherPath(_)
                | CacheFault::Elsewhere { .. }
                | CacheFault::FileSize { .. }
                | CacheFault::FileHash { .. }
                | CacheFault::Compressed { .. }
                | CacheFault::Surplus { .. }
                | CacheFault::Nar { .. }
                | CacheFault::TooLarge { .. }
                | CacheFault::NarSize { .. }
                | CacheFault::NarHash { .. }
                | CacheFault::Gone => Self::system(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_git_does_not_track_is_added_by_a_line_for_a_shell() {
        for (file, ignored, expected) in [
            ("lib/tool.nix", false, "run `git add --intent-to-add lib/tool.nix`"),
            ("build/tool.nix", true, "run `git add --intent-to-add --force build/tool.nix`"),
            ("it's a $TOOL", false, r"run `git add --intent-to-add 'it'\''s a $TOOL'`"),
        ] {
            let error = NixError::Untracked { file: file.to_owned(), ignored, said: None };

            let failure = Failure::from(error).to_string();

            assert!(failure.ends_with(&format!("\n  fix:   {expected}")), "{failure}");
        }
    }
}
