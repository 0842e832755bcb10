//! Text that must not be printed: tokens and passwords.
//!
//! ```
//! use nixlayer::secret::Secret;
//!
//! let token = Secret::from("glcbt-64_x");
//! assert_eq!(format!("{token:?}"), "[redacted]");
//! assert_eq!(token.expose(), "glcbt-64_x");
//! ```

use std::fmt;

use serde::Deserialize;
use zeroize::Zeroizing;

/// A text that no log, error or debug output shows, and whose memory is overwritten when it goes.
///
/// It has no `Display`; [`Secret::expose`] is the one way to its text, so that a search for that
/// name finds every place that handles a secret in the clear.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text itself, for the one who must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_whatever_holds_a_secret_does_not_show_it() {
        let secrets = vec![Some(Secret::from("canary".to_owned()))];

        assert_eq!(format!("{secrets:?}"), "[Some([redacted])]");
    }

    #[test]
    fn secrets_are_equal_when_their_bytes_are() {
        let secret = |text: &str| Secret::from(text.to_owned());

        assert_eq!(secret("a"), secret("a"));
        assert_ne!(secret("a"), secret("A"));
        assert_ne!(secret("a"), secret("a "));
    }
}
