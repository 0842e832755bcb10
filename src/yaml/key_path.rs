//! The way from a document's root to one of its values.

use std::fmt;

/// A way such as `contents[3]` or `config.Labels."org.example/x"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPath {
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// The document itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The value of `key` in the mapping here.
    pub fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// The item at `index`, counted from 0, of the list here.
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// Whether this is the document itself.
    pub fn is_root(&self) -> bool {
        self.steps.is_empty()
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.steps.clone();
        steps.push(step);
        Self { steps }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps.iter().enumerate() {
            match step {
                Step::Index(index) => write!(formatter, "[{index}]")?,
                Step::Key(key) => {
                    if position > 0 {
                        formatter.write_str(".")?;
                    }
                    if !key.is_empty() && key.bytes().all(is_plain) {
                        formatter.write_str(key)?;
                    } else {
                        write!(formatter, "{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-/".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_would_be_misread_are_quoted() {
        let path = KeyPath::root().key("config").key("Labels").key("a.b");

        assert_eq!(path.to_string(), "config.Labels.\"a.b\"");
        assert_eq!(KeyPath::root().key("tags").index(2).to_string(), "tags[2]");
        assert_eq!(KeyPath::root().key("").to_string(), "\"\"");
    }
}
