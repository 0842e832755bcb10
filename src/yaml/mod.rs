//! Strict YAML 1.2 documents, for files that people write by hand.
//!
//! Whatever is wrong with such a file, its author learns the file, line, column and key, the reason,
//! and a fix. A [`Document`] is therefore read in two steps:
//!
//! 1. [`Document::parse`] refuses what no such file needs and what usually is a slip: a key given
//!    twice, a second document, tags, merge keys, nesting without end, aliases that multiply.
//! 2. The caller reads typed values from [`Document::root`]. A [`Value`] knows its key path, so a
//!    complaint about it ([`Value::error`]) finds its line and column, also long after parsing
//!    ([`Document::error_at`]). Positions are not stored: the text is walked again to where the
//!    complaint belongs, which happens once, for the one error that ends the reading.
//!
//! A scalar keeps its source text: `1.10` read as text is `1.10`, and not the number's `1.1`.
//!
//! ```
//! use nixlayer::yaml::Document;
//!
//! let document = Document::parse("image.yaml", b"name: app\ntags: [1.10, latest]\n")?;
//! let fields = document.root().fields(&["name", "tags"])?;
//! let tags = fields.require("tags", "name a tag")?.list()?;
//! assert_eq!(tags[0].text()?, "1.10");
//!
//! let error = tags[1].error("`latest` moves", "name a version");
//! assert_eq!(error.to_string(), "image.yaml:2:14: `tags[1]`: `latest` moves");
//! # Ok::<(), nixlayer::yaml::Error>(())
//! ```

mod error;
mod key_path;
mod locate;
mod node;
mod syntax;
mod value;

pub use error::Error;
pub use key_path::KeyPath;
pub use value::{Fields, Value};

use locate::Place;
use node::Node;

/// Bytes that a document may have: 256 KiB, far more than anybody writes by hand.
pub const SIZE_LIMIT: usize = 256 * 1024;

/// A parsed YAML document that can tell where each of its values stands.
#[derive(Clone, Debug)]
pub struct Document {
    file: String,
    text: String,
    root: Node,
}

impl Document {
    /// Parses `bytes`, the content of the file that messages call `file`.
    ///
    /// The size is checked first: more than [`SIZE_LIMIT`] bytes are an error of the file's first line.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let text = syntax::check(file, bytes)?;
        let root = Node::parse(file, text)?;
        Ok(Self { file: file.to_owned(), text: text.to_owned(), root })
    }

    /// What messages call the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The value that is the whole document.
    pub fn root(&self) -> Value<'_> {
        Value::new(self, &self.root, KeyPath::root())
    }

    /// A complaint about the value at `key`, or about the nearest value around it that exists.
    pub fn error_at(&self, key: &KeyPath, reason: impl Into<String>, fix: impl Into<String>) -> Error {
        self.error(key, Place::Value, reason.into(), fix.into())
    }

    fn error(&self, key: &KeyPath, place: Place, reason: String, fix: String) -> Error {
        let position = locate::position(&self.text, key, place);
        Error::new(&self.file, position, key.clone(), reason, fix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> Error {
        Document::parse("f.yaml", text.as_bytes()).unwrap_err()
    }

    #[test]
    fn what_is_no_strict_document_is_refused_where_it_goes_wrong() {
        let deep = format!("a: {}{}", "[".repeat(40), "]".repeat(40));
        let bomb = (1..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
            let line = format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","));
            text + &line
        });
        let cases: &[(&str, &str, &str, &str)] = &[
            ("", "1:1", "the file is empty", "write"),
            ("# only a comment\n", "1:1", "the file is empty", "write"),
            ("a: 1\nb: 2\na: 3\n", "3:1", "`a`: the key is given twice", "remove"),
            ("a:\n  b: {c: 1, d: 2, c: 3}\n", "2:19", "`a.b.c`: the key is given twice", "remove"),
            ("a: 1\n---\nb: 2\n", "3:1", "more than one document", "---"),
            ("a: 1\n---\n", "3:1", "more than one document", "---"),
            ("a:\n\tb: 1\n", "2:1", "a tab", "indent with spaces"),
            ("a:\n  b: 1\n\tc: 2\n", "3:1", "a tab", "indent with spaces"),
            ("a: !secret x\n", "1:4", "`a`: the tag `!secret`", "without"),
            ("a: ! x\n", "1:4", "`a`: the tag `!`", "without"),
            ("a: &x {b: 1}\nc:\n  <<: *x\n", "3:3", "`c`: merge keys", "write the keys out"),
            ("[a]: 1\n", "1:1", "a key is a list or a mapping", "text"),
            ("a:\n  ? {b: c}\n  : 1\n", "2:5", "`a`: a key is a list or a mapping", "text"),
            ("a: *x\n", "1:4", "unknown anchor", "anchor"),
            ("a: &x [*x]\n", "1:4", "nested more than 32", "fewer"),
            (&deep, "1:35", "nested more than 32", "fewer"),
            (&bomb, "1:14", "aliases", "write"),
            (&"{a: ".repeat(60_000), "1:2049", "nested", "fewer"),
            ("a: [1, 2\nb: 3\n", "2:2", "`,` or `]`", "close"),
            ("a: \"x\n", "2:1", "end of stream", "quote"),
            ("a: b: c\n", "1:5", "mapping values are not allowed", "quote"),
            ("a: @x\n", "1:4", "cannot start any token", "quote"),
            ("a: \"x\\0\"\n", "1:4", "`a`: the text holds a NUL", "remove"),
            ("a: x\u{7}\n", "1:5", "U+0007", "remove"),
        ];
        let mut wrong = Vec::new();
        for (text, place, message, fix) in cases {
            let error = error(text);
            let shown = error.to_string();
            if !shown.starts_with(&format!("f.yaml:{place}: "))
                || !shown.contains(message)
                || !error.fix().contains(fix)
            {
                wrong.push(format!("{text:?}: {shown}; {}", error.fix()));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn size_and_encoding_are_checked_before_parsing() {
        let large = Document::parse("f", &vec![b'['; SIZE_LIMIT + 1]).unwrap_err();
        assert_eq!(large.to_string(), "f:1:1: the file has more than 262144 bytes");

        let latin = Document::parse("f", b"a: 1\nb: caf\xe9\n").unwrap_err();
        assert_eq!(latin.to_string(), "f:2:7: the file is not UTF-8");
    }

    #[test]
    fn comments_quotes_aliases_and_a_byte_order_mark_are_fine() {
        let text = "\u{feff}# head\na: &x [1, 'two']\nb: *x # tail\n\"c d\": |\n  text\n";
        let document = Document::parse("f", text.as_bytes()).unwrap();

        let fields = document.root().fields(&["a", "b", "c d"]).unwrap();
        let b = fields.get("b").unwrap().list().unwrap();
        assert_eq!(b[1].text().unwrap(), "two");
        assert_eq!(fields.get("c d").unwrap().text().unwrap(), "text\n");
    }

    #[test]
    fn an_error_found_later_still_has_its_place() {
        let document = Document::parse("f", b"a:\n  - b\n  - c: 1\n    d: 2\n").unwrap();
        let at = |key: KeyPath| document.error_at(&key, "wrong", "mend").to_string();
        let item = KeyPath::root().key("a").index(1);

        assert_eq!(at(item.key("d")), "f:4:8: `a[1].d`: wrong");
        assert_eq!(at(item.clone()), "f:3:5: `a[1]`: wrong");
        assert_eq!(at(item.key("gone")), "f:3:5: `a[1].gone`: wrong");
        assert_eq!(at(KeyPath::root().key("a").index(9)), "f:2:3: `a[9]`: wrong");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c:\\- \n\t\\[\\]{},&*!|>'\"#?~0-9]{0,60}") {
            let _ = Document::parse("f", text.as_bytes());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Document::parse("f", &bytes);
        }
    }
}
