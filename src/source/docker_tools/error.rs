//! Why a file is no `conf.json`.

use crate::source::KeyError;

/// Why a text is not what `dockerTools` writes of a layered image.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// It has another shape.
    #[error("it is no description of a layered image")]
    Json(#[from] serde_json::Error),
    /// A value cannot be.
    #[error("`{key}` is `{value}`: {reason}")]
    Value {
        /// Of which key.
        key: &'static str,
        /// The value, or its beginning.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A value of the container's configuration cannot be.
    #[error(transparent)]
    Config(#[from] KeyError),
}

impl ConfError {
    pub(super) fn new(key: &'static str, value: &str, reason: &'static str) -> Self {
        Self::Value { key, value: value.chars().take(200).collect(), reason }
    }
}
