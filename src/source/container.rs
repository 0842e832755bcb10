//! Objects that a container's configuration takes over: what to run, and the history of a layer.
//!
//! What reads them is mostly written in Go, which does not mind the case of keys, so users write `entrypoint` as well as
//! `Entrypoint`, and which reads nothing of a configuration with a value of another shape. Here each key gets the
//! spelling of the image specification, and values that say nothing are left out, as Go does when it writes them.

use serde_json::{Map, Value};

use super::json::{Item, KeyError};
use crate::nix::shown;

/// What may stand at a key.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Text,
    Time,
    Texts,
    /// An object whose keys matter alone.
    Set,
    /// An object with texts in it.
    Labels,
    Flag,
    Healthcheck,
    Number,
}

/// Image specification, "OCI Image Configuration", and what Docker adds to its `config`.
pub(super) const CONFIG: &[(&str, Shape)] = &[
    ("User", Shape::Text),
    ("ExposedPorts", Shape::Set),
    ("Env", Shape::Texts),
    ("Entrypoint", Shape::Texts),
    ("Cmd", Shape::Texts),
    ("Volumes", Shape::Set),
    ("WorkingDir", Shape::Text),
    ("Labels", Shape::Labels),
    ("StopSignal", Shape::Text),
    ("ArgsEscaped", Shape::Flag),
    ("Healthcheck", Shape::Healthcheck),
    ("Shell", Shape::Texts),
    ("OnBuild", Shape::Texts),
    ("Memory", Shape::Number),
    ("MemorySwap", Shape::Number),
    ("CpuShares", Shape::Number),
    ("Hostname", Shape::Text),
    ("Domainname", Shape::Text),
    ("AttachStdin", Shape::Flag),
    ("AttachStdout", Shape::Flag),
    ("AttachStderr", Shape::Flag),
    ("Tty", Shape::Flag),
    ("OpenStdin", Shape::Flag),
    ("StdinOnce", Shape::Flag),
    ("Image", Shape::Text),
    ("NetworkDisabled", Shape::Flag),
    ("MacAddress", Shape::Text),
    ("StopTimeout", Shape::Number),
];

/// The same of Docker's `Healthcheck`; times are in nanoseconds.
const HEALTHCHECK: &[(&str, Shape)] = &[
    ("Test", Shape::Texts),
    ("Interval", Shape::Number),
    ("Timeout", Shape::Number),
    ("StartPeriod", Shape::Number),
    ("StartInterval", Shape::Number),
    ("Retries", Shape::Number),
];

/// The same of the members of `history`.
pub(super) const HISTORY: &[(&str, Shape)] = &[
    ("created", Shape::Time),
    ("created_by", Shape::Text),
    ("author", Shape::Text),
    ("comment", Shape::Text),
    ("empty_layer", Shape::Flag),
];

/// The members of an object, those of `known` by these names, without what says nothing. Others stay as they are.
pub(super) fn normalised(object: &Item<'_>, known: &[(&str, Shape)]) -> Result<Map<String, Value>, KeyError> {
    let mut normal = Map::new();
    for (name, item) in object.members()? {
        let same = |(key, _): &&(&str, Shape)| key.eq_ignore_ascii_case(name);
        let (key, value) = match known.iter().find(same) {
            Some((key, shape)) => (*key, shape.read(&item)?),
            None => (name, Some(item.value.clone())),
        };
        let Some(value) = value else { continue };
        if normal.insert(key.to_owned(), value).is_some() {
            return Err(
                item.error(format_args!("is another spelling of `{}`, which is there too", shown(key)))
            );
        }
    }
    Ok(normal)
}

impl Shape {
    /// The value as it is written, or nothing if it says nothing.
    fn read(self, item: &Item<'_>) -> Result<Option<Value>, KeyError> {
        let mut value = item.value.clone();
        match self {
            _ if item.value.is_null() => {}
            Self::Text => _ = item.text()?,
            Self::Time => _ = item.parsed::<jiff::Timestamp>("time of RFC 3339")?,
            Self::Texts => item.list()?.iter().try_for_each(|item| item.text().map(drop))?,
            Self::Set => {
                let mut set = Map::new();
                for (name, item) in item.members()? {
                    if !item.value.is_null() {
                        item.members()?;
                    }
                    set.insert(name.to_owned(), Value::Object(Map::new()));
                }
                value = Value::Object(set);
            }
            Self::Labels => item.members()?.iter().try_for_each(|(_, item)| item.text().map(drop))?,
            Self::Flag if item.value.is_boolean() => {}
            Self::Flag => return Err(item.error("is neither `true` nor `false`")),
            Self::Healthcheck => value = Value::Object(normalised(item, HEALTHCHECK)?),
            Self::Number if item.value.is_i64() => {}
            Self::Number => return Err(item.error("is no whole number")),
        }
        Ok(item.says_something().then_some(value))
    }
}
