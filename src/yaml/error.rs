//! A complaint about a document, with all that its author needs to mend it.

use std::fmt;

use super::KeyPath;

/// Longest reason and fix that are shown, in characters; a slip may swallow half a file.
const MAX_SHOWN: usize = 400;

/// What is wrong in a document, where, why, and what to do.
///
/// Displayed as ``image.yaml:7:3: `tags[1]`: `a b` is not a tag``; the fix is apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    file: String,
    position: Position,
    key: KeyPath,
    reason: String,
    fix: String,
}

/// A place in the text; both numbers count characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Position {
    pub(super) const START: Self = Self { line: 1, column: 1 };

    /// The place that follows `text`.
    pub(super) fn after(text: &str) -> Self {
        let last_line = text.rsplit('\n').next().unwrap_or_default();
        Self { line: text.matches('\n').count() + 1, column: last_line.chars().count() + 1 }
    }
}

impl Error {
    pub(super) fn new(file: &str, position: Position, key: KeyPath, reason: String, fix: String) -> Self {
        Self { file: file.to_owned(), position, key, reason: shown(&reason), fix: shown(&fix) }
    }

    /// The line, counted from 1.
    pub fn line(&self) -> usize {
        self.position.line
    }

    /// The column in characters, counted from 1.
    pub fn column(&self) -> usize {
        self.position.column
    }

    /// The value concerned; the root where a complaint is about the whole file or its syntax.
    pub fn key(&self) -> &KeyPath {
        &self.key
    }

    /// What is wrong, as a fragment.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What the author can do.
    pub fn fix(&self) -> &str {
        &self.fix
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}: ", self.file, self.position.line, self.position.column)?;
        if !self.key.is_root() {
            write!(formatter, "`{}`: ", self.key)?;
        }
        formatter.write_str(&self.reason)
    }
}

impl std::error::Error for Error {}

// The reason may quote the file, and it goes into a job log.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (position, character) in text.chars().enumerate() {
        if position == MAX_SHOWN {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_cannot_break_the_line_or_drown_the_message() {
        let reason = format!("`a\nb\u{1b}[31m{}`", "x".repeat(1000));
        let error = Error::new("f", Position::START, KeyPath::root(), reason, String::new());

        assert!(error.reason().starts_with("`a\\nb\\u{1b}[31mx"));
        assert!(error.reason().ends_with("x…"));
        assert!(error.reason().chars().count() < 420);
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(Position::after("ä: 1\nöü"), Position { line: 2, column: 3 });
    }
}
