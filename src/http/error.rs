//! Why a request got no answer.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::Url;

use super::place::OutOfBounds;
use super::{CertificateFault, ClientCertificateFault, ConnectFault, LookUpError, Place};

/// Why a request got no answer, or its answer could not be used.
///
/// URLs are shown without user information and query, for both may hold credentials.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The certificates given for a host are no certificates.
    #[error("the CA file for `{host}` does not hold PEM certificates")]
    CaFile {
        /// The host the file was given for.
        host: String,
        /// What the TLS library says; none where the file is empty, or holds something else as well.
        source: Option<reqwest::Error>,
    },
    /// What is to be shown to a host is no certificate with its key.
    #[error("the client certificate for `{host}` cannot be used: {fault}")]
    ClientCertificate {
        /// The host it was given for.
        host: String,
        /// What is wrong with it.
        fault: ClientCertificateFault,
    },
    /// The server wants to know who asks, and our answer does not do.
    #[error("`{host}` wants a client certificate, and {}", if *shown { "not ours" } else { "we have none for it" })]
    ClientRefused {
        /// Host and port.
        host: String,
        /// Whether we have shown one.
        shown: bool,
        /// How it says so.
        source: rustls::Error,
    },
    /// The proxy's URL is no URL of a proxy. It is not shown, for it may hold a password.
    #[error("the HTTPS proxy is not given as a URL such as `http://proxy.example.com:3128`")]
    Proxy {
        /// What the library says, without the URL.
        source: reqwest::Error,
    },
    /// The client could not be set up, for example because the host has no CA certificates at all.
    #[error("the HTTPS client could not be set up with this host's CA certificates")]
    Setup {
        /// What the library says.
        source: std::sync::Arc<reqwest::Error>,
    },
    /// The text is no URL with a host.
    #[error("`{text}` is not a URL")]
    NoUrl {
        /// The text, without anything that may be secret.
        text: String,
    },
    /// The URL would send in the clear what must be encrypted.
    #[error("`{url}` is not encrypted, and its host is not listed for plain HTTP")]
    NotEncrypted {
        /// Where the request was to go.
        url: String,
    },
    /// The server redirects to where we do not follow.
    #[error("the redirect from `{from}` to `{to}` is refused: {rule}")]
    Redirect {
        /// Who redirects.
        from: String,
        /// Where to.
        to: String,
        /// The rule that forbids it.
        rule: RedirectRule,
    },
    /// The server answers in another language than TLS, most likely HTTP.
    #[error("`{host}` does not speak TLS")]
    NotTls {
        /// Host and port.
        host: String,
    },
    /// The server's certificate does not prove that it is the server.
    #[error("the certificate of `{host}` {fault}")]
    Certificate {
        /// Host and port.
        host: String,
        /// What is wrong with it.
        fault: CertificateFault,
        /// What the TLS library says of it.
        source: rustls::Error,
    },
    /// No connection came about: the name does not resolve, nobody listens, or TLS fails.
    #[error("no connection to `{host}`")]
    Connect {
        /// Host and port.
        host: String,
        /// Why.
        source: ConnectFault,
    },
    /// The server is silent.
    #[error("`{host}` was silent for {} seconds", after.as_secs())]
    Silent {
        /// Host and port.
        host: String,
        /// How long we waited.
        after: Duration,
    },
    /// The connection broke while a request or answer was under way.
    #[error("the connection to `{host}` broke")]
    Broken {
        /// Host and port.
        host: String,
        /// What the library says.
        source: reqwest::Error,
    },
    /// The answer is longer than such an answer can be.
    #[error("the answer of `{url}` is longer than {limit} bytes")]
    TooLong {
        /// What was asked.
        url: String,
        /// The most we read.
        limit: usize,
    },
}

/// Why a redirect is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectRule {
    /// From then on, others could read and change what is said.
    #[error("it leaves HTTPS")]
    LeavesHttps,
    /// The target is not listed for plain HTTP.
    #[error("it is not encrypted")]
    NotEncrypted,
    /// The target is nearer to us than the server that redirects, and not listed.
    #[error("it leads to {0}")]
    Beyond(Place),
    /// There is no end to it.
    #[error("there are too many in a row")]
    TooMany,
}

impl HttpError {
    /// Whether it is said that there is no such host.
    pub(super) fn is_of_no_host(&self) -> bool {
        matches!(self, Self::Connect { source: ConnectFault::Name(LookUpError::NoSuchHost { .. }), .. })
    }

    /// What happened, and the last of its causes: a line for the log.
    pub fn in_short(&self) -> String {
        let mut last = self.source();
        while let Some(deeper) = last.and_then(Error::source) {
            last = Some(deeper);
        }
        match last {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }
}

/// Where a name led that has no address within bounds.
pub(super) fn out_of_bounds(error: &(dyn Error + 'static)) -> Option<Place> {
    match error.downcast_ref::<OutOfBounds>() {
        Some(found) => Some(found.place),
        None => out_of_bounds(error.source()?),
    }
}

/// Why no connection to `host` came about.
pub(super) fn no_connection(host: String, error: reqwest::Error) -> HttpError {
    match tls_error(&error) {
        Some(rustls::Error::InvalidMessage(_)) => HttpError::NotTls { host },
        Some(source @ rustls::Error::InvalidCertificate(error)) => {
            HttpError::Certificate { host, fault: CertificateFault::of(error), source: source.clone() }
        }
        _ => HttpError::Connect { host, source: ConnectFault::of(error) },
    }
}

/// How a server says that it wants another client certificate, or one at all (RFC 8446 §6.2).
pub(super) fn client_refused(error: &HttpError) -> Option<rustls::Error> {
    use rustls::AlertDescription::{
        BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown,
        DecryptError, UnknownCA, UnsupportedCertificate,
    };
    match tls_error(error) {
        Some(
            alert @ rustls::Error::AlertReceived(
                BadCertificate
                | CertificateExpired
                | CertificateRequired
                | CertificateRevoked
                | CertificateUnknown
                | DecryptError
                | UnknownCA
                | UnsupportedCertificate,
            ),
        ) => Some(alert.clone()),
        _ => None,
    }
}

/// What the TLS library says, far down in the causes and wrapped by the standard library.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let inner = wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    error.downcast_ref().or_else(|| tls_error(inner?))
}

/// Host and port as a person writes them: the port only where it is not the scheme's own.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// `url` without user information, query and fragment, for messages.
pub fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), authority(url), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_has_no_user_information_and_no_query() {
        let url = Url::parse("https://user:secret@host.example:5050/v2/x?token=secret#secret").unwrap();

        assert_eq!(shown(&url), "https://host.example:5050/v2/x");
    }
}
