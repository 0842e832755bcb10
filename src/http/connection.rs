//! Why no connection came about, in plain words.

use std::error::Error;
use std::io;

use super::resolver::LookUpError;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFault {
    /// The name servers know no such name, and it has led nowhere before.
    #[error("there is no host `{name}`")]
    NoSuchHost {
        /// The name; that of the proxy if there is one.
        name: String,
    },
    /// The name servers say nothing that helps: they may be out of reach.
    #[error("the name servers do not say where `{name}` is: {said}")]
    NotResolved {
        /// The name; that of the proxy if there is one.
        name: String,
        /// What came of the question.
        said: String,
    },
    /// The host is there, and nobody listens.
    #[error("the connection was refused")]
    Refused,
    /// The other end, or somebody between, broke it off.
    #[error("the connection was reset")]
    Reset,
    /// There is no way to the host.
    #[error("the host or its network is out of reach")]
    OutOfReach,
    /// Nobody says anything.
    #[error("the attempt timed out")]
    TimedOut,
    /// Anything else, such as trouble with TLS or the proxy.
    #[error(transparent)]
    Other(reqwest::Error),
}

impl ConnectFault {
    pub(super) fn of(error: reqwest::Error) -> Self {
        match find::<LookUpError>(&error) {
            Some(LookUpError::NoSuchHost { name }) => return Self::NoSuchHost { name: name.clone() },
            Some(LookUpError::NoAnswer { name, said }) => {
                return Self::NotResolved { name: name.clone(), said: said.clone() };
            }
            None => {}
        }
        match find::<io::Error>(&error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused,
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted) => Self::Reset,
            Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => Self::OutOfReach,
            Some(io::ErrorKind::TimedOut) => Self::TimedOut,
            _ if error.is_timeout() => Self::TimedOut,
            _ => Self::Other(error.without_url()),
        }
    }
}

/// The first cause of a type.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    error.downcast_ref().or_else(|| find(error.source()?))
}
