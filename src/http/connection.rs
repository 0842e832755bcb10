//! Why no connection came about, in plain words.

use std::error::Error;
use std::io;

use super::resolver::LookUpError;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFault {
    /// The name of the host, or that of the proxy, leads nowhere.
    #[error(transparent)]
    Name(LookUpError),
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
        if let Some(error) = find::<LookUpError>(&error) {
            return Self::Name(error.clone());
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
