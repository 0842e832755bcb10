//! A document as a tree, built with everything refused that a strict document may not hold.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};

use super::error::Position;
use super::key_path::{KeyPath, Step};
use super::{Error, locate, syntax};

/// Levels of nesting that a document may have.
const MAX_DEPTH: usize = 32;

#[derive(Clone, Debug)]
pub(super) enum Node {
    /// In the file's order; no key twice.
    Mapping(Vec<(String, Node)>),
    Sequence(Vec<Node>),
    Scalar(Kind, String),
}

/// What YAML 1.2 takes a scalar for; its text stands beside it as it is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer(i128),
    Float,
    Boolean(bool),
    Null,
}

impl Node {
    /// The tree of `text`, which holds one document.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, Error> {
        // Escapes aside, a node and its text cost no more bytes than they take in the file, and an
        // escape of 2 bytes makes at most 3. Only aliases can exceed this.
        let mut builder = Builder { key: KeyPath::root(), budget: 4 * text.len(), problem: None };
        let complain = |builder: Builder, cause: serde_yaml::Error| match builder.problem {
            Some((reason, fix)) => {
                let position = locate::of_error(&cause).unwrap_or(Position::START);
                Error::new(file, position, builder.key, reason, fix)
            }
            None => syntax::explain(file, text, &cause),
        };
        let mut root = match Build(&mut builder).deserialize(serde_yaml::Deserializer::from_str(text)) {
            Ok(root) => root,
            Err(cause) => return Err(complain(builder, cause)),
        };
        if let Self::Scalar(Kind::Null, _) = root {
            let (reason, fix) = ("the file is empty", "write keys and values into it");
            return Err(Error::new(
                file,
                Position::START,
                KeyPath::root(),
                reason.to_owned(),
                fix.to_owned(),
            ));
        }
        match Sources(&mut root).deserialize(serde_yaml::Deserializer::from_str(text)) {
            Ok(()) => Ok(root),
            Err(cause) => Err(complain(builder, cause)),
        }
    }
}

/// What the visitors share: where they are, what they may still build, and why they stopped.
struct Builder {
    key: KeyPath,
    budget: usize,
    problem: Option<(String, String)>,
}

impl Builder {
    fn refuse<E: de::Error>(&mut self, reason: impl Into<String>, fix: &str) -> E {
        self.problem = Some((reason.into(), fix.to_owned()));
        E::custom("refused")
    }

    fn spend<E: de::Error>(&mut self, bytes: usize) -> Result<(), E> {
        match self.budget.checked_sub(bytes) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => Err(self.refuse(syntax::ALIASES, syntax::ALIASES_FIX)),
        }
    }

    // An escape can make it, and it would cut a path, an argument or a variable short.
    fn refuse_nul<E: de::Error>(&mut self, text: &str) -> Result<(), E> {
        if text.contains('\0') {
            Err(self.refuse("the text holds a NUL character", "remove it"))
        } else {
            Ok(())
        }
    }

    fn descend<E: de::Error>(&mut self, step: Step) -> Result<(), E> {
        self.key.steps.push(step);
        if self.key.steps.len() > MAX_DEPTH {
            // The way itself would drown the message.
            self.key.steps.clear();
            return Err(self.refuse(
                format!("values are nested more than {MAX_DEPTH} levels deep"),
                "use fewer levels; an alias must not name what it stands in",
            ));
        }
        Ok(())
    }
}

/// First pass: the shape, and what each scalar is.
struct Build<'b>(&'b mut Builder);

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build<'_> {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        self.scalar(Kind::Boolean(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        self.scalar(Kind::Integer(value.into()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Node, E> {
        self.scalar(Kind::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        self.scalar(Kind::Integer(value.into()))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Node, E> {
        // Beyond the range of every key either way.
        self.scalar(Kind::Integer(value.try_into().unwrap_or(i128::MAX)))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Node, E> {
        self.scalar(Kind::Float)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        self.scalar(Kind::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        // There is no document at all, so nothing may be spent on it.
        Ok(Node::Scalar(Kind::Null, String::new()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        self.0.spend(1 + value.len())?;
        self.0.refuse_nul(value)?;
        Ok(Node::Scalar(Kind::Text, value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Node, A::Error> {
        self.0.spend(1)?;
        let mut items = Vec::new();
        loop {
            self.0.descend(Step::Index(items.len()))?;
            match sequence.next_element_seed(Build(&mut *self.0))? {
                Some(item) => items.push(item),
                None => break,
            }
            self.0.key.steps.pop();
        }
        self.0.key.steps.pop();
        Ok(Node::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        self.0.spend(1)?;
        let mut entries = Vec::new();
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key_seed(Key { builder: &mut *self.0, seen: &mut seen })? {
            self.0.descend(Step::Key(key.clone()))?;
            entries.push((key, map.next_value_seed(Build(&mut *self.0))?));
            self.0.key.steps.pop();
        }
        Ok(Node::Mapping(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Node, A::Error> {
        let (tag, _) = tagged.variant::<String>()?;
        let reason = format!("the tag `!{}` has no meaning here", tag.trim_start_matches('!'));
        Err(self.0.refuse(reason, "write the value without it"))
    }
}

impl Build<'_> {
    fn scalar<E: de::Error>(self, kind: Kind) -> Result<Node, E> {
        self.0.spend(1)?;
        Ok(Node::Scalar(kind, String::new()))
    }
}

/// A key of a mapping: its text, whatever YAML would take that for.
struct Key<'b> {
    builder: &'b mut Builder,
    seen: &'b mut BTreeSet<String>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        // A list or mapping never reaches the visitor; without another complaint, that is the problem.
        const COMPLEX: &str = "a key is a list or a mapping";
        let Self { builder, seen } = self;
        builder.problem = Some((COMPLEX.to_owned(), "write a text as the key".to_owned()));
        let key = deserializer.deserialize_str(Key { builder: &mut *builder, seen })?;
        builder.problem = None;
        Ok(key)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        self.builder.spend(1 + key.len())?;
        self.builder.refuse_nul(key)?;
        if key == "<<" {
            return Err(self
                .builder
                .refuse("merge keys (`<<`) are not part of YAML 1.2", "write the keys out"));
        }
        if !self.seen.insert(key.to_owned()) {
            self.builder.descend(Step::Key(key.to_owned()))?;
            return Err(self.builder.refuse("the key is given twice", "remove one of the two"));
        }
        Ok(key.to_owned())
    }
}

/// Second pass: the source text of every scalar that is more than text.
struct Sources<'n>(&'n mut Node);

impl<'de> DeserializeSeed<'de> for Sources<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0 {
            Node::Mapping(_) => deserializer.deserialize_map(self),
            Node::Sequence(_) => deserializer.deserialize_seq(self),
            Node::Scalar(..) => deserializer.deserialize_str(self),
        }
    }
}

impl<'de> Visitor<'de> for Sources<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the value of the first pass")
    }

    fn visit_str<E: de::Error>(self, source: &str) -> Result<(), E> {
        if let Node::Scalar(_, text) = self.0 {
            source.clone_into(text);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        if let Node::Sequence(items) = self.0 {
            for item in items {
                sequence.next_element_seed(Sources(item))?;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Node::Mapping(entries) = self.0 {
            for (_, value) in entries {
                map.next_key::<de::IgnoredAny>()?;
                map.next_value_seed(Sources(value))?;
            }
        }
        Ok(())
    }
}
