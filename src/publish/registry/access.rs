//! Gets tokens from the registry's token endpoint, and keeps them while they are good.
//!
//! 1. `GET /v2/` is answered with a challenge that names the endpoint (the *realm*).
//! 2. The endpoint gets user and password, and gives a token for one scope.
//! 3. The token is used until shortly before it expires, by all requests of that scope. Only one
//!    request per scope is on its way to the endpoint at any time; a final refusal is remembered,
//!    so that a wrong password is sent once and not once per layer.
//!
//! Registries that want user and password with every request are served in the same way: the
//! pair is tried once on `/v2/` and then used like a token that never expires.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Credentials;
use super::challenge::Challenge;
use super::token::Token;
use crate::http::{Http, Request, Response, Retries, StatusCode, Url, authority, header, shown};
use crate::oci::Repository;
use crate::publish::{Answer, AuthError, PublishError, Refusal};
use crate::secret::Secret;

/// Tokens have a few kilobytes.
const MOST_TOKEN: usize = 64 * 1024;

/// Answers without a token in a row, after which there will be none.
const MOST_UNREADABLE: u32 = 6;

/// What a request is about to do in a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope {
    /// The repository.
    pub(super) repository: Repository,
    /// Whether it writes there.
    pub(super) push: bool,
    /// A repository that it takes blobs from.
    pub(super) from: Option<Repository>,
}

/// The way into one registry.
#[derive(Debug)]
pub(super) struct Access {
    http: Arc<Http>,
    registry: String,
    credentials: Credentials,
    realm_hosts: BTreeSet<String>,
    door: Mutex<Option<Door>>,
    keys: std::sync::Mutex<BTreeMap<Scope, Arc<Mutex<Key>>>>,
}

/// What the registry wants to see; learnt from its first answer.
#[derive(Clone, Debug)]
enum Door {
    Open,
    Closed(Challenge),
}

/// What we have to show for a scope.
#[derive(Debug)]
enum Key {
    Missing,
    Ready { authorization: Authorization, until: Option<Instant> },
    Refused(AuthError),
}

/// The value of an `Authorization` header; none where the registry asks for nothing.
pub(super) type Authorization = Option<Arc<Secret>>;

impl Access {
    pub(super) fn new(
        http: Arc<Http>,
        registry: &str,
        credentials: Credentials,
        realm_hosts: BTreeSet<String>,
    ) -> Self {
        Self {
            http,
            registry: registry.to_owned(),
            credentials,
            realm_hosts,
            door: Mutex::new(None),
            keys: std::sync::Mutex::default(),
        }
    }

    /// What to show for `scope`: a token we have, or a new one. Asking for it is part of the work that `retries`
    /// are for.
    pub(super) async fn authorization(
        &self,
        scope: &Scope,
        retries: &mut Retries<'_>,
    ) -> Result<Authorization, PublishError> {
        let key = self.key(scope);
        let mut key = key.lock().await;
        match &*key {
            Key::Ready { authorization, until } if until.is_none_or(|until| Instant::now() < until) => {
                return Ok(authorization.clone());
            }
            Key::Refused(error) => return Err(error.clone().into()),
            Key::Ready { .. } | Key::Missing => {}
        }
        match self.ask(scope, retries).await {
            Ok((authorization, until)) => {
                *key = Key::Ready { authorization: authorization.clone(), until };
                Ok(authorization)
            }
            Err(error) => {
                if let PublishError::Auth(refusal) = &error
                    && !refusal.is_transient()
                {
                    *key = Key::Refused(refusal.clone());
                }
                Err(error)
            }
        }
    }

    /// Takes note that `response` is a 401 to a request that showed `used`.
    pub(super) async fn rejected(&self, scope: &Scope, used: &Authorization, response: &Response) {
        if let Some(challenge) = challenge(response) {
            *self.door.lock().await = Some(Door::Closed(challenge));
        }
        let key = self.key(scope);
        let mut key = key.lock().await;
        let is_used = |kept: &Authorization| match (kept, used) {
            (Some(kept), Some(used)) => Arc::ptr_eq(kept, used),
            (None, None) => true,
            _ => false,
        };
        // Another request may have fetched a new token in the meantime.
        if matches!(&*key, Key::Ready { authorization, .. } if is_used(authorization)) {
            *key = Key::Missing;
        }
    }

    /// Reads what the registry says instead of what was expected.
    pub(super) async fn answer(&self, response: Response) -> Box<Answer> {
        Box::new(Answer::read(response, &self.credentials.secrets()).await)
    }

    fn key(&self, scope: &Scope) -> Arc<Mutex<Key>> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(keys.entry(scope.clone()).or_insert_with(|| Arc::new(Mutex::new(Key::Missing))))
    }

    async fn ask(
        &self,
        scope: &Scope,
        retries: &mut Retries<'_>,
    ) -> Result<(Authorization, Option<Instant>), PublishError> {
        match self.door(retries).await? {
            Door::Open => Ok((None, None)),
            Door::Closed(Challenge::Basic) => Ok((Some(self.try_basic(retries).await?), None)),
            Door::Closed(Challenge::Bearer { realm, service }) => {
                let asked = Instant::now();
                let token = self.fetch(&realm, service.as_deref(), scope, retries).await?;
                let authorization = Secret::from(format!("Bearer {}", token.value.expose()));
                Ok((Some(Arc::new(authorization)), Some(asked + token.use_for())))
            }
        }
    }

    async fn door(&self, retries: &mut Retries<'_>) -> Result<Door, PublishError> {
        let mut door = self.door.lock().await;
        if let Some(door) = &*door {
            return Ok(door.clone());
        }
        let request = Request::get(self.http.url(&self.registry, "/v2/")?);
        let response = retries.send(&request).await?;
        let found = match response.status() {
            StatusCode::OK => Door::Open,
            StatusCode::UNAUTHORIZED => match challenge(&response) {
                Some(challenge) => Door::Closed(challenge),
                None => {
                    let challenges: Vec<_> = response.headers(header::WWW_AUTHENTICATE).collect();
                    let challenge = challenges.join(", ").chars().take(200).collect();
                    return Err(AuthError::Challenge { registry: self.registry.clone(), challenge }.into());
                }
            },
            _ => {
                let answer = self.answer(response).await;
                return Err(PublishError::Refused { what: format!("`/v2/` on `{}`", self.registry), answer });
            }
        };
        Ok(door.insert(found).clone())
    }

    /// Tries user and password on the registry itself.
    async fn try_basic(&self, retries: &mut Retries<'_>) -> Result<Arc<Secret>, PublishError> {
        let basic = self.credentials.basic();
        let basic = basic.ok_or_else(|| AuthError::CredentialsMissing { registry: self.registry.clone() })?;
        let request = Request::get(self.http.url(&self.registry, "/v2/")?);
        let request = request.authorization(Some(Arc::clone(&basic)));
        let response = retries.send(&request).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let answer = self.answer(response).await;
            return Err(AuthError::CredentialsRefused { registry: self.registry.clone(), answer }.into());
        }
        Ok(basic)
    }

    /// Asks the token endpoint (distribution's token specification; GitLab's `/jwt/auth`).
    async fn fetch(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &Scope,
        retries: &mut Retries<'_>,
    ) -> Result<Token, PublishError> {
        let mut url = self.realm(realm)?;
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        for scope in scope.texts() {
            url.query_pairs_mut().append_pair("scope", &scope);
        }
        let host = authority(&url);
        let request = Request::get(url).authorization(self.credentials.basic());
        let mut unreadable = 0;
        let token = loop {
            let response = retries.send(&request).await?;
            if response.status() != StatusCode::OK {
                let answer = self.answer(response).await;
                return Err(self.refused(scope, answer).into());
            }
            let body = match response.body(MOST_TOKEN).await {
                Ok(body) => body,
                Err(error) if error.may_recover() && retries.pause(None, &error.in_short()).await => continue,
                Err(error) => return Err(error.into()),
            };
            if let Some(token) = Token::parse(&body) {
                break token;
            }
            // Half an answer that says that it is a whole one has no token, and neither has a page of somebody else's.
            let error = AuthError::TokenUnreadable { host: host.clone() };
            unreadable += 1;
            if unreadable == MOST_UNREADABLE || !retries.pause(None, &error.to_string()).await {
                return Err(error.into());
            }
        };
        let own = (&scope.repository, if scope.push { "push" } else { "pull" });
        for (repository, action) in [own].into_iter().chain(scope.from.iter().map(|from| (from, "pull"))) {
            if let Some(granted) = token.granted(repository.name())
                && !granted.iter().any(|granted| granted == action || granted == "*")
            {
                let repository = repository.to_string();
                let refusal = AuthError::NotGranted { repository, action, granted };
                return Err(self.missing().unwrap_or(refusal).into());
            }
        }
        Ok(token)
    }

    /// The token endpoint's URL, if the credentials may go there.
    fn realm(&self, realm: &str) -> Result<Url, PublishError> {
        let url = Request::url(realm)?;
        let (registry, realm) = (self.registry.clone(), shown(&url));
        if !self.http.admits(&url) {
            return Err(AuthError::PlainRealm { registry, realm, host: authority(&url) }.into());
        }
        // A host may run other people's servers on other ports.
        let is_there =
            |host: &String| self.http.url(host, "/").is_ok_and(|known| authority(&known) == authority(&url));
        if !std::iter::once(&self.registry).chain(&self.realm_hosts).any(is_there) {
            return Err(AuthError::ForeignRealm { registry, realm }.into());
        }
        Ok(url)
    }

    fn refused(&self, scope: &Scope, answer: Box<Answer>) -> AuthError {
        let registry = self.registry.clone();
        let repository = scope.repository.to_string();
        match (answer.status, answer.refusal()) {
            (404, Refusal::Unavailable) => AuthError::NotEnabled { registry, answer },
            (401, _) | (_, Refusal::Unauthorized) => {
                self.missing().unwrap_or(AuthError::CredentialsRefused { registry, answer })
            }
            (_, Refusal::Denied) => self.missing().unwrap_or(AuthError::Denied { repository, answer }),
            _ => AuthError::NoToken { repository, answer },
        }
    }

    /// What a refusal means to whoever has shown nothing.
    fn missing(&self) -> Option<AuthError> {
        let nobody = matches!(self.credentials, Credentials::Anonymous);
        nobody.then(|| AuthError::CredentialsMissing { registry: self.registry.clone() })
    }
}

fn challenge(response: &Response) -> Option<Challenge> {
    Challenge::parse(response.headers(header::WWW_AUTHENTICATE))
}

impl Credentials {
    /// The value of `Authorization` for user and password (RFC 7617).
    fn basic(&self) -> Authorization {
        match self {
            Self::Anonymous => None,
            Self::Password { user, password } => {
                let pair = Secret::from(format!("{user}:{}", password.expose()));
                Some(Arc::new(Secret::from(format!("Basic {}", STANDARD.encode(pair.expose())))))
            }
        }
    }

    /// What no message may hold: the password, and how it travels.
    fn secrets(&self) -> Vec<Secret> {
        let Self::Password { user, password } = self else { return Vec::new() };
        let pair = Secret::from(format!("{user}:{}", password.expose()));
        vec![Secret::from(password.expose()), Secret::from(STANDARD.encode(pair.expose()))]
    }
}

impl Scope {
    /// As the token endpoint wants them, one parameter each.
    fn texts(&self) -> impl Iterator<Item = String> {
        let actions = if self.push { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{actions}", self.repository.name());
        let from = self.from.as_ref().map(|from| format!("repository:{}:pull", from.name()));
        std::iter::once(own).chain(from)
    }
}
