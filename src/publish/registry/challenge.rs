//! How a registry asks for credentials: the `WWW-Authenticate` header (RFC 9110, section 11.6.1).

/// What a registry wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token of the endpoint `realm`, made out for `service`.
    Bearer { realm: String, service: Option<String> },
    /// User and password with every request.
    Basic,
}

impl Challenge {
    /// The strongest challenge that we know in the headers' values.
    pub(super) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut basic = None;
        for (scheme, parameters) in headers.flat_map(challenges) {
            let parameter = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameter("realm")
            {
                return Some(Self::Bearer { realm, service: parameter("service") });
            }
        }
        basic
    }
}

type Parameters = Vec<(String, String)>;

/// Splits a header into schemes with their parameters. What is malformed is skipped.
fn challenges(header: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = rest.split_at(rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len()));
        if rest.is_empty() {
            return challenges;
        }
        match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
            Some(after) => {
                let (value, after) = value(after.trim_start_matches([' ', '\t']));
                if let Some((_, parameters)) = challenges.last_mut() {
                    parameters.push((word.to_owned(), value));
                }
                rest = after;
            }
            None => {
                challenges.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

/// A token or quoted string, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ', '\t']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => value.extend(characters.next()),
            _ => value.push(character),
        }
    }
    (value, characters.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
    }

    #[test]
    fn challenges_of_registries_are_understood() {
        let realm = "https://gitlab.example.com/jwt/auth";
        for (header, expected) in [
            (
                r#"Bearer realm="https://gitlab.example.com/jwt/auth",service="container_registry",error="invalid_token""#,
                bearer(realm, Some("container_registry")),
            ),
            (
                r#"bearer  service="a, b" , REALM = "https://gitlab.example.com/jwt/auth""#,
                bearer(realm, Some("a, b")),
            ),
            (r#"Bearer realm="a\"b",scope="repository:x:pull,push""#, bearer("a\"b", None)),
            (r#"Basic realm="r", Bearer realm=x, service=y"#, bearer("x", Some("y"))),
            (r#"Basic realm="Registry Realm""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            (r#"Bearer service="no realm""#, None),
            (r#"Digest realm="x""#, None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse([header].into_iter()), expected, "{header}");
        }
    }

    #[test]
    fn a_token_is_preferred_in_whatever_header_it_comes() {
        let headers = ["Basic realm=\"x\"", "Bearer realm=\"y\""];

        assert_eq!(Challenge::parse(headers.into_iter()), bearer("y", None));
    }

    proptest! {
        /// A quoted string comes out as it was before quoting.
        #[test]
        fn quoting_is_undone(realm in any::<String>()) {
            let quoted = realm.replace('\\', r"\\").replace('"', r#"\""#);
            let header = format!("Bearer realm=\"{quoted}\", service=\"s\"");

            prop_assert_eq!(Challenge::parse([&*header].into_iter()), bearer(&realm, Some("s")));
        }

        /// No header, however broken, stops the parser.
        #[test]
        fn any_header_is_survived(header in "[a-zA-Z=\",\\\\ \t]{0,60}|\\PC*") {
            let _ = Challenge::parse([&*header].into_iter());
        }
    }
}
