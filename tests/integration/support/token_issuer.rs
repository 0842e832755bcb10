//! A token server for registries: plays GitLab's `/jwt/auth`.
//!
//! A registry that was asked without a token answers 401 and names this server. The client asks it, with its user and
//! password, for the scopes it needs, and gets a JSON Web Token that says which of them it has (distribution's
//! "Token Authentication Specification"). The registry believes it because it is signed: RS256, by a key whose
//! certificate the registry knows and the token carries (`x5c`).

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::process::succeed;

/// The `service` of GitLab's container registry, as the registry's configuration and challenge name it.
pub(crate) const SERVICE: &str = "container_registry";
/// The `issuer` that the registry's configuration names.
pub(crate) const ISSUER: &str = "gitlab-issuer";

/// A user of the token server.
pub(crate) struct Account {
    /// Who may log in.
    pub(crate) user: &'static str,
    /// With what.
    pub(crate) password: &'static str,
    /// Repositories by name, each with the actions that the user's tokens allow there.
    pub(crate) grants: BTreeMap<&'static str, &'static [&'static str]>,
}

/// A token server on a port of its own.
pub(crate) struct TokenIssuer {
    realm: String,
    certificate: String,
    requests: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TokenIssuer {
    /// Starts a server that gives each of `accounts` tokens that expire after `lifetime`.
    ///
    /// The registry takes a token for up to 60 seconds after it expired.
    pub(crate) fn start(accounts: Vec<Account>, lifetime: SignedDuration) -> Self {
        let (signer, certificate) = Signer::new();
        let requests = Arc::new(AtomicUsize::new(0));
        let desk = Desk { accounts, lifetime, signer, requests: Arc::clone(&requests) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let realm = format!("http://{}/jwt/auth", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let app = Router::new().route("/jwt/auth", get(answer)).with_state(Arc::new(desk));
            runtime.block_on(async {
                tokio::select! {
                    served = axum::serve(listener, app).into_future() => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self { realm, certificate, requests, stop: Some(stop), thread: Some(thread) }
    }

    /// Where tokens are asked for.
    pub(crate) fn realm(&self) -> &str {
        &self.realm
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        let url = Url::parse(&self.realm).unwrap();
        format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
    }

    /// The certificate that tokens are checked with, as PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// How often a token was asked for until now, refused requests included.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for TokenIssuer {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the token server panicked");
    }
}

/// What the server knows.
struct Desk {
    accounts: Vec<Account>,
    lifetime: SignedDuration,
    signer: Signer,
    requests: Arc<AtomicUsize>,
}

async fn answer(State(desk): State<Arc<Desk>>, uri: Uri, headers: HeaderMap) -> (StatusCode, String) {
    desk.requests.fetch_add(1, Ordering::SeqCst);
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(account) = desk.accounts.iter().find(|account| given == Some(&basic_authorization(account)))
    else {
        let errors =
            json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "HTTP Basic: Access denied" }] });
        return (StatusCode::UNAUTHORIZED, errors.to_string());
    };
    let url = Url::parse("http://issuer/").unwrap().join(&uri.to_string()).unwrap();
    let access: Vec<Value> = url
        .query_pairs()
        .filter(|(key, _)| key == "scope")
        .filter_map(|(_, scope)| access_to(&scope, account))
        .collect();
    let now = Timestamp::now();
    let token = desk.signer.sign(&json!({
        "iss": ISSUER, "aud": SERVICE, "sub": account.user, "jti": desk.requests.load(Ordering::SeqCst).to_string(),
        "iat": now.as_second(), "nbf": now.as_second() - 5, "exp": (now + desk.lifetime).as_second(),
        "access": access,
    }));
    (StatusCode::OK, json!({ "token": token }).to_string())
}

/// RFC 7617.
fn basic_authorization(account: &Account) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", account.user, account.password)))
}

/// The part of `scope`, such as `repository:team/app:pull,push`, that the account has.
fn access_to(scope: &str, account: &Account) -> Option<Value> {
    let (name, asked) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let granted = account.grants.get(name)?;
    let actions: Vec<_> = asked.split(',').filter(|action| granted.contains(action)).collect();
    Some(json!({ "type": "repository", "name": name, "actions": actions }))
}

/// Signs tokens with a key made for the occasion.
struct Signer {
    key: RsaKeyPair,
    header: Value,
}

impl Signer {
    /// A new key, and its certificate as PEM.
    fn new() -> (Self, String) {
        let folder = TempDir::new().unwrap();
        let request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=token-issuer -keyout key.pem -out certificate.pem";
        succeed(
            Command::new("openssl").args(request.split(' ')).current_dir(folder.path()).output().unwrap(),
        );
        let pem = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let certificate = pem("certificate.pem");
        let key = STANDARD.decode(base64_of(&pem("key.pem"))).unwrap();
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [base64_of(&certificate)] });
        (Self { key: RsaKeyPair::from_pkcs8(&key).unwrap(), header }, certificate)
    }

    /// The compact form (RFC 7515, section 7.1) of a token with these claims.
    fn sign(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&self.header), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The base64 between the first and last line of a PEM file that holds one object.
fn base64_of(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}
