//! Tokens as GitLab gives them at `/jwt/auth`: a user who may not push gets a token that does not
//! say `push`, not an error.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::reply::{Reply, content, error, with};
use super::{RegistrySettings, Shared, User};

/// The tokens that were given out.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    given: BTreeMap<String, Given>,
}

#[derive(Debug)]
struct Given {
    until: Instant,
    actions: BTreeMap<String, BTreeSet<String>>,
}

impl Shared {
    /// Answers a request for a token whose query is `query`.
    pub(super) fn give_token(&self, headers: &HeaderMap, query: &[(String, String)]) -> Reply {
        let Ok(user) = user(&self.settings, headers) else {
            return error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "HTTP Basic: Access denied");
        };
        let mut actions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (_, scope) in query.iter().filter(|(name, _)| name == "scope") {
            let Some((repository, asked)) = repository_scope(scope) else { continue };
            let may_push = user.is_some_and(|user| user.may_push_to(repository));
            let may_pull = user.is_none_or(|user| user.may_pull_from(repository));
            let granted = asked
                .split(',')
                .filter(|action| *action == "pull" && may_pull || *action == "push" && may_push);
            actions.entry(repository.to_owned()).or_default().extend(granted.map(str::to_owned));
        }
        let lifetime = self.settings.token_lifetime;
        let mut state = self.state();
        let number = state.tokens.given.len();
        let access: Vec<_> = actions
            .iter()
            .filter(|(_, actions)| !actions.is_empty())
            .map(|(name, actions)| json!({ "type": "repository", "name": name, "actions": actions }))
            .collect();
        // Any start will do, for a token's life is the difference of these two.
        let claims =
            json!({ "jti": number.to_string(), "iat": 0, "exp": lifetime.as_secs(), "access": access });
        let token = format!("{}.{}.{}", part(&json!({ "alg": "none" })), part(&claims), part(&json!(number)));
        state.tokens.given.insert(token.clone(), Given { until: Instant::now() + lifetime, actions });
        content("application/json", json!({ "token": token }).to_string())
    }

    /// The refusal of a request that lacks what it `need`s: an action in a repository, or
    /// just a token that is good.
    pub(super) fn refusal(&self, headers: &HeaderMap, need: Option<(&str, &str)>) -> Option<Reply> {
        let state = self.state();
        let given = authorization(headers, "Bearer ").and_then(|token| state.tokens.given.get(token));
        let good = given.filter(|given| Instant::now() < given.until);
        let permitted = good.is_some_and(|given| {
            need.is_none_or(|(repository, action)| {
                given.actions.get(repository).is_some_and(|actions| actions.contains(action))
            })
        });
        if permitted {
            return None;
        }
        let origin = self.origin(headers);
        let challenge = format!(r#"Bearer realm="{origin}/jwt/auth",service="container_registry""#);
        let reply = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        Some(with(reply, "www-authenticate", &challenge))
    }
}

/// The user whose name and password the request shows; none where it shows nothing.
fn user<'a>(settings: &'a RegistrySettings, headers: &HeaderMap) -> Result<Option<&'a User>, ()> {
    if !headers.contains_key(header::AUTHORIZATION) {
        return Ok(None);
    }
    let pair = authorization(headers, "Basic ").and_then(|pair| STANDARD.decode(pair).ok());
    let pair = pair.and_then(|pair| String::from_utf8(pair).ok()).ok_or(())?;
    let (name, password) = pair.split_once(':').ok_or(())?;
    settings.users.get(name).filter(|user| user.password == password).map(Some).ok_or(())
}

fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix(scheme)
}

fn repository_scope(scope: &str) -> Option<(&str, &str)> {
    scope.strip_prefix("repository:")?.rsplit_once(':')
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
