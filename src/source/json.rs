//! A JSON value that knows where it stands, so that every mistake has its key.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::Value;

use crate::nix::shown;

/// Why what stands at a key of a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It has no meaning here.
    #[error("`{key}` of `{file}` is nothing that this program knows")]
    Unknown {
        /// The file.
        file: String,
        /// The key, such as `layers[2].paths[0].options.new`.
        key: String,
    },
    /// It cannot be.
    #[error("`{key}` of `{file}` {reason}")]
    Value {
        /// The file.
        file: String,
        /// The key, such as `layers[2].digest`.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A value of a file.
pub(super) struct Item<'a> {
    file: &'a str,
    key: String,
    pub(super) value: &'a Value,
}

impl<'a> Item<'a> {
    /// The whole of a file.
    pub(super) fn root(file: &'a str, value: &'a Value) -> Self {
        Self { file, key: String::new(), value }
    }

    /// What stands at `key` of a file.
    pub(super) fn at(file: &'a str, key: &str, value: &'a Value) -> Self {
        Self { file, key: key.to_owned(), value }
    }

    pub(super) fn error(&self, reason: impl Display) -> KeyError {
        let key = if self.key.is_empty() { "the whole".to_owned() } else { self.key.clone() };
        KeyError::Value { file: self.file.to_owned(), key, reason: reason.to_string() }
    }

    /// What stands at `name`. Go reads `null` as if nothing stood there.
    pub(super) fn get(&self, name: &str) -> Result<Option<Item<'a>>, KeyError> {
        let Value::Object(members) = self.value else { return Err(self.error("is no object")) };
        let value = members.get(name).filter(|value| !value.is_null());
        Ok(value.map(|value| self.member(name, value)))
    }

    /// What must stand at `name`.
    pub(super) fn require(&self, name: &str) -> Result<Item<'a>, KeyError> {
        self.get(name)?.ok_or_else(|| self.member(name, self.value).error("is missing"))
    }

    /// Fails if a member that says something has none of the `known` names: what it means would be missing. Go writes
    /// zeros and what is empty where nothing was said.
    pub(super) fn knows(&self, known: &[&str]) -> Result<(), KeyError> {
        match self.members()?.into_iter().find(|(name, item)| !known.contains(name) && item.says_something())
        {
            Some((_, Item { file, key, .. })) => Err(KeyError::Unknown { file: file.to_owned(), key }),
            None => Ok(()),
        }
    }

    /// Whether its value is not the one that Go has for nothing.
    pub(super) fn says_something(&self) -> bool {
        match self.value {
            Value::Null => false,
            Value::Bool(flag) => *flag,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(values) => !values.is_empty(),
            Value::Object(members) => !members.is_empty(),
        }
    }

    /// The members of an object, by their names.
    pub(super) fn members(&self) -> Result<Vec<(&'a str, Item<'a>)>, KeyError> {
        let Value::Object(members) = self.value else { return Err(self.error("is no object")) };
        Ok(members.iter().map(|(name, value)| (name.as_str(), self.member(name, value))).collect())
    }

    pub(super) fn list(&self) -> Result<Vec<Item<'a>>, KeyError> {
        let Value::Array(values) = self.value else { return Err(self.error("is no list")) };
        let item = |(index, value)| Item { file: self.file, key: format!("{}[{index}]", self.key), value };
        Ok(values.iter().enumerate().map(item).collect())
    }

    pub(super) fn text(&self) -> Result<&'a str, KeyError> {
        self.value.as_str().ok_or_else(|| self.error("is no text"))
    }

    /// The text at `name`; empty where there is none.
    pub(super) fn text_at(&self, name: &str) -> Result<&'a str, KeyError> {
        self.get(name)?.map_or(Ok(""), |item| item.text())
    }

    /// A whole number from 0 to `most`.
    pub(super) fn number(&self, most: u64) -> Result<u64, KeyError> {
        let number = self.value.as_u64().filter(|number| *number <= most);
        number.ok_or_else(|| self.error(format_args!("is no whole number from 0 to {most}")))
    }

    /// A text of which `what` can be made.
    pub(super) fn parsed<T: FromStr>(&self, what: &str) -> Result<T, KeyError> {
        let text = self.text()?;
        text.parse().map_err(|_| self.error(format_args!("is `{}`, which is no {what}", shown(text))))
    }

    fn member(&self, name: &str, value: &'a Value) -> Item<'a> {
        let dot = if self.key.is_empty() { "" } else { "." };
        Item { file: self.file, key: format!("{}{dot}{}", self.key, shown(name)), value }
    }
}
