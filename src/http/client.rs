//! Sends requests, and follows redirects within the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Certificate, Client, ClientBuilder, Method, NoProxy, Proxy, Url, redirect};
use tokio::time::sleep;

use super::body::Sending;
use super::error::no_connection;
use super::{HttpError, HttpSettings, Notice, Patience, Request, Response, authority, shown};
use crate::secret::Secret;

/// Registries send one redirect, to their storage; a few more are no attack yet.
const MOST_REDIRECTS: usize = 5;

/// The slowest upload that still counts as progress, in bytes per second.
const SLOWEST_UPLOAD: u64 = 64 * 1024;

/// The HTTP client; see the [module](super).
#[derive(Debug)]
pub struct Http {
    /// For plain HTTP: knows no certificates, so that it cannot speak HTTPS by mistake.
    plain: Client,
    /// For HTTPS with the system's certificates. Without any, the first HTTPS request reports it.
    secure: Result<Client, Arc<reqwest::Error>>,
    /// For hosts with certificates of their own.
    by_host: BTreeMap<String, Client>,
    plain_http: BTreeSet<String>,
    idle_timeout: Duration,
    patience: Patience,
    notice: Notice,
    set_up: (Timestamp, Instant),
    jitter: AtomicU64,
}

impl Http {
    /// Sets the client up. Certificates and the proxy's URL are checked here.
    pub fn new(settings: HttpSettings) -> Result<Self, HttpError> {
        // An error means that another client of this process has installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let proxy = proxy(&settings)?;
        let builder = || builder(&settings, proxy.clone());
        let setup = |source| HttpError::Setup { source: Arc::new(source) };
        let plain = builder().tls_certs_only([]).build().map_err(setup)?;
        let mut by_host = BTreeMap::new();
        for (host, pem) in &settings.ca_files {
            let broken = |source| HttpError::CaFile { host: host.clone(), source };
            let certificates = Certificate::from_pem_bundle(pem).map_err(|source| broken(Some(source)))?;
            if certificates.is_empty() {
                return Err(broken(None));
            }
            let client = builder().tls_certs_merge(certificates).build();
            by_host.insert(host.clone(), client.map_err(|source| broken(Some(source)))?);
        }
        let secure = builder().build().map_err(Arc::new);
        Ok(Self {
            plain,
            secure,
            by_host,
            plain_http: settings.plain_http,
            idle_timeout: settings.idle_timeout,
            patience: settings.patience,
            notice: settings.notice,
            set_up: (settings.now, Instant::now()),
            jitter: AtomicU64::new(settings.now.as_nanosecond() as u64),
        })
    }

    /// Whether `url` may be asked: it is HTTPS, or plain HTTP to a host listed for that.
    pub fn admits(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => true,
            "http" => self.plain_http.contains(&authority(url)),
            _ => false,
        }
    }

    /// The URL of `path` (with its leading slash) on `host`, a name with an optional port: HTTPS,
    /// unless the host is listed for plain HTTP.
    pub fn url(&self, host: &str, path: &str) -> Result<Url, HttpError> {
        let scheme = if self.plain_http.contains(host) { "http" } else { "https" };
        Request::url(&format!("{scheme}://{host}{path}"))
    }

    /// Sends `request` and waits for the head of the answer, whatever its status. `GET` and `HEAD`
    /// follow redirects; `Authorization` stays with the origin it was meant for.
    pub async fn send(&self, request: Request) -> Result<Response, HttpError> {
        let mut request = request;
        for _ in 0..=MOST_REDIRECTS {
            let response = self.send_once(&request).await?;
            let Some(target) = redirect_target(&request, &response) else { return Ok(response) };
            let from = &request.url;
            let refused = |reason| HttpError::Redirect { from: shown(from), to: shown(&target), reason };
            if from.scheme() == "https" && target.scheme() != "https" {
                return Err(refused("it leaves HTTPS"));
            }
            if !self.admits(&target) {
                return Err(refused("it is not encrypted"));
            }
            if target.host() != from.host() && is_internal(&target) && !self.is_named(&target) {
                return Err(refused("it leads to an address inside the network"));
            }
            if target.origin() != from.origin() {
                request.authorization = None;
            }
            request.url = target;
        }
        Err(HttpError::Redirect {
            from: shown(&request.url),
            to: shown(&request.url),
            reason: "there are too many in a row",
        })
    }

    /// How long a server may be silent.
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    pub(super) fn notice(&self) -> &Notice {
        &self.notice
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// The time, as far as it can be told from that of the set-up.
    fn now(&self) -> Timestamp {
        let (at, then) = self.set_up;
        at.saturating_add(then.elapsed()).unwrap_or(at)
    }

    /// Some time up to `longest`, each time another one.
    pub(super) fn jitter(&self, longest: Duration) -> Duration {
        // SplitMix64: good enough to keep clients apart, and no secret.
        let mut bits = self.jitter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        longest.mul_f64((bits >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Whether the administrator named the host, and so wants it spoken to.
    fn is_named(&self, url: &Url) -> bool {
        let host = authority(url);
        self.plain_http.contains(&host) || self.by_host.contains_key(&host)
    }

    async fn send_once(&self, request: &Request) -> Result<Response, HttpError> {
        let url = &request.url;
        let mut builder = self.client(url)?.request(request.method.clone(), url.clone());
        builder = builder.headers(request.headers.clone());
        if let Some(value) = request.authorization.as_deref().and_then(header_value) {
            builder = builder.header(AUTHORIZATION, value);
        }
        let progress = Arc::new(AtomicU64::new(0));
        let mut length = 0;
        if let Some(body) = &request.body {
            length = body.len();
            builder = builder.body(reqwest::Body::wrap(Sending::new(body, Arc::clone(&progress))));
        }
        let host = || authority(url);
        let thinking = request.thinking.unwrap_or(self.idle_timeout);
        let whole = thinking + Duration::from_secs(length / SLOWEST_UPLOAD);
        tokio::select! {
            sent = builder.send() => match sent {
                Ok(inner) => Ok(Response { inner, idle_timeout: self.idle_timeout, received: self.now() }),
                Err(error) if error.is_connect() => Err(no_connection(host(), error)),
                Err(error) => Err(HttpError::Broken { host: host(), source: error.without_url() }),
            },
            after = self.stalled(&progress, length, thinking) => Err(HttpError::Silent { host: host(), after }),
            () = sleep(whole) => Err(HttpError::Silent { host: host(), after: whole }),
        }
    }

    /// Waits until nothing has moved for too long: neither a byte of the request's body of `length`, nor,
    /// once that is gone, the server, which may think for some time.
    async fn stalled(&self, progress: &AtomicU64, length: u64, thinking: Duration) -> Duration {
        let mut seen = (progress.load(Ordering::Relaxed), Instant::now());
        loop {
            sleep(self.idle_timeout / 8).await;
            let gone = progress.load(Ordering::Relaxed);
            if gone != seen.0 {
                seen = (gone, Instant::now());
            }
            let most = if gone < length { self.idle_timeout } else { thinking };
            if seen.1.elapsed() >= most {
                return most;
            }
        }
    }

    fn client(&self, url: &Url) -> Result<&Client, HttpError> {
        if !self.admits(url) {
            return Err(HttpError::NotEncrypted { url: shown(url) });
        }
        if url.scheme() == "http" {
            return Ok(&self.plain);
        }
        match self.by_host.get(&authority(url)) {
            Some(client) => Ok(client),
            None => self.secure.as_ref().map_err(|source| HttpError::Setup { source: Arc::clone(source) }),
        }
    }
}

fn builder(settings: &HttpSettings, proxy: Option<Proxy>) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(concat!("nixlayer/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(settings.connect_timeout)
        // A read timeout of the library would also cut long uploads; a peer that takes no bytes
        // is noticed by the kernel.
        .tcp_user_timeout(settings.idle_timeout)
        // The library would look at the environment for proxies.
        .no_proxy();
    match proxy {
        Some(proxy) => builder.proxy(proxy),
        None => builder,
    }
}

fn proxy(settings: &HttpSettings) -> Result<Option<Proxy>, HttpError> {
    let Some(url) = &settings.https_proxy else { return Ok(None) };
    let proxy = Proxy::https(url.expose());
    let proxy = proxy.map_err(|source| HttpError::Proxy { source: source.without_url() })?;
    Ok(Some(proxy.no_proxy(settings.no_proxy.as_deref().and_then(NoProxy::from_string))))
}

fn header_value(secret: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(secret.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Where the answer sends a request that asks only; one that changes something goes nowhere else.
fn redirect_target(request: &Request, response: &Response) -> Option<Url> {
    let asks = matches!(request.method, Method::GET | Method::HEAD);
    if !asks || !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    request.url.join(response.header(LOCATION)?).ok().filter(Url::has_host)
}

/// Whether the URL names an address that only machines inside a network can reach. A public
/// registry that redirects there wants to use us as its arm.
fn is_internal(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address.map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => {
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_broadcast()
        }
        Ok(IpAddr::V6(address)) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn plain_http_is_for_listed_hosts_only() {
        let plain_http = BTreeSet::from(["127.0.0.1:5000".to_owned(), "plain.example".to_owned()]);
        let http = Http::new(HttpSettings { plain_http, ..HttpSettings::default() }).unwrap();

        assert!(http.admits(&url("http://127.0.0.1:5000/v2/")));
        assert!(http.admits(&url("http://plain.example:80/")));
        assert!(http.admits(&url("https://anything.example/")));
        assert!(!http.admits(&url("http://127.0.0.1:5001/v2/")));
        assert!(!http.admits(&url("http://plain.example:81/")));
        assert!(!http.admits(&url("ftp://plain.example/")));
        assert_eq!(http.url("127.0.0.1:5000", "/v2/").unwrap(), url("http://127.0.0.1:5000/v2/"));
        assert_eq!(http.url("registry.example", "/v2/").unwrap(), url("https://registry.example/v2/"));
    }

    #[test]
    fn a_broken_ca_file_is_named_by_its_host() {
        for pem in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let ca_files = BTreeMap::from([("registry.example".to_owned(), pem.into())]);
            let error = Http::new(HttpSettings { ca_files, ..HttpSettings::default() }).unwrap_err();

            assert_eq!(
                error.to_string(),
                "the CA file for `registry.example` does not hold PEM certificates",
                "{pem:?}"
            );
        }
    }

    #[test]
    fn a_broken_proxy_is_an_error_without_its_password() {
        let https_proxy = Some(Secret::from("http://user:canary@ho st:x/"));
        let error = Http::new(HttpSettings { https_proxy, ..HttpSettings::default() }).unwrap_err();

        let HttpError::Proxy { source } = &error else { panic!("{error:?}") };
        assert!(!format!("{error:?} {source:?} {source}").contains("canary"));
    }

    #[test]
    fn addresses_inside_a_network_are_known() {
        for internal in [
            "http://127.0.0.1/",
            "http://10.1.2.3/",
            "http://192.168.0.1/",
            "http://169.254.169.254/",
            "http://0.0.0.0/",
            "http://2130706433/",
            "http://[::]/",
            "http://[::1]/",
            "http://[fe80::1]/",
            "http://[fd00::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://localhost/",
        ] {
            assert!(is_internal(&url(internal)), "{internal}");
        }
        for public in ["http://192.0.2.1/", "http://[2001:db8::1]/", "http://storage.example/"] {
            assert!(!is_internal(&url(public)), "{public}");
        }
    }
}
