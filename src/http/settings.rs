//! What an administrator decides about the network.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;

use super::{ClientCertificate, Patience, authority};
use crate::secret::Secret;

/// What an administrator decides about the network. The default trusts the system's certificates,
/// uses HTTPS only, and no proxy.
#[derive(Debug)]
pub struct HttpSettings {
    /// Hosts (`host` or `host:port`) that are spoken to in the clear. HTTPS to them stays possible.
    pub plain_http: BTreeSet<String>,
    /// PEM certificates trusted beside the system's, by host (`host` or `host:port`). All must be good.
    pub ca_files: BTreeMap<String, Vec<u8>>,
    /// What to show to servers that ask who we are, by host (`host` or `host:port`).
    pub client_certificates: BTreeMap<String, ClientCertificate>,
    /// PEM certificates that others have left for us; those that cannot be read are passed over.
    pub found_certificates: Vec<FoundCertificates>,
    /// Hosts (`host` or `host:port`) to which redirects may lead also at private and loopback addresses, as
    /// those of `plain_http` are.
    pub trusted_hosts: BTreeSet<String>,
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
    /// Who is told of every new try.
    pub notice: Notice,
    /// The time at which the client is set up, for servers that name a time; it also makes the pauses of
    /// one client differ from those of the next.
    pub now: Timestamp,
}

/// Certificates trusted for some hosts beside the system's.
#[derive(Debug)]
pub struct FoundCertificates {
    /// For whom.
    pub hosts: Hosts,
    /// The certificates.
    pub pem: Vec<u8>,
}

/// Which hosts are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// The one of this name, whatever its port.
    Named(String),
    /// The one of this name and port, the port only where it is not HTTPS's own.
    At(String),
}

impl Hosts {
    pub(super) fn include(&self, url: &Url) -> bool {
        match self {
            Self::Named(name) => url.host_str().is_some_and(|host| host.eq_ignore_ascii_case(name)),
            // As a URL it has no port that goes without saying.
            Self::At(host) => {
                Url::parse(&format!("https://{host}/")).is_ok_and(|host| authority(&host) == authority(url))
            }
        }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            plain_http: BTreeSet::new(),
            ca_files: BTreeMap::new(),
            client_certificates: BTreeMap::new(),
            found_certificates: Vec::new(),
            trusted_hosts: BTreeSet::new(),
            https_proxy: None,
            no_proxy: None,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            patience: Patience::default(),
            notice: Notice::default(),
            now: Timestamp::UNIX_EPOCH,
        }
    }
}

/// Is told, in a line for people, what is tried again and why.
#[derive(Clone)]
pub struct Notice {
    say: Arc<dyn Fn(&str) + Send + Sync>,
    left: Arc<AtomicUsize>,
}

impl Notice {
    /// Lines of one client: a log has room for other things, too.
    const LINES: usize = 200;

    /// Hands the lines to `say`.
    pub fn new(say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { say: Arc::new(say), left: Arc::new(AtomicUsize::new(Self::LINES)) }
    }

    pub(super) fn say(&self, line: &str) {
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
            Ok(1) => (self.say)("further tries are not told"),
            Ok(_) => (self.say)(line),
            Err(_) => {}
        }
    }
}

impl Default for Notice {
    /// Nobody listens.
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Notice")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_meant_by_name_or_by_name_and_port() {
        let named = || Hosts::Named("gitlab.example".to_owned());
        let at = |host: &str| Hosts::At(host.to_owned());
        for (hosts, url, included) in [
            (named(), "https://gitlab.example/", true),
            (named(), "https://gitlab.example:5050/x", true),
            (named(), "https://x.gitlab.example/", false),
            (Hosts::Named("GitLab.example".to_owned()), "https://gitlab.example/", true),
            (at("gitlab.example"), "https://gitlab.example/jwt/auth", true),
            (at("gitlab.example"), "https://gitlab.example:5050/", false),
            (at("GitLab.example:443"), "https://gitlab.example/", true),
            (at("gitlab.example:8443"), "https://gitlab.example:8443/", true),
            (at("gitlab.example:8443"), "https://gitlab.example/", false),
            (at(""), "https://gitlab.example/", false),
        ] {
            assert_eq!(hosts.include(&Url::parse(url).unwrap()), included, "{hosts:?} {url}");
        }
    }
}
