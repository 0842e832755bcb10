//! Credentials for caches from a file as `curl`, `ftp` and Nix read it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;

/// The value of `Authorization` that the netrc file `text` has for `host`, if it has one: of the first
/// `machine` of that name, or of `default`.
pub fn basic_credentials(text: &str, host: &str) -> Option<Secret> {
    let mut words =
        text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(str::split_whitespace);
    let mut meant = false;
    let (mut login, mut password) = (None, None);
    while let Some(word) = words.next() {
        match word {
            "machine" | "default" if meant => break,
            "machine" => meant = words.next() == Some(host),
            "default" => meant = true,
            "login" | "password" | "account" => {
                let value = words.next();
                match word {
                    "login" if meant => login = value,
                    "password" if meant => password = value,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    let pair = format!("{}:{}", login.unwrap_or_default(), password?);
    Some(Secret::from(format!("Basic {}", STANDARD.encode(pair))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# caches\nmachine cache.example login me password one\n\
                        machine other.example\n  login you\n  password two\ndefault login any password three\n";

    fn pair(text: &str, host: &str) -> Option<String> {
        let secret = basic_credentials(text, host)?;
        let bytes = STANDARD.decode(secret.expose().strip_prefix("Basic ").unwrap()).unwrap();
        Some(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_host_gets_its_own_credentials_and_others_the_default() {
        assert_eq!(pair(FILE, "cache.example").as_deref(), Some("me:one"));
        assert_eq!(pair(FILE, "other.example").as_deref(), Some("you:two"));
        assert_eq!(pair(FILE, "third.example").as_deref(), Some("any:three"));
        let without_default = FILE.lines().take(4).collect::<Vec<_>>().join("\n");
        assert_eq!(pair(&without_default, "third.example"), None);
    }

    #[test]
    fn a_password_alone_is_enough_and_a_login_is_not() {
        assert_eq!(pair("machine a password x", "a").as_deref(), Some(":x"));
        assert_eq!(pair("machine a login x", "a"), None);
        assert_eq!(pair("", "a"), None);
    }

    #[test]
    fn a_word_that_looks_like_a_key_may_be_a_value() {
        assert_eq!(pair("machine a login machine password default", "a").as_deref(), Some("machine:default"));
    }
}
