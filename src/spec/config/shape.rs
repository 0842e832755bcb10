//! How the value of each key of `config` is written, and what is checked about it.

use serde_json::{Map, Value as Json};

use super::super::PACKAGE_FIX;
use super::super::template::{Template, TemplateError};
use super::Tree;
use super::duration;
use super::label::{LabelText, LabelTextError};
use crate::yaml::{Error, Value};

/// How a value is written, and checked.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    User,
    Ports,
    Environment,
    Command,
    Folders,
    Folder,
    Labels,
    Signal,
    Healthcheck,
    Flag,
    Number,
}

/// The keys of `config`, and how the value of each is written.
pub(super) const KEYS: &[(&str, Shape)] = &[
    ("User", Shape::User),
    ("ExposedPorts", Shape::Ports),
    ("Env", Shape::Environment),
    ("Entrypoint", Shape::Command),
    ("Cmd", Shape::Command),
    ("Volumes", Shape::Folders),
    ("WorkingDir", Shape::Folder),
    ("Labels", Shape::Labels),
    ("StopSignal", Shape::Signal),
    ("Healthcheck", Shape::Healthcheck),
    ("Shell", Shape::Command),
    ("OnBuild", Shape::Command),
    ("ArgsEscaped", Shape::Flag),
    ("Memory", Shape::Number),
    ("MemorySwap", Shape::Number),
    ("CpuShares", Shape::Number),
];

impl Shape {
    /// The value, checked.
    pub(super) fn read(self, value: &Value<'_>) -> Result<Tree, Error> {
        match self {
            Self::User => user(value),
            Self::Ports => set(value, port),
            Self::Environment => environment(value),
            Self::Command => command(value),
            Self::Folders => set(value, folder),
            Self::Folder => folder(value, value.text()?),
            Self::Labels => labels(value),
            Self::Signal => signal(value),
            Self::Healthcheck => healthcheck(value),
            Self::Flag => Ok(Tree::Known(value.boolean()?.into())),
            Self::Number => Ok(Tree::Known(value.integer(-1..=i64::MAX)?.into())),
        }
    }
}

fn template(value: &Value<'_>, text: &str) -> Result<Tree, Error> {
    let template: Template =
        text.parse().map_err(|cause: TemplateError| value.error(cause.to_string(), PACKAGE_FIX))?;
    Ok(Tree::Text { key: value.key().clone(), text: LabelText::without_variables(template) })
}

fn user(value: &Value<'_>) -> Result<Tree, Error> {
    let user = value.text()?;
    if user.is_empty() || user.contains(char::is_whitespace) {
        return Err(value.error(format!("`{user}` is not a user"), "write `USER`, `UID` or `UID:GID`"));
    }
    template(value, user)
}

/// The standard writes a set as an object with empty objects in it; people rather write a list.
fn set(value: &Value<'_>, item: fn(&Value<'_>, &str) -> Result<Tree, Error>) -> Result<Tree, Error> {
    let mut names: Vec<(&str, Value<'_>)> = Vec::new();
    if value.is_mapping() {
        for (name, content) in value.entries()? {
            if !content.is_null() && content.fields(&[]).is_err() {
                return Err(
                    content.error("nothing may stand behind this key", "write `{}`, or a list of the keys")
                );
            }
            names.push((name, content));
        }
    } else {
        for name in value.list()? {
            names.push((name.text()?, name));
        }
    }
    let mut keys: Vec<(String, Tree)> = Vec::new();
    for (name, at) in names {
        let complaint =
            |error: Error| if value.is_mapping() { at.key_error(error.reason(), error.fix()) } else { error };
        item(&at, name).map_err(complaint)?;
        if keys.iter().any(|(other, _)| other == name) {
            return Err(at.error(format!("`{name}` is given twice"), "remove one of the two"));
        }
        keys.push((name.to_owned(), Tree::Known(Json::Object(Map::new()))));
    }
    Ok(Tree::Mapping(keys))
}

fn port(value: &Value<'_>, text: &str) -> Result<Tree, Error> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let good = digits && number.parse::<u16>().is_ok_and(|port| port > 0);
    if !good || !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(
            value.error(format!("`{text}` is not a port"), "write a port such as `8080/tcp` or `53/udp`")
        );
    }
    Ok(Tree::Known(Json::Null))
}

fn folder(value: &Value<'_>, text: &str) -> Result<Tree, Error> {
    if !text.starts_with('/') && !text.starts_with("${pkgs.") {
        return Err(value.error(format!("`{text}` is not an absolute path"), "start it with `/`"));
    }
    template(value, text)
}

/// `NAME=value` entries, from a list of them or a mapping; with the value's node for its place.
fn assignments<'d>(value: &Value<'d>) -> Result<Vec<(&'d str, &'d str, Value<'d>)>, Error> {
    let mut found: Vec<(&str, &str, Value<'_>)> = Vec::new();
    let mut add = |name: &'d str, content: &'d str, at: Value<'d>, whole: &Value<'d>| {
        if name.is_empty() || name.contains('=') || name.contains("${pkgs.") {
            let reason = format!("`{name}` is not a name");
            let fix = "write a name without `=`, and the value behind it";
            return Err(if whole.is_mapping() { at.key_error(reason, fix) } else { at.error(reason, fix) });
        }
        if found.iter().any(|(other, _, _)| *other == name) {
            return Err(at.error(format!("`{name}` is given twice"), "remove one of the two"));
        }
        found.push((name, content, at));
        Ok(())
    };
    if value.is_mapping() {
        for (name, content) in value.entries()? {
            add(name, content.text()?, content, value)?;
        }
    } else {
        for item in value.list()? {
            let text = item.text()?;
            let Some((name, content)) = text.split_once('=') else {
                return Err(item.error(format!("`{text}` has no `=`"), "write `NAME=value`"));
            };
            add(name, content, item, value)?;
        }
    }
    Ok(found)
}

fn environment(value: &Value<'_>) -> Result<Tree, Error> {
    let variable = |(name, content, at): &(&str, &str, Value<'_>)| template(at, &format!("{name}={content}"));
    assignments(value)?.iter().map(variable).collect::<Result<_, _>>().map(Tree::List)
}

fn labels(value: &Value<'_>) -> Result<Tree, Error> {
    let mut labels = Vec::new();
    for (name, content, at) in assignments(value)? {
        let text =
            content.parse().map_err(|cause: LabelTextError| at.error(cause.to_string(), cause.fix()))?;
        labels.push((name.to_owned(), Tree::Text { key: at.key().clone(), text }));
    }
    Ok(Tree::Mapping(labels))
}

fn command(value: &Value<'_>) -> Result<Tree, Error> {
    if !value.is_list() && !value.is_mapping() && !value.is_null() {
        let text = value.text()?;
        return Err(value.error(
            "a command is a list of its words",
            format!("write `[{text}]`, or `[/bin/sh, -c, \"…\"]` for a shell's line"),
        ));
    }
    value.list()?.iter().map(|word| template(word, word.text()?)).collect::<Result<_, _>>().map(Tree::List)
}

fn signal(value: &Value<'_>) -> Result<Tree, Error> {
    let text = value.text()?;
    let name = text.strip_prefix("SIG").unwrap_or_default();
    let is_name = name.starts_with(|first: char| first.is_ascii_uppercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'+' || byte == b'-');
    // Linux has the signals 1 to 64.
    if is_name || text.parse::<u8>().is_ok_and(|number| matches!(number, 1..=64)) {
        return Ok(Tree::Known(text.into()));
    }
    Err(value.error(format!("`{text}` is not a signal"), "write a name such as `SIGTERM`, or a number"))
}

fn healthcheck(value: &Value<'_>) -> Result<Tree, Error> {
    const FIX: &str = "write `[CMD, PROGRAM, …]`, `[CMD-SHELL, \"…\"]` or `[NONE]`";
    let known = ["Test", "Interval", "Timeout", "Retries", "StartPeriod", "StartInterval"];
    let given = value.fields_in_any_case(&known)?;
    let mut fields = Vec::new();
    for (name, value) in given.iter() {
        let tree = match name {
            "Test" => {
                let words = value.list().map_err(|error| value.error(error.reason(), FIX))?;
                let kind = words.first().map(Value::text).transpose()?;
                if !matches!(kind, Some("NONE" | "CMD" | "CMD-SHELL")) {
                    return Err(value.error("a test starts with `CMD`, `CMD-SHELL` or `NONE`", FIX));
                }
                command(value)?
            }
            "Retries" => Tree::Known(value.integer(0..=u32::MAX)?.into()),
            _ => Tree::Known(duration::nanoseconds(value)?.into()),
        };
        fields.push((name.to_owned(), tree));
    }
    Ok(Tree::Mapping(fields))
}
