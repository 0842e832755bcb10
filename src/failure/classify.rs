//! Who can fix which error: one exhaustive match per type, so that a new error asks for a decision.

use std::io;

use super::Failure;
use crate::folder::FolderError;
use crate::http::{CertificateFault, ClientCertificateFault, HttpError, Place, RedirectRule};
use crate::job::JobError;
use crate::lock::LockError;
use crate::pipeline::{BuildError, LockFileError, is_changed_file};
use crate::publish::{Answer, AuthError, PublishError, Refusal};
use crate::source::ReadError;
use crate::source::binary_cache::{BinaryCacheError, CacheFault};
use crate::source::nix::NixError;
use crate::spec::DefinitionError;
use crate::yaml;

impl From<yaml::Error> for Failure {
    fn from(error: yaml::Error) -> Self {
        let fix = error.fix().to_owned();
        Self::build(error, fix)
    }
}

impl From<DefinitionError> for Failure {
    fn from(error: DefinitionError) -> Self {
        Self::build(
            error,
            "name a spec that ends in `.yaml`, or in Nix `FILE.nix`, `FILE.nix#ATTRIBUTE`, a folder, or a flake output \
             such as `.#image`",
        )
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        match error.fix() {
            Some(fix) => Self::build(error, fix),
            None => Self::system(error),
        }
    }
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        match &error {
            FolderError::Missing { .. } | FolderError::NoFile { .. } => {
                Self::build(error, "commit the file, or correct its name")
            }
            FolderError::NoFolder(_) => Self::build(
                error,
                "leave the checkout where the runner puts it: no `GIT_STRATEGY: none`, no `GIT_CLONE_PATH`",
            ),
            FolderError::TooLarge { .. } => Self::build(error, "name the right file"),
            FolderError::Io { source, .. } if is_of_host(source) => Self::system(error),
            FolderError::Io { .. } => {
                Self::build(error, "use a regular file of the project; links must not lead out of it")
            }
        }
    }
}

/// Whether the system, and not what a job did, is why a file cannot be used.
pub(super) fn is_of_host(error: &io::Error) -> bool {
    use io::ErrorKind::{OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, StorageFull, TimedOut};
    // EIO, EMFILE and ENFILE have no kind of their own.
    matches!(error.kind(), OutOfMemory | QuotaExceeded | ReadOnlyFilesystem | StorageFull | TimedOut)
        || matches!(error.raw_os_error(), Some(5 | 23 | 24))
}

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
            NixError::Refused { .. } | NixError::Expression { .. } => {
                Self::build(error, "mend the expression or package that Nix names")
            }
            NixError::Start { .. } => Self::system(error).fix(
                "install Nix and bubblewrap on the runner's host, or say in `nix.programs` and `scripts.path` where they are",
            ),
            NixError::Folder { .. } => Self::system(error).fix("let the runner's user write there"),
            NixError::Host { .. } | NixError::BrokenOff { .. } | NixError::Answer { .. } => Self::system(error),
        }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Spec(error) => error.into(),
            BuildError::Nix(error) => error.into(),
            BuildError::Publish(error) => error.into(),
            BuildError::Archive(error) => error.into(),
            BuildError::ImageJson(error) => error.into(),
            BuildError::Planned(error) => error.into(),
            BuildError::Commands(_) => Self::build(
                error,
                "mend `extraCommands` of the spec: they see the packages, and neither the host nor the network",
            ),
            BuildError::TooManyPaths { .. } => Self::build(
                error,
                "use `paths`, `accounts` and `presets` instead, which run no command, or fewer packages",
            ),
            BuildError::Left(ref source) if is_of_host(source) => Self::system(error),
            BuildError::Left(_) => {
                Self::build(error, "leave files, folders and links only, and all of them readable")
            }
            BuildError::Lock(outdated) => {
                let fix = outdated.outdated.fix(&outdated.spec);
                Self::build(outdated, fix)
            }
            BuildError::Read(error) => error.into(),
            BuildError::NotOfSpec(_) => Self::build(
                error,
                "name packages as the spec names them; the spec itself comes before `--update`",
            ),
            BuildError::Nowhere { .. } => Self::build(
                error,
                "list a binary cache that has it in `caches` of the configuration, or copy it into one that is listed",
            ),
            BuildError::NoSandbox | BuildError::NoNamespaces(_) => Self::build(error, DECLARATIVE),
            BuildError::Project(_) => Self::build(error, "name a folder of the project that can be read"),
            BuildError::NoNix => Self::build(
                error,
                "run `nixlayer lock` where Nix is and commit the file that it writes, or install Nix here",
            ),
            BuildError::Unlike { of_commands: true, .. } => Self::build(
                error,
                "let `extraCommands` make the same every time: no date, no random number, nothing of the host",
            ),
            BuildError::Unlike { of_commands: false, .. } => Self::system(error).fix(
                "find out which host made the record, and whether its store or this host's is damaged: `nix-store --verify --check-contents`",
            ),
            BuildError::Layer { ref source } if is_changed_file(source) => {
                Self::build(error, "let nothing that the job has started write to the project while its image is made")
            }
            BuildError::NoExpression { .. } | BuildError::NoFlake { .. } => {
                Self::build(error, "commit the file, or correct its name")
            }
            BuildError::Conf { .. } | BuildError::NotReferred { .. } => Self::build(
                error,
                "make it with `dockerTools` of a nixpkgs from 20.09 on; if that is what made it, tell us",
            ),
            BuildError::NoImage { .. } => Self::build(
                error,
                "name an image of `dockerTools` or nix2container, an archive or an image layout, behind a `#` if need be",
            ),
            BuildError::OtherTar { .. } => {
                Self::build(error, "make the image anew: its parts do not belong together")
            }
            BuildError::Unreadable { ref source, .. }
            | BuildError::Base { ref source, .. }
            | BuildError::Tar { ref source, .. }
                if !is_of_host(source) =>
            {
                Self::build(error, "let the image be made of files of the store, with no link that leads out of it")
            }
            BuildError::Unreadable { .. }
            | BuildError::Base { .. }
            | BuildError::Tar { .. }
            | BuildError::Sandbox(_)
            | BuildError::Closure(_)
            | BuildError::Scratch { .. }
            | BuildError::Layer { .. }
            | BuildError::Thread => Self::system(error),
        }
    }
}

const DECLARATIVE: &str =
    "use `paths`, `accounts` and `presets` in the place of `extraCommands`: they run no command";

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
                CacheFault::Http(HttpError::Redirect { to, rule, .. }) => match redirect_fix(to, *rule) {
                    Some(fix) => Self::system(error).fix(fix),
                    None => Self::system(error),
                },
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

impl From<LockFileError> for Failure {
    fn from(error: LockFileError) -> Self {
        match error {
            LockFileError::Folder(error) => error.into(),
            LockFileError::Lock(error) => match error {
                LockError::Version { .. } => {
                    Self::build(error, "use the version of nixlayer that wrote it, or a later one")
                }
                LockError::TooMany { .. } => {
                    Self::build(error, "make several images of it, or ask for a larger limit with your case")
                }
                LockError::Json { .. } | LockError::Closure { .. } | LockError::Undescribed { .. } => {
                    Self::build(
                        error,
                        "run `nixlayer lock` where Nix is, and commit what it writes unchanged",
                    )
                }
            },
        }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        match &error {
            HttpError::CaFile { .. } | HttpError::Setup { .. } => {
                Self::system(error).fix("give `registries.HOST.ca_file` a file of PEM certificates")
            }
            HttpError::ClientCertificate { host, fault } => {
                let fix = client_certificate_fix(*fault, host);
                Self::system(error).fix(fix)
            }
            HttpError::ClientRefused { .. } => Self::system(error).fix(
                "give `client_certificate` and `client_key` of `registries.HOST` or `caches.URL` what it takes, in the \
                 admin's configuration",
            ),
            HttpError::Proxy { .. } => Self::system(error).fix("mend `HTTPS_PROXY` of the runner's environment"),
            HttpError::NotEncrypted { .. } => Self::system(error)
                .fix("serve the registry with TLS, or set `registries.HOST.plain_http: true` in the admin's configuration"),
            HttpError::NotTls { host } => {
                let fix = format!("if `{host}` is meant to be without TLS, {}", plain_http(host));
                Self::system(error).fix(fix)
            }
            HttpError::Certificate { host, fault, .. } => {
                let fix = certificate_fix(*fault, &format!("registries.{host}.ca_file"));
                Self::system(error).fix(fix)
            }
            HttpError::Redirect { to, rule, .. } => match redirect_fix(to, *rule) {
                Some(fix) => Self::system(error).fix(fix),
                None => Self::system(error),
            },
            HttpError::NoUrl { .. }
            | HttpError::Connect { .. }
            | HttpError::Silent { .. }
            | HttpError::Broken { .. }
            | HttpError::TooLong { .. } => Self::system(error),
        }
    }
}

/// What mends a server's certificate; `ca_file` is the key under which the admin can name its authority.
fn certificate_fix(fault: CertificateFault, ca_file: &str) -> String {
    match fault {
        CertificateFault::Expired => "renew it, or set the clock of the runner's host".to_owned(),
        CertificateFault::NotYetValid => "set the clock of the runner's host, or wait".to_owned(),
        CertificateFault::OtherName => {
            "use the name that it is for, or let it be made for this one as well".to_owned()
        }
        CertificateFault::UnknownIssuer => format!(
            "give `{ca_file}` the certificate of the authority that signed it, in the admin's configuration"
        ),
        CertificateFault::Authority => format!(
            "let the server use a certificate that the authority signs, and give `{ca_file}` the authority's"
        ),
        CertificateFault::Revoked => {
            "let the server use a new one, and find out why it was revoked".to_owned()
        }
        CertificateFault::Other => "let the server use a certificate that other programs accept".to_owned(),
    }
}

/// What mends the client certificate for `host`.
fn client_certificate_fix(fault: ClientCertificateFault, host: &str) -> String {
    let keys = format!("for `{host}` in the admin's configuration");
    match fault {
        ClientCertificateFault::NoCertificate => {
            format!("give `client_certificate` a file of PEM certificates, {keys}")
        }
        ClientCertificateFault::NoKey => {
            format!("give `client_key` a file with a PEM key that needs no passphrase, {keys}")
        }
        ClientCertificateFault::Mismatch => {
            format!(
                "let `client_certificate` and `client_key` be a pair, the host's own certificate first, {keys}"
            )
        }
        ClientCertificateFault::Unusable => format!("use an RSA, ECDSA or Ed25519 certificate, {keys}"),
    }
}

/// What the admin can do about a redirect `to` somewhere that `rule` forbids.
fn redirect_fix(to: &str, rule: RedirectRule) -> Option<String> {
    match rule {
        RedirectRule::Beyond(Place::LinkLocal) => {
            Some("nothing makes up for that: find out why the server leads there".to_owned())
        }
        RedirectRule::Beyond(Place::Public | Place::Private | Place::Loopback) => Some(format!(
            "if that is where the server keeps its blobs, add the host of `{to}` to `trusted_hosts` of the admin's \
             configuration"
        )),
        RedirectRule::LeavesHttps | RedirectRule::NotEncrypted => {
            Some("serve what the server leads to with TLS as well".to_owned())
        }
        RedirectRule::TooMany => None,
    }
}

fn plain_http(host: &str) -> String {
    format!("set `registries.{host}.plain_http: true` in the admin's configuration")
}

const PROJECT_ACCESS: &str = "check that the container registry is on in the project's settings, that the job's user may \
                              push to it, and that no protection rule covers the repository";

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        match &error {
            AuthError::CredentialsRefused { .. } => Self::build(
                error,
                "start the job again: its token ends with it; outside GitLab, log in to the registry again",
            ),
            AuthError::CredentialsMissing { .. } => Self::build(
                error,
                "log in to the registry, so that its credentials are in the Docker configuration",
            ),
            AuthError::Denied { .. } | AuthError::NotGranted { .. } => Self::build(error, PROJECT_ACCESS),
            AuthError::NotEnabled { .. } => {
                Self::build(error, "enable the container registry in the project's settings")
            }
            AuthError::PlainRealm { host, .. } => {
                let fix = format!("if `{host}` is meant to be without TLS, {}", plain_http(host));
                Self::system(error).fix(fix)
            }
            AuthError::ForeignRealm { .. } => Self::system(error)
                .fix("if that host belongs to the registry, add it to `registries.HOST.token_hosts`"),
            AuthError::Challenge { .. } | AuthError::NoToken { .. } | AuthError::TokenUnreadable { .. } => {
                Self::system(error)
            }
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Http(error) => error.into(),
            PublishError::Auth(error) => error.into(),
            PublishError::Refused { ref answer, .. } => match fix_of(answer) {
                Some(fix) => Self::build(error, fix),
                None => Self::system(error),
            },
            PublishError::TagProtected { .. } => {
                Self::build(error, "push another tag, or change the project's tag rules")
            }
            PublishError::Location { .. } => Self::system(error).fix(
                "let the registry's proxy pass on the scheme and host of requests, or set `relativeurls`",
            ),
            PublishError::Layout { .. } | PublishError::LayoutIndex { .. } => {
                Self::build(error, "name a folder that can be written and holds an image layout or nothing")
            }
            PublishError::WrongDigest { .. } | PublishError::ProducerGone => Self::system(error),
        }
    }
}

/// What the job's author can do about a refusal; nothing if the registry is at fault.
fn fix_of(answer: &Answer) -> Option<&'static str> {
    match answer.refusal() {
        Refusal::Unauthorized | Refusal::Denied => Some(PROJECT_ACCESS),
        Refusal::Repository => {
            Some("name a repository at or below the project's own, at most two names deep")
        }
        Refusal::Manifest => Some("check the tag and the limits of the registry on layers and manifests"),
        Refusal::BlobMissing
        | Refusal::Content
        | Refusal::Upload
        | Refusal::Unavailable
        | Refusal::Unexpected => None,
    }
}
