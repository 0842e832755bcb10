//! Sends requests, and follows redirects within the rules.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::dns::Resolve;
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Client, Method, Url};
use tokio::time::sleep;

use super::body::Sending;
use super::clients::Clients;
use super::error::{client_refused, no_connection, out_of_bounds};
use super::place::Place;
use super::resolver::SystemResolver;
use super::{HttpError, HttpSettings, Notice, Patience, RedirectRule, Request, Response, authority, shown};
use crate::secret::Secret;

/// Registries send one redirect, to their storage; a few more are no attack yet.
const MOST_REDIRECTS: usize = 5;

/// How often a host that does not exist is looked for once more.
const MORE_LOOKS: u32 = 3;

/// The slowest upload that still counts as progress, in bytes per second.
const SLOWEST_UPLOAD: u64 = 64 * 1024;

/// The HTTP client; see the [module](super).
#[derive(Debug)]
pub struct Http {
    clients: Clients,
    plain_http: BTreeSet<String>,
    trusted_hosts: BTreeSet<String>,
    idle_timeout: Duration,
    patience: Patience,
    notice: Notice,
    set_up: (Timestamp, Instant),
    jitter: AtomicU64,
}

impl Http {
    /// Sets the client up. Certificates and the proxy's URL are checked here.
    pub fn new(settings: HttpSettings) -> Result<Self, HttpError> {
        Self::with_resolver(settings, Arc::new(SystemResolver::default()))
    }

    /// The same with another name service.
    fn with_resolver(settings: HttpSettings, resolver: Arc<dyn Resolve>) -> Result<Self, HttpError> {
        Ok(Self {
            plain_http: settings.plain_http.clone(),
            trusted_hosts: settings.trusted_hosts.clone(),
            idle_timeout: settings.idle_timeout,
            patience: settings.patience,
            notice: settings.notice.clone(),
            set_up: (settings.now, Instant::now()),
            jitter: AtomicU64::new(settings.now.as_nanosecond() as u64),
            clients: Clients::new(settings, resolver)?,
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
        let mut bound = Place::LinkLocal;
        let mut redirected_by: Option<Url> = None;
        for _ in 0..=MOST_REDIRECTS {
            let sent = self.send_to_host(&request, bound).await;
            let response = sent.map_err(|error| self.told(error, redirected_by.as_ref(), &request.url))?;
            let Some(target) = redirect_target(&request, &response) else { return Ok(response) };
            let from = request.url.clone();
            let refused = |rule| Err(redirect(&from, &target, rule));
            if from.scheme() == "https" && target.scheme() != "https" {
                return refused(RedirectRule::LeavesHttps);
            }
            if !self.admits(&target) {
                return refused(RedirectRule::NotEncrypted);
            }
            bound = self.bound(&response, &target);
            if let Some(place) = Place::of_url(&target).filter(|place| *place > bound) {
                return refused(RedirectRule::Beyond(place));
            }
            if target.origin() != from.origin() {
                request.authorization = None;
            }
            redirected_by = Some(from);
            request.url = target;
        }
        Err(redirect(&request.url, &request.url, RedirectRule::TooMany))
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

    /// The error of a request to `url`, with what only is clear from the way there.
    fn told(&self, error: HttpError, redirected_by: Option<&Url>, url: &Url) -> HttpError {
        if let (Some(from), Some(place)) = (redirected_by, out_of_bounds(&error)) {
            return redirect(from, url, RedirectRule::Beyond(place));
        }
        match client_refused(&error) {
            Some(source) => {
                let host = authority(url);
                HttpError::ClientRefused { shown: self.clients.identifies(&host), host, source }
            }
            None => error,
        }
    }

    /// How far the server that answered may send us with a redirect to `target`: as far as it is away itself,
    /// or where the administrator wants us to go; to link-local addresses in no case.
    fn bound(&self, response: &Response, target: &Url) -> Place {
        let host = authority(target);
        if self.plain_http.contains(&host) || self.trusted_hosts.contains(&host) {
            return Place::Loopback;
        }
        let from = response.url();
        // Behind a proxy, the other end of the connection is the proxy's.
        let peer = response.inner.remote_addr().filter(|_| !self.clients.is_proxied(from));
        let place = peer.map(|peer| Place::of(peer.ip())).or_else(|| Place::of_url(from));
        place.unwrap_or(Place::Public).min(Place::Loopback)
    }

    /// As [`send_once`](Self::send_once). A host that is said not to exist is looked for a few times at once: that
    /// seldom changes, and nobody else tries again for it.
    async fn send_to_host(&self, request: &Request, bound: Place) -> Result<Response, HttpError> {
        let mut retries = self.retries();
        let mut left = MORE_LOOKS;
        loop {
            let error = match self.send_once(request, bound).await {
                Err(error) if error.is_of_no_host() => error,
                sent => return sent,
            };
            if left == 0 || !retries.pause(None, &error.in_short()).await {
                return Err(error);
            }
            left -= 1;
        }
    }

    async fn send_once(&self, request: &Request, bound: Place) -> Result<Response, HttpError> {
        let url = &request.url;
        let mut builder = self.client(url, bound)?.request(request.method.clone(), url.clone());
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

    fn client(&self, url: &Url, bound: Place) -> Result<Client, HttpError> {
        if !self.admits(url) {
            return Err(HttpError::NotEncrypted { url: shown(url) });
        }
        self.clients.client(url, bound)
    }
}

fn redirect(from: &Url, to: &Url, rule: RedirectRule) -> HttpError {
    HttpError::Redirect { from: shown(from), to: shown(to), rule }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use reqwest::StatusCode;

    use super::super::place::tests::Fixed;
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

    /// A server in this machine that redirects to `target`, reached by a name, and what comes of it if all
    /// names lead to `addresses` then.
    async fn redirected(
        target: &str,
        addresses: &[&str],
        trusted_hosts: &[&str],
    ) -> Result<Response, HttpError> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let location = target.to_owned();
        let answer = move || std::future::ready((StatusCode::FOUND, [(LOCATION, location.clone())]));
        let router = axum::Router::new().fallback(answer);
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let from = format!("127.0.0.1:{port}");
        let settings = HttpSettings {
            plain_http: BTreeSet::from([from.clone()]),
            trusted_hosts: trusted_hosts.iter().map(|host| (*host).to_owned()).collect(),
            connect_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(300),
            ..HttpSettings::default()
        };
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let http = Http::with_resolver(settings, Arc::new(Fixed(addresses))).unwrap();

        let sent = http.send(Request::get(url(&format!("http://{from}/")))).await;

        server.abort();
        sent
    }

    #[tokio::test]
    async fn no_redirect_leads_to_a_link_local_address_whatever_is_listed() {
        for (target, addresses) in [
            ("https://169.254.169.254/latest/meta-data", &[][..]),
            ("https://[fd00:ec2::254]/latest/meta-data", &[]),
            ("https://[fe80::1]/", &[]),
            ("https://2852039166/", &[]),
            ("https://metadata.example/", &["169.254.169.254"]),
            ("https://metadata.example/", &["fd00:ec2::254", "fe80::1"]),
        ] {
            let listed = authority(&url(target));

            let error = redirected(target, addresses, &[&listed]).await.unwrap_err();

            let HttpError::Redirect { to, rule: RedirectRule::Beyond(Place::LinkLocal), .. } = &error else {
                panic!("{target}: {error:?}")
            };
            assert_eq!(to, &shown(&url(target)));
        }
    }

    #[tokio::test]
    async fn what_is_at_a_near_address_may_lead_to_another() {
        let error = redirected("https://storage.example:9/", &["127.0.0.1"], &[]).await.unwrap_err();

        assert!(matches!(error, HttpError::Connect { .. }), "it is tried: {error:?}");
    }
}
