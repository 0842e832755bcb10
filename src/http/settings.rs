//! What an administrator decides about the network.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::Patience;
use crate::secret::Secret;

/// What an administrator decides about the network. The default trusts the system's certificates,
/// uses HTTPS only, and no proxy.
#[derive(Debug)]
pub struct HttpSettings {
    /// Hosts (`host` or `host:port`) that are spoken to in the clear. HTTPS to them stays possible.
    pub plain_http: BTreeSet<String>,
    /// PEM certificates trusted beside the system's, by host (`host` or `host:port`).
    pub ca_files: BTreeMap<String, Vec<u8>>,
    /// The proxy for HTTPS, as a URL that may hold its user and password.
    pub https_proxy: Option<Secret>,
    /// Hosts that are reached without the proxy, in the syntax of `NO_PROXY`.
    pub no_proxy: Option<String>,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long a server may be silent.
    pub idle_timeout: Duration,
    /// How patient to be with servers that may recover.
    pub patience: Patience,
    /// The time at which the client is set up, for servers that name a time; it also makes the pauses of
    /// one client differ from those of the next.
    pub now: Timestamp,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            plain_http: BTreeSet::new(),
            ca_files: BTreeMap::new(),
            https_proxy: None,
            no_proxy: None,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            patience: Patience::default(),
            now: Timestamp::UNIX_EPOCH,
        }
    }
}
