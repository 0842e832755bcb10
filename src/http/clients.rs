//! The clients of the library underneath: one for each set of certificates and bound, made when first used.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::dns::Resolve;
use reqwest::{Certificate, Client, ClientBuilder, Identity, NoProxy, Proxy, Url, redirect};

use super::certificate::usable;
use super::place::Bounded;
use super::{ClientCertificate, HttpError, HttpSettings, Place, authority};

/// The clients that a process needs; they share no connections, so that each connection is within the
/// bound of whoever uses it.
pub(super) struct Clients {
    settings: HttpSettings,
    proxy: Option<Proxy>,
    /// Tells which hosts the proxy is for, as the library does.
    proxied: Option<Matcher>,
    resolver: Arc<dyn Resolve>,
    made: Mutex<BTreeMap<(Trust, Place), Client>>,
}

/// Whose certificates a client takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// Nobody's: plain HTTP, and never HTTPS by mistake.
    Nobody,
    /// Those that the system trusts. Without any, the first HTTPS request reports it.
    System,
    /// Those that are trusted for the host of this URL, which has no path, as well; it also sees who we are.
    Host(Url),
}

impl Clients {
    /// Certificates and the proxy's URL are checked here.
    pub(super) fn new(settings: HttpSettings, resolver: Arc<dyn Resolve>) -> Result<Self, HttpError> {
        // An error means that another client of this process has installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let proxy = proxy(&settings)?;
        let proxied = settings.https_proxy.as_ref().map(|url| {
            let matcher = Matcher::builder().https(url.expose().to_owned());
            matcher.no(settings.no_proxy.clone().unwrap_or_default()).build()
        });
        let clients = Self { settings, proxy, proxied, resolver, made: Mutex::default() };
        for host in clients.settings.ca_files.keys() {
            clients.certificates(host)?;
        }
        for host in clients.settings.client_certificates.keys() {
            clients.identity(host)?;
        }
        Ok(clients)
    }

    /// The client for a request to `url`, which may lead no further than `bound`.
    pub(super) fn client(&self, url: &Url, bound: Place) -> Result<Client, HttpError> {
        let trust = match url.scheme() {
            "http" => Trust::Nobody,
            _ if self.is_special(url) => Trust::Host(host_only(url)),
            _ => Trust::System,
        };
        // Of a host behind the proxy the client looks up nothing; it would look up the proxy.
        let bound = if self.is_proxied(url) { Place::LinkLocal } else { bound };
        self.get(trust, bound)
    }

    /// Whether requests to `url` go through the proxy.
    pub(super) fn is_proxied(&self, url: &Url) -> bool {
        let uri = url.as_str().parse();
        uri.is_ok_and(|uri| self.proxied.as_ref().is_some_and(|proxied| proxied.intercept(&uri).is_some()))
    }

    /// Whether anything is said of the certificates of the URL's host.
    fn is_special(&self, url: &Url) -> bool {
        let settings = &self.settings;
        let host = authority(url);
        settings.ca_files.contains_key(&host)
            || self.identifies(&host)
            || settings.found_certificates.iter().any(|found| found.hosts.include(url))
    }

    /// Whether `host` sees who we are.
    pub(super) fn identifies(&self, host: &str) -> bool {
        self.settings.client_certificates.contains_key(host)
    }

    fn get(&self, trust: Trust, bound: Place) -> Result<Client, HttpError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (trust, bound);
        if let Some(client) = made.get(&key) {
            return Ok(client.clone());
        }
        let client = self.make(&key.0, bound)?;
        made.insert(key, client.clone());
        Ok(client)
    }

    fn make(&self, trust: &Trust, bound: Place) -> Result<Client, HttpError> {
        let builder = self.builder(bound);
        let setup = |source| HttpError::Setup { source: Arc::new(source) };
        match trust {
            Trust::Nobody => builder.tls_certs_only([]).build().map_err(setup),
            Trust::System => builder.build().map_err(setup),
            Trust::Host(url) => {
                let found = self.settings.found_certificates.iter().filter(|found| found.hosts.include(url));
                let mut certificates: Vec<_> = found.flat_map(|found| usable(&found.pem)).collect();
                let host = authority(url);
                certificates.extend(self.certificates(&host)?);
                let builder = builder.tls_certs_merge(certificates);
                let builder = match self.identity(&host)? {
                    Some(identity) => builder.identity(identity),
                    None => builder,
                };
                builder.build().map_err(setup)
            }
        }
    }

    /// What the administrator gives to be shown to `host`.
    fn identity(&self, host: &str) -> Result<Option<Identity>, HttpError> {
        let given = self.settings.client_certificates.get(host);
        let identity = given.map(ClientCertificate::identity).transpose();
        identity.map_err(|fault| HttpError::ClientCertificate { host: host.to_owned(), fault })
    }

    /// The certificates that the administrator gives for `host`.
    fn certificates(&self, host: &str) -> Result<Vec<Certificate>, HttpError> {
        let Some(pem) = self.settings.ca_files.get(host) else { return Ok(Vec::new()) };
        let given = Certificate::from_pem_bundle(pem).map(|given| given.len());
        let broken = |source| Err(HttpError::CaFile { host: host.to_owned(), source });
        match given {
            Err(source) => broken(Some(source)),
            Ok(given) => {
                let usable = usable(pem);
                if given == 0 || usable.len() != given { broken(None) } else { Ok(usable) }
            }
        }
    }

    fn builder(&self, bound: Place) -> ClientBuilder {
        let builder = Client::builder()
            .user_agent(concat!("nixlayer/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(self.settings.connect_timeout)
            // A read timeout of the library would also cut long uploads; a peer that takes no bytes
            // is noticed by the kernel.
            .tcp_user_timeout(self.settings.idle_timeout)
            .dns_resolver(Bounded { resolver: Arc::clone(&self.resolver), bound })
            // The library would look at the environment for proxies.
            .no_proxy();
        match &self.proxy {
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        }
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Clients").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The URL without user information, path and what follows it.
fn host_only(url: &Url) -> Url {
    let mut host = url.clone();
    // Only what has no host refuses these.
    let _ = host.set_username("").and_then(|()| host.set_password(None));
    host.set_path("");
    host.set_query(None);
    host.set_fragment(None);
    host
}

fn proxy(settings: &HttpSettings) -> Result<Option<Proxy>, HttpError> {
    let Some(url) = &settings.https_proxy else { return Ok(None) };
    let proxy = Proxy::https(url.expose());
    let proxy = proxy.map_err(|source| HttpError::Proxy { source: source.without_url() })?;
    Ok(Some(proxy.no_proxy(settings.no_proxy.as_deref().and_then(NoProxy::from_string))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::error::out_of_bounds;
    use super::super::place::tests::Fixed;
    use super::*;

    #[tokio::test]
    async fn a_client_connects_to_nothing_beyond_its_bound() {
        let settings = HttpSettings { connect_timeout: Duration::from_secs(300), ..HttpSettings::default() };
        let addresses = vec!["127.0.0.1".parse().unwrap()];
        let clients = Clients::new(settings, Arc::new(Fixed(addresses))).unwrap();
        for (bound, refused) in [
            (Place::Public, Some(Place::Loopback)),
            (Place::Private, Some(Place::Loopback)),
            (Place::Loopback, None),
            (Place::LinkLocal, None),
        ] {
            for url in ["https://storage.example:1/", "http://storage.example:1/"] {
                let url = Url::parse(url).unwrap();

                let sent = clients.client(&url, bound).unwrap().get(url).send().await;

                let error = sent.unwrap_err();
                assert!(error.is_connect(), "nobody listens there: {error:?}");
                assert_eq!(out_of_bounds(&error), refused, "{bound:?}");
            }
        }
    }
}
