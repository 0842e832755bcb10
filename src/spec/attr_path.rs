//! Names of packages in a Nix package set.

use std::fmt;
use std::str::FromStr;

/// Longest text of an attribute path, in bytes.
const MAX_LENGTH: usize = 256;

/// A way through nested attribute sets, such as `jq`, `python3Packages.requests` or
/// `perlPackages."X::Y"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttrPath(Vec<String>);

/// Why a text is no attribute path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a package name: {reason}")]
pub struct AttrPathError {
    text: String,
    reason: &'static str,
}

impl AttrPath {
    /// One attribute.
    pub fn of(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }

    /// The attributes from the outermost set inwards; at least one.
    pub fn components(&self) -> &[String] {
        &self.0
    }

    /// Attributes from the outermost set inwards, as a path is written. Their names may be any that Nix takes.
    pub fn shown(components: &[String]) -> String {
        let shown = |component: &String| {
            if component.chars().all(is_word) && !component.starts_with('-') {
                component.clone()
            } else {
                format!("\"{}\"", component.replace('\\', "\\\\").replace('"', "\\\""))
            }
        };
        components.iter().map(shown).collect::<Vec<_>>().join(".")
    }

    /// The path as a Nix expression selects it: `"perlPackages"."X::Y"`.
    ///
    /// Every component is a string literal in which nothing is interpolated, so that no name can
    /// become code.
    pub fn to_nix(&self) -> String {
        let literal = |name: &String| {
            let escaped: String = name
                .chars()
                .flat_map(|character| {
                    matches!(character, '"' | '\\' | '$').then_some('\\').into_iter().chain([character])
                })
                .collect();
            format!("\"{escaped}\"")
        };
        self.0.iter().map(literal).collect::<Vec<_>>().join(".")
    }
}

impl FromStr for AttrPath {
    type Err = AttrPathError;

    fn from_str(text: &str) -> Result<Self, AttrPathError> {
        Self::from_text(text).map_err(|reason| AttrPathError { text: text.to_owned(), reason })
    }
}

impl AttrPath {
    pub(super) fn from_text(text: &str) -> Result<Self, &'static str> {
        match Self::from_start(text)? {
            (path, "") => Ok(path),
            (_, _) => Err("a part has a character other than letters, digits and `_'+-`, and no quotes"),
        }
    }

    /// The path at the start of `text`, and what follows it.
    pub(super) fn from_start(text: &str) -> Result<(Self, &str), &'static str> {
        let mut components = Vec::new();
        let mut rest = text;
        loop {
            let (component, after) = match rest.strip_prefix('"') {
                Some(quoted) => from_quoted(quoted)?,
                None => {
                    let end = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
                    (rest[..end].to_owned(), &rest[end..])
                }
            };
            if component.is_empty() {
                return Err("a part is empty");
            }
            if component.starts_with('-') && !rest.starts_with('"') {
                return Err("it looks like an option");
            }
            components.push(component);
            if text.len() - after.len() > MAX_LENGTH {
                return Err("it has more than 256 characters");
            }
            match after.strip_prefix('.') {
                Some(next) => rest = next,
                None => return Ok((Self(components), after)),
            }
        }
    }
}

/// The content of a string literal whose opening quote is gone, and what follows its end.
fn from_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut content = String::new();
    let mut characters = text.char_indices();
    while let Some((offset, character)) = characters.next() {
        match character {
            '"' => return Ok((content, &text[offset + 1..])),
            '\\' => match characters.next() {
                Some((_, escaped @ ('"' | '\\' | '$'))) => content.push(escaped),
                Some(_) | None => return Err("only `\"`, `\\` and `$` may follow a backslash"),
            },
            _ if character.is_control() => return Err("it has control characters"),
            _ => content.push(character),
        }
    }
    Err("a quote is not closed")
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_'+-".contains(character)
}

impl fmt::Display for AttrPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&Self::shown(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> AttrPath {
        text.parse().unwrap()
    }

    #[test]
    fn quoted_parts_may_hold_dots_and_colons() {
        assert_eq!(parse("python3Packages.requests").components(), ["python3Packages", "requests"]);
        assert_eq!(parse("perlPackages.\"X::Y\"").components(), ["perlPackages", "X::Y"]);
        assert_eq!(parse("\"a.b\".c").components(), ["a.b", "c"]);
        assert_eq!(parse("\"say \\\"hi\\\"\"").components(), ["say \"hi\""]);
    }

    #[test]
    fn what_is_no_attribute_path_is_refused() {
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "-jq",
            "--expr",
            "a.-b",
            "a/b",
            "\"a",
            "a\"b\"",
            "\"\"",
            "a\nb",
            "ä",
            "\"\\n\"",
            "a;b",
            "(a)",
            "${a}",
            &"a".repeat(257),
        ] {
            assert!(text.parse::<AttrPath>().is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn no_name_becomes_code() {
        assert_eq!(parse("\"${builtins.abort x}\"").to_nix(), r#""\${builtins.abort x}""#);
        assert_eq!(parse(r#""a\"; evil \"""#).to_nix(), r#""a\"; evil \"""#);
        assert_eq!(parse(r#""a\\".b"#).to_nix(), r#""a\\"."b""#);
    }

    proptest! {
        #[test]
        fn displaying_undoes_parsing(components in prop::collection::vec("[a-zA-Z0-9_\"\\\\.$ :{}-]{1,12}", 1..4)) {
            let path = AttrPath(components);
            prop_assert_eq!(path.to_string().parse::<AttrPath>().unwrap(), path);
        }

        /// What a Nix lexer sees: an unescaped quote ends a literal, and `${` would open code.
        #[test]
        fn expressions_are_literals_joined_by_dots(components in prop::collection::vec("\\PC{1,12}", 1..4)) {
            let text = AttrPath(components.clone()).to_nix();
            let mut read = Vec::new();
            let mut rest = text.as_str();
            loop {
                let mut characters = rest.strip_prefix('"').unwrap().char_indices();
                let mut content = String::new();
                let end = loop {
                    match characters.next().unwrap() {
                        (_, '\\') => content.push(characters.next().unwrap().1),
                        (offset, '"') => break offset,
                        (_, character) => {
                            prop_assert_ne!(character, '$');
                            content.push(character);
                        }
                    }
                };
                read.push(content);
                rest = &rest[end + 2..];
                if rest.is_empty() {
                    break;
                }
                rest = rest.strip_prefix('.').unwrap();
            }
            prop_assert_eq!(read, components);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<AttrPath>();
        }
    }
}
