//! Who can fix what went wrong on the way to a registry, or there.

use super::Failure;
use super::classify::is_of_host;
use crate::http::{
    CertificateFault, ClientCertificateFault, ConnectFault, HttpError, LookUpError, Place, RedirectRule,
};
use crate::publish::{Answer, AuthError, PublishError, Refusal};

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
                let fix = certificate_fix(*fault, &format!("registries.\"{host}\".ca_file"));
                Self::system(error).fix(fix)
            }
            HttpError::Redirect { to, rule, .. } => {
                let fix = redirect_fix(to, *rule);
                Self::system(error).fix_if(fix)
            }
            HttpError::Connect { source, .. } => {
                let fix = unreachable_fix(source, "the registry");
                Self::system(error).fix_if(fix)
            }
            HttpError::NoUrl { .. }
            | HttpError::Silent { .. }
            | HttpError::Broken { .. }
            | HttpError::TooLong { .. } => Self::system(error),
        }
    }
}

/// What brings a connection to `whom` about, where that depends on the network.
pub(super) fn unreachable_fix(fault: &ConnectFault, whom: &str) -> Option<String> {
    match fault {
        ConnectFault::Name(LookUpError::NoSuchHost { name }) => Some(format!(
            "check how `{name}` is written, and which name servers `/etc/resolv.conf` names here"
        )),
        ConnectFault::Name(LookUpError::NoAnswer { .. }) => Some(
            "check the name servers in `/etc/resolv.conf`, and whether they can be reached from here"
                .to_owned(),
        ),
        ConnectFault::Refused | ConnectFault::Reset | ConnectFault::OutOfReach | ConnectFault::TimedOut => {
            Some(format!(
                "check the host's name and port, and whether {whom} is up and can be reached from here"
            ))
        }
        ConnectFault::Other(_) => None,
    }
}

/// What mends a server's certificate; `ca_file` is the key under which the admin can name its authority.
pub(super) fn certificate_fix(fault: CertificateFault, ca_file: &str) -> String {
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
pub(super) fn redirect_fix(to: &str, rule: RedirectRule) -> Option<String> {
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
    format!("set `registries.\"{host}\".plain_http: true` in the admin's configuration")
}

const PROJECT_ACCESS: &str = "check that the container registry is on in the project's settings, that the job's user may \
                              push to it, and that no protection rule covers the repository";

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        match &error {
            AuthError::CredentialsRefused { .. } => Self::build(
                error,
                "log in to the registry again, or correct what `REGISTRY_AUTH_FILE` names; an image job is started again, for \
                 its token ends with it",
            ),
            AuthError::CredentialsMissing { .. } => Self::build(
                error,
                "log in with `skopeo login`, `podman login` or `docker login`, or let `REGISTRY_AUTH_FILE` name a file of \
                 credentials; else `$XDG_RUNTIME_DIR/containers/auth.json` and `~/.docker/config.json` are read",
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
            PublishError::Layout { ref source, .. } if is_of_host(source) => {
                Self::system(error).fix("name a folder that can be written, where there is room")
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_out_of_reach_is_told_with_what_to_check() {
        let host = "regsitry.example".to_owned();
        for (source, expected) in [
            (
                ConnectFault::Name(LookUpError::NoSuchHost { name: host.clone() }),
                "error: no connection to `regsitry.example`\n  \
                 cause: there is no host `regsitry.example`\n  \
                 fix:   check how `regsitry.example` is written, and which name servers `/etc/resolv.conf` names here",
            ),
            (
                ConnectFault::Refused,
                "error: no connection to `regsitry.example`\n  \
                 cause: the connection was refused\n  \
                 fix:   check the host's name and port, and whether the registry is up and can be reached from here",
            ),
        ] {
            let failure = Failure::from(HttpError::Connect { host: host.clone(), source });

            assert_eq!(failure.to_string(), expected);
        }
    }
}
