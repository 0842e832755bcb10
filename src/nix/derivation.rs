//! What Nix is to build, as the store keeps it in `NAME.drv`.
//!
//! ```text
//! Derive([("out","/nix/store/…-app","","")],[("/nix/store/…-bash.drv",["out"])],["/nix/store/…-builder.sh"],
//!   "x86_64-linux","/nix/store/…/bin/bash",["-e","/nix/store/…-builder.sh"],[("name","app"),("out","/nix/store/…-app")])
//! ```
//!
//! The text is without white space between; see "Derivation" in the Nix manual, and `unparse` of its `derivations.cc`.

use std::collections::{BTreeMap, BTreeSet};

use super::StorePath;

/// What Nix is to build, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Derivation {
    /// The derivations whose outputs it needs.
    pub derivations: BTreeSet<StorePath>,
    /// The store paths that it needs besides.
    pub sources: BTreeSet<StorePath>,
    /// The variables of its builder. What is not UTF-8 in them is replaced.
    pub environment: BTreeMap<String, String>,
}

/// Why a text is no derivation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no derivation from byte {at} on, where {expected} should be")]
pub struct DerivationError {
    /// Where it goes wrong, from 0.
    pub at: usize,
    /// What should be there.
    pub expected: &'static str,
}

impl Derivation {
    /// Reads the content of a `.drv` file.
    pub fn parse(text: &[u8]) -> Result<Self, DerivationError> {
        let mut parser = Parser { text, at: 0 };
        let mut derivation = Self::default();
        parser.literal("Derive(")?;
        parser.list(|parser| {
            // Its name, path, and the method and value of a hash that is known beforehand.
            parser.literal("(")?;
            for _ in 0..3 {
                parser.text()?;
                parser.literal(",")?;
            }
            parser.text()?;
            parser.literal(")")
        })?;
        parser.literal(",")?;
        parser.list(|parser| {
            parser.literal("(")?;
            derivation.derivations.insert(parser.store_path()?);
            parser.literal(",")?;
            parser.list(|parser| parser.text().map(drop))?;
            parser.literal(")")
        })?;
        parser.literal(",")?;
        parser.list(|parser| {
            derivation.sources.insert(parser.store_path()?);
            Ok(())
        })?;
        parser.literal(",")?;
        for _ in ["system", "builder"] {
            parser.text()?;
            parser.literal(",")?;
        }
        parser.list(|parser| parser.text().map(drop))?;
        parser.literal(",")?;
        parser.list(|parser| {
            parser.literal("(")?;
            let name = parser.text()?;
            parser.literal(",")?;
            derivation.environment.insert(name, parser.text()?);
            parser.literal(")")
        })?;
        parser.literal(")")?;
        if parser.at == text.len() { Ok(derivation) } else { Err(parser.error("the end")) }
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn error(&self, expected: &'static str) -> DerivationError {
        DerivationError { at: self.at, expected }
    }

    fn has(&mut self, literal: &str) -> bool {
        let has = self.text[self.at..].starts_with(literal.as_bytes());
        if has {
            self.at += literal.len();
        }
        has
    }

    fn literal(&mut self, literal: &'static str) -> Result<(), DerivationError> {
        if self.has(literal) { Ok(()) } else { Err(self.error(literal)) }
    }

    fn list(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), DerivationError>,
    ) -> Result<(), DerivationError> {
        self.literal("[")?;
        if self.has("]") {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.has("]") {
                return Ok(());
            }
            self.literal(",")?;
        }
    }

    fn text(&mut self) -> Result<String, DerivationError> {
        self.literal("\"")?;
        let mut bytes = Vec::new();
        loop {
            let Some((&byte, rest)) = self.text[self.at..].split_first() else {
                return Err(self.error("the end of a text"));
            };
            let byte = match (byte, rest.first()) {
                (b'"', _) => break,
                (b'\\', Some(b'n')) => b'\n',
                (b'\\', Some(b'r')) => b'\r',
                (b'\\', Some(b't')) => b'\t',
                (b'\\', Some(&other)) => other,
                (byte, _) => {
                    bytes.push(byte);
                    self.at += 1;
                    continue;
                }
            };
            bytes.push(byte);
            self.at += 2;
        }
        self.at += 1;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn store_path(&mut self) -> Result<StorePath, DerivationError> {
        let error = self.error("a store path");
        self.text()?.parse().map_err(|_| error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Written by Nix 2.8.0 for `derivation { name = "x"; system = "x86_64-linux"; builder = "/bin/sh";
    /// args = [ "-c" "echo" ]; text = "a\"b\\c\n\t\r${./source} ${derivation { name = "in"; … }} é"; }`.
    const WRITTEN: &str = concat!(
        r#"Derive([("out","/nix/store/bxl3cnz605zs58g0dmcqy3lxhxlrndgs-x","","")],"#,
        r#"[("/nix/store/hscpa55y2rxfi3387yh63vxazixma5mv-in.drv",["out"])],"#,
        r#"["/nix/store/jh5mkrzi2r4a9098h3qn817pyxdmd35h-source"],"x86_64-linux","/bin/sh",["-c","echo"],"#,
        r#"[("builder","/bin/sh"),("name","x"),("out","/nix/store/bxl3cnz605zs58g0dmcqy3lxhxlrndgs-x"),"#,
        r#"("system","x86_64-linux"),("text","a\"b\\c\n\t\r/nix/store/jh5mkrzi2r4a9098h3qn817pyxdmd35h-source "#,
        r#"/nix/store/im8q4xcj0fiilbkm9ngajf58j97iwnaq-in é")])"#,
    );

    #[test]
    fn what_nix_has_written_is_read() {
        let derivation = Derivation::parse(WRITTEN.as_bytes()).unwrap();

        let path = |text: &str| BTreeSet::from([format!("/nix/store/{text}").parse().unwrap()]);
        assert_eq!(derivation.derivations, path("hscpa55y2rxfi3387yh63vxazixma5mv-in.drv"));
        assert_eq!(derivation.sources, path("jh5mkrzi2r4a9098h3qn817pyxdmd35h-source"));
        let names: Vec<_> = derivation.environment.keys().map(String::as_str).collect();
        assert_eq!(names, ["builder", "name", "out", "system", "text"]);
        assert_eq!(derivation.environment["out"], "/nix/store/bxl3cnz605zs58g0dmcqy3lxhxlrndgs-x");
        let text = &derivation.environment["text"];
        assert!(text.starts_with("a\"b\\c\n\t\r/nix/store/jh5m") && text.ends_with("-in é"), "{text}");
    }

    #[test]
    fn what_is_no_derivation_is_told_with_its_place() {
        for (text, at, expected) in [
            ("", 0, "Derive("),
            ("DrvWithVersion(\"xp-dyn-drv\",[],[],[],\"\",\"\",[],[])", 0, "Derive("),
            ("Derive([],[],[\"/etc/passwd\"],\"\",\"\",[],[])", 14, "a store path"),
            ("Derive([],[],[],\"\",\"\",[],[(\"name\",\"x", 36, "the end of a text"),
            ("Derive([],[],[],\"\",\"\",[],[])\n", 28, "the end"),
        ] {
            assert_eq!(Derivation::parse(text.as_bytes()), Err(DerivationError { at, expected }), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_beginning_of_a_derivation_is_one(length in 0..WRITTEN.len()) {
            prop_assert!(Derivation::parse(&WRITTEN.as_bytes()[..length]).is_err());
        }

        #[test]
        fn every_text_is_read_as_it_was_written(value: String) {
            let mut written = value.replace('\\', "\\\\").replace('"', "\\\"");
            written = written.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
            let text = format!("Derive([],[],[],\"\",\"\",[],[(\"name\",\"{written}\")])");

            let derivation = Derivation::parse(text.as_bytes()).unwrap();

            prop_assert_eq!(&derivation.environment["name"], &value);
        }
    }
}
