//! A bearer token as its endpoint gives it: how long it is good, and what it grants.
//!
//! GitLab's endpoint gives no `expires_in`, and a token with fewer rights than asked for instead
//! of an error; both facts are inside the token, which is a JSON Web Token (RFC 7519). Registries
//! whose tokens cannot be read get the benefit of the doubt.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::secret::Secret;

/// How long a token counts when nobody says (distribution's token specification).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// No job lasts longer, and a clock can count that far.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A token for a scope.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// The token itself.
    pub(super) value: Arc<Secret>,
    /// For how long after it was given it counts.
    pub(super) lifetime: Duration,
    /// The actions it grants, by repository; none where the token does not say.
    access: Option<Vec<Access>>,
}

#[derive(Deserialize)]
struct Endpoint {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Claims {
    iat: Option<f64>,
    exp: Option<f64>,
    access: Option<Vec<Access>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Access {
    r#type: String,
    name: String,
    actions: Vec<String>,
}

impl Token {
    /// Reads the body of a token endpoint's answer.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let endpoint: Endpoint = serde_json::from_slice(body).ok()?;
        let value = Secret::from(endpoint.token.or(endpoint.access_token).filter(|text| !text.is_empty())?);
        let claims = claims(value.expose());
        let said = endpoint.expires_in.map(Duration::from_secs);
        let lifetime = claims.as_ref().and_then(Claims::lifetime).or(said).unwrap_or(DEFAULT_LIFETIME);
        let lifetime = lifetime.min(LONGEST_LIFETIME);
        Some(Self { value: Arc::new(value), lifetime, access: claims.and_then(|claims| claims.access) })
    }

    /// The actions on `repository` that the token grants, where it says.
    pub(super) fn granted(&self, repository: &str) -> Option<Vec<String>> {
        let access = self.access.as_ref()?.iter();
        let ours = access.filter(|access| access.r#type == "repository" && access.name == repository);
        Some(ours.flat_map(|access| access.actions.iter().cloned()).collect())
    }

    /// How long the token is used: a tenth of its life, at most 10 seconds, is left for the last
    /// request to arrive in.
    pub(super) fn use_for(&self) -> Duration {
        self.lifetime - (self.lifetime / 10).min(Duration::from_secs(10))
    }
}

impl Claims {
    /// From issue to expiry, both by the clock of the server, so that ours may be wrong.
    fn lifetime(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.exp? - self.iat?).ok()
    }
}

fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn answer(claims: &Value) -> Vec<u8> {
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        json!({ "token": format!("e30.{payload}.c2ln") }).to_string().into_bytes()
    }

    /// The example of RFC 7519, section 3.1, is a token that says nothing of repositories.
    #[test]
    fn the_token_of_the_standard_is_read() {
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

        let exp = claims(token).unwrap().exp;

        assert_eq!(exp, Some(1_300_819_380.0));
    }

    #[test]
    fn a_token_lives_from_issue_to_expiry() {
        let token = Token::parse(&answer(&json!({ "iat": 1000, "exp": 1300 }))).unwrap();

        assert_eq!(token.lifetime, Duration::from_secs(300));
        assert_eq!(token.use_for(), Duration::from_secs(290));
    }

    #[test]
    fn a_short_token_is_used_for_nine_tenths_of_its_life() {
        let token = Token::parse(&answer(&json!({ "iat": 1000, "exp": 1002 }))).unwrap();

        assert_eq!(token.use_for(), Duration::from_millis(1800));
    }

    #[test]
    fn without_claims_the_answer_or_the_standard_says_how_long() {
        for (body, seconds) in [
            (r#"{"token":"opaque"}"#, 60),
            (r#"{"access_token":"opaque","expires_in":120}"#, 120),
            (r#"{"token":"a.b.c","expires_in":120}"#, 120),
        ] {
            let token = Token::parse(body.as_bytes()).unwrap();

            assert_eq!(token.lifetime, Duration::from_secs(seconds), "{body}");
            assert_eq!(token.granted("team/app"), None, "{body}");
        }
    }

    #[test]
    fn what_a_token_grants_is_read_for_the_repository_asked() {
        let access = json!([
            { "type": "repository", "name": "team/app", "actions": ["pull"], "meta": { "project_id": 7 } },
            { "type": "repository", "name": "team/other", "actions": ["push"] },
            { "type": "registry", "name": "team/app", "actions": ["*"] },
        ]);
        let token = Token::parse(&answer(&json!({ "access": access }))).unwrap();

        assert_eq!(token.granted("team/app"), Some(vec!["pull".to_owned()]));
        assert_eq!(token.granted("team/unknown"), Some(vec![]));
    }

    #[test]
    fn an_answer_without_token_is_none() {
        for body in ["", "{}", "<html>", r#"{"token":""}"#, r#"{"token":7}"#, "[]"] {
            assert!(Token::parse(body.as_bytes()).is_none(), "{body}");
        }
    }

    proptest! {
        /// Neither an answer nor a token, however broken, stops the reader.
        #[test]
        fn any_answer_is_survived(body in any::<Vec<u8>>(), claims in any::<String>(), iat in any::<f64>()) {
            let _ = Token::parse(&body);
            let payload = URL_SAFE_NO_PAD.encode(&claims);
            let _ = Token::parse(json!({ "token": format!(".{payload}") }).to_string().as_bytes());
            let _ = Token::parse(&answer(&json!({ "iat": iat, "exp": 0 }))).map(|token| token.use_for());
        }
    }
}
