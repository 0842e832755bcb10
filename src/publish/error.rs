//! Why an image was not published.

use std::io;
use std::path::PathBuf;

use super::{Answer, Refusal};
use crate::http::HttpError;
use crate::oci::{Digest, Tag};

/// Why an image was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The network, TLS, or a rule of ours about them.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The registry would not let us in.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The registry did not do what it was asked; [`Answer::refusal`] says what that means.
    #[error("the registry refused {what}")]
    Refused {
        /// What it was asked, such as "the upload of a blob to `host/name`".
        what: String,
        /// What it said.
        #[source]
        answer: Box<Answer>,
    },
    /// The registry does not let this tag move: a rule of the project protects it.
    #[error("the tag `{tag}` of `{repository}` is protected or immutable")]
    TagProtected {
        /// The tag.
        tag: Tag,
        /// Registry and name.
        repository: String,
        /// What the registry said.
        #[source]
        answer: Box<Answer>,
    },
    /// The registry sends the upload to where we do not follow.
    #[error("the registry sends an upload to `{location}`: {reason}")]
    Location {
        /// Where to, without query.
        location: String,
        /// The rule that forbids it.
        reason: &'static str,
    },
    /// The registry stored the manifest under another digest than its bytes have.
    #[error("the registry stored the manifest as `{stored}` instead of `{sent}`")]
    WrongDigest {
        /// The digest of what we sent.
        sent: Digest,
        /// What the registry says.
        stored: String,
    },
    /// The producer of a blob stopped without a word.
    #[error("the producer of a blob stopped before its end")]
    ProducerGone,
    /// A file of an image layout could not be written or read.
    #[error("the image layout has trouble with `{path}`")]
    Layout {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The `index.json` of an image layout is no image index.
    #[error("`{path}` is not an image index: {reason}")]
    LayoutIndex {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl PublishError {
    /// Whether the registry lacks a blob that the manifest names.
    pub fn misses_a_blob(&self) -> bool {
        matches!(self, Self::Refused { answer, .. } if answer.refusal() == Refusal::BlobMissing)
    }

    /// Whether the registry takes no such manifest, for what it is and not for what it names.
    pub fn refuses_the_manifest(&self) -> bool {
        matches!(self, Self::Refused { answer, .. }
            if answer.refusal() == Refusal::Manifest || answer.status == 415)
    }
}

/// Why a registry would not let us in. One refusal stands for all requests of the same scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// User or password is wrong, or expired.
    #[error("the credentials for `{registry}` were refused")]
    CredentialsRefused {
        /// The registry's host.
        registry: String,
        /// What the token endpoint or registry said.
        #[source]
        answer: Box<Answer>,
    },
    /// The registry wants credentials, and we have none.
    #[error("`{registry}` asks for credentials, and there are none")]
    CredentialsMissing {
        /// The registry's host.
        registry: String,
    },
    /// The registry wants the credentials sent to a host that is not known to belong to it.
    #[error("`{registry}` wants its credentials sent to `{realm}`, a host that is not known to belong to it")]
    ForeignRealm {
        /// The registry's host.
        registry: String,
        /// The token endpoint, without query.
        realm: String,
    },
    /// The registry wants the credentials sent without encryption.
    #[error("`{registry}` wants its credentials sent to `{realm}`, which is not encrypted")]
    PlainRealm {
        /// The registry's host.
        registry: String,
        /// The token endpoint, without query.
        realm: String,
        /// The host and port of the token endpoint.
        host: String,
    },
    /// The registry asks for credentials in a way that we do not know.
    #[error("`{registry}` asks for credentials in an unknown way: `{challenge}`")]
    Challenge {
        /// The registry's host.
        registry: String,
        /// Its `WWW-Authenticate` header.
        challenge: String,
    },
    /// The token endpoint knows the credentials and the repository, and says no: for example,
    /// a repository protection rule of GitLab.
    #[error("a token for `{repository}` was denied")]
    Denied {
        /// Registry and name.
        repository: String,
        /// What the token endpoint said.
        #[source]
        answer: Box<Answer>,
    },
    /// The token endpoint gave a token that does not allow what is needed. GitLab does so when
    /// the job's project is another one, the user's role is too low, or the path is nested too deep.
    #[error("the token for `{repository}` does not grant `{action}`, but {}", listed(.granted))]
    NotGranted {
        /// Registry and name.
        repository: String,
        /// `pull` or `push`.
        action: &'static str,
        /// What the token does grant.
        granted: Vec<String>,
    },
    /// The container registry is switched off.
    #[error("the container registry `{registry}` is not enabled")]
    NotEnabled {
        /// The registry's host.
        registry: String,
        /// What the token endpoint said.
        #[source]
        answer: Box<Answer>,
    },
    /// The token endpoint did something else.
    #[error("no token for `{repository}`")]
    NoToken {
        /// Registry and name.
        repository: String,
        /// What the token endpoint said.
        #[source]
        answer: Box<Answer>,
    },
    /// The token endpoint's answer holds no token.
    #[error("the answer of the token endpoint at `{host}` holds no token")]
    TokenUnreadable {
        /// The endpoint's host.
        host: String,
    },
}

impl AuthError {
    /// Whether asking again may help; everything else is final for the life of the process.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::NoToken { answer, .. } => answer.refusal() == Refusal::Unavailable,
            Self::CredentialsRefused { .. }
            | Self::CredentialsMissing { .. }
            | Self::ForeignRealm { .. }
            | Self::PlainRealm { .. }
            | Self::Challenge { .. }
            | Self::Denied { .. }
            | Self::NotGranted { .. }
            | Self::NotEnabled { .. }
            | Self::TokenUnreadable { .. } => false,
        }
    }
}

fn listed(actions: &[String]) -> String {
    if actions.is_empty() { "nothing".to_owned() } else { format!("only `{}`", actions.join("`, `")) }
}
