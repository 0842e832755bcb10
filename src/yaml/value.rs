//! Typed reading of a document's values; every mismatch is an error that knows its place.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::locate::Place;
use super::node::{Kind, Node};
use super::{Document, Error, KeyPath};

/// One value of a document, with the way to it.
#[derive(Clone, Debug)]
pub struct Value<'d> {
    document: &'d Document,
    node: &'d Node,
    key: KeyPath,
}

/// The entries of a mapping whose keys are known beforehand.
#[derive(Clone, Debug)]
pub struct Fields<'d> {
    mapping: Value<'d>,
    values: Vec<(&'static str, Value<'d>)>,
}

impl<'d> Value<'d> {
    pub(super) fn new(document: &'d Document, node: &'d Node, key: KeyPath) -> Self {
        Self { document, node, key }
    }

    /// The way to this value.
    pub fn key(&self) -> &KeyPath {
        &self.key
    }

    /// Whether it is a mapping.
    pub fn is_mapping(&self) -> bool {
        matches!(self.node, Node::Mapping(_))
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.node, Node::Sequence(_))
    }

    /// Whether it is missing after its key, or `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.node, Node::Scalar(Kind::Null, _))
    }

    /// Whether YAML takes it for an integer, as it does an unquoted `8080`.
    pub fn is_integer(&self) -> bool {
        matches!(self.node, Node::Scalar(Kind::Integer(_), _))
    }

    /// A complaint about this value.
    pub fn error(&self, reason: impl Into<String>, fix: impl Into<String>) -> Error {
        self.document.error(&self.key, Place::Value, reason.into(), fix.into())
    }

    /// A complaint about the key in front of this value.
    pub fn key_error(&self, reason: impl Into<String>, fix: impl Into<String>) -> Error {
        self.document.error(&self.key, Place::Key, reason.into(), fix.into())
    }

    /// The text as it stands in the file, also where YAML would take it for a number or a truth value.
    pub fn text(&self) -> Result<&'d str, Error> {
        match self.node {
            Node::Scalar(Kind::Null, _) => Err(self.mismatch("a text")),
            Node::Scalar(_, text) => Ok(text),
            Node::Mapping(_) | Node::Sequence(_) => Err(self.mismatch("a text")),
        }
    }

    /// What the text says as a `T`; `fix` is for a text that is none.
    pub fn parse<T>(&self, fix: &str) -> Result<T, Error>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.text()?.parse().map_err(|cause: T::Err| self.error(cause.to_string(), fix))
    }

    /// What one of the `words` stands for.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Error> {
        let text = self.text()?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*meaning);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        Err(self.error(format!("`{text}` is not known here"), suggestion(text, &names)))
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Result<bool, Error> {
        match self.node {
            Node::Scalar(Kind::Boolean(value), _) => Ok(*value),
            Node::Scalar(..) | Node::Mapping(_) | Node::Sequence(_) => {
                Err(self.mismatch("`true` or `false`"))
            }
        }
    }

    /// An integer within `range`.
    pub fn integer<T>(&self, range: RangeInclusive<T>) -> Result<T, Error>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let Node::Scalar(Kind::Integer(integer), text) = self.node else {
            return Err(self.mismatch("an integer"));
        };
        match T::try_from(*integer) {
            Ok(value) if range.contains(&value) => Ok(value),
            Ok(_) | Err(_) => Err(self.error(
                format!("`{text}` is out of range"),
                format!("give a number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// The items of a list.
    pub fn list(&self) -> Result<Vec<Value<'d>>, Error> {
        let Node::Sequence(items) = self.node else { return Err(self.mismatch("a list")) };
        let item = |(index, node)| Self::new(self.document, node, self.key.index(index));
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// The items of a list, or the one value that stands there alone.
    pub fn list_or_one(&self) -> Result<Vec<Value<'d>>, Error> {
        if self.is_list() { self.list() } else { Ok(vec![self.clone()]) }
    }

    /// The entries of a mapping with keys of the author's choice, in the file's order.
    pub fn entries(&self) -> Result<Vec<(&'d str, Value<'d>)>, Error> {
        let Node::Mapping(entries) = self.node else { return Err(self.mismatch("a mapping")) };
        let entry = |(key, node): &'d (String, Node)| {
            (key.as_str(), Self::new(self.document, node, self.key.key(key)))
        };
        Ok(entries.iter().map(entry).collect())
    }

    /// The entries of a mapping that has only `known` keys.
    pub fn fields(&self, known: &[&'static str]) -> Result<Fields<'d>, Error> {
        self.fields_by(known, |key, name| key == name)
    }

    /// The same where upper and lower case of a key do not matter; `known` is how they are called.
    pub fn fields_in_any_case(&self, known: &[&'static str]) -> Result<Fields<'d>, Error> {
        self.fields_by(known, str::eq_ignore_ascii_case)
    }

    fn fields_by(
        &self,
        known: &[&'static str],
        same: impl Fn(&str, &str) -> bool,
    ) -> Result<Fields<'d>, Error> {
        let mut values: Vec<(&'static str, Value<'d>)> = Vec::new();
        for (key, value) in self.entries()? {
            let Some(name) = known.iter().find(|name| same(key, name)) else {
                return Err(value.key_error("there is no such key", suggestion(key, known)));
            };
            if values.iter().any(|(other, _)| other == name) {
                let reason = format!("the key `{name}` is given twice, in different case");
                return Err(value.key_error(reason, "remove one of the two"));
            }
            values.push((name, value));
        }
        Ok(Fields { mapping: self.clone(), values })
    }

    fn mismatch(&self, expected: &str) -> Error {
        let found = match self.node {
            Node::Mapping(_) => "a mapping".to_owned(),
            Node::Sequence(_) => "a list".to_owned(),
            Node::Scalar(Kind::Null, text) if text.is_empty() => "nothing".to_owned(),
            Node::Scalar(Kind::Null, text) => format!("`{text}`"),
            Node::Scalar(Kind::Text, text) => format!("the text `{text}`"),
            Node::Scalar(Kind::Integer(_) | Kind::Float, text) => format!("the number `{text}`"),
            Node::Scalar(Kind::Boolean(_), text) => format!("the truth value `{text}`"),
        };
        let fix = match self.node {
            Node::Scalar(Kind::Null, _) => format!("write {expected}, or remove the key"),
            Node::Mapping(_) | Node::Sequence(_) | Node::Scalar(..) => format!("write {expected}"),
        };
        self.error(format!("this must be {expected}, but is {found}"), fix)
    }
}

impl<'d> Fields<'d> {
    /// The value of `key`, if it is given.
    pub fn get(&self, key: &str) -> Option<&Value<'d>> {
        self.values.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The value of `key`; `fix` is for a mapping without it.
    pub fn require(&self, key: &str, fix: &str) -> Result<&Value<'d>, Error> {
        self.get(key).ok_or_else(|| self.mapping.error(format!("the key `{key}` is missing"), fix))
    }

    /// The mapping itself, for complaints about keys that do not go together.
    pub fn mapping(&self) -> &Value<'d> {
        &self.mapping
    }

    /// The keys that are given, by their known names, with their values; in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value<'d>)> {
        self.values.iter().map(|(name, value)| (*name, value))
    }
}

/// The known word that `word` is a slip for, or all of them.
fn suggestion(word: &str, known: &[&str]) -> String {
    let word = word.to_lowercase();
    // A third of the letters may differ: `contnets` is `contents`, but `base` is not `name`.
    let tolerance = (word.chars().count() / 3).clamp(1, 3);
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&word, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((_, name)) => format!("write `{name}`"),
        None => format!("use one of: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(text: &str, read: impl FnOnce(Value<'_>) -> T) -> T {
        let document = Document::parse("f", text.as_bytes()).unwrap();
        read(document.root().entries().unwrap().remove(0).1)
    }

    fn text(yaml: &str) -> String {
        with(yaml, |value| value.text().unwrap().to_owned())
    }

    /// A tag, a port or a mode that a number's reading would change.
    #[test]
    fn text_is_what_stands_in_the_file() {
        for source in ["1.10", "0755", "0x1F", "1_000", "no", "yes", "True", "1e3", "12:30", ".5", "+1"] {
            assert_eq!(text(&format!("k: {source}")), source);
            assert_eq!(text(&format!("k: '{source}'")), source);
        }
        assert_eq!(text("k: a\n  b"), "a b");
        assert_eq!(text("k: \"a\\tb\""), "a\tb");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named_with_what_it_should_be() {
        let complaint =
            |yaml, read: fn(Value<'_>) -> Option<Error>| with(yaml, read).unwrap().reason().to_owned();

        assert_eq!(complaint("k: [a]", |v| v.text().err()), "this must be a text, but is a list");
        assert_eq!(complaint("k:", |v| v.text().err()), "this must be a text, but is nothing");
        assert_eq!(complaint("k: ~", |v| v.text().err()), "this must be a text, but is `~`");
        assert_eq!(complaint("k: a", |v| v.list().err()), "this must be a list, but is the text `a`");
        assert_eq!(
            complaint("k: 1.5", |v| v.integer(0..=9).err()),
            "this must be an integer, but is the number `1.5`"
        );
        assert_eq!(
            complaint("k: '1'", |v| v.integer(0..=9).err()),
            "this must be an integer, but is the text `1`"
        );
        assert_eq!(
            complaint("k: yes", |v| v.boolean().err()),
            "this must be `true` or `false`, but is the text `yes`"
        );
        assert_eq!(complaint("k: 3", |v| v.entries().err()), "this must be a mapping, but is the number `3`");
    }

    #[test]
    fn integers_keep_to_their_range() {
        assert_eq!(with("k: -3", |value| value.integer(-9_i8..=9)).unwrap(), -3);
        for yaml in ["k: 300", "k: -1", "k: 340282366920938463463374607431768211455"] {
            let error = with(yaml, |value| value.integer(0_u8..=200)).unwrap_err();
            assert_eq!(error.fix(), "give a number from 0 to 200");
        }
    }

    #[test]
    fn slips_are_corrected_and_strangers_get_the_list() {
        let known = ["name", "contents", "extraCommands"];

        assert_eq!(suggestion("nmae", &known), "write `name`");
        assert_eq!(suggestion("Contents", &known), "write `contents`");
        assert_eq!(suggestion("extra-commands", &known), "write `extraCommands`");
        assert_eq!(suggestion("base", &known), "use one of: name, contents, extraCommands");
    }

    #[test]
    fn keys_in_another_case_are_the_same_key() {
        let document = Document::parse("f", b"cmd: 1\nEnv: 2\nCMD: 3\n").unwrap();

        let error = document.root().fields_in_any_case(&["Cmd", "Env"]).unwrap_err();

        assert_eq!(error.to_string(), "f:3:1: `CMD`: the key `Cmd` is given twice, in different case");
    }
}
