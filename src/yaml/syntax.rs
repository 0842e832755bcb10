//! What is wrong with a file before it has keys, told in an author's words.

use super::error::Position;
use super::locate::Place;
use super::{Error, KeyPath, SIZE_LIMIT, locate};

/// Opening brackets that may exceed the closing ones, wherever they stand: the parser's time grows with
/// the square of what is open, and 60 000 levels would hold it for half a minute.
const MAX_OPEN_BRACKETS: usize = 512;

/// The text of `bytes`, if it is short enough and holds only characters that YAML allows.
pub(super) fn check<'b>(file: &str, bytes: &'b [u8]) -> Result<&'b str, Error> {
    let error = |position, reason: String, fix: &str| {
        Error::new(file, position, KeyPath::root(), reason, fix.to_owned())
    };
    if bytes.len() > SIZE_LIMIT {
        let reason = format!("the file has more than {SIZE_LIMIT} bytes");
        return Err(error(Position::START, reason, "keep large contents in files of their own"));
    }
    let text = std::str::from_utf8(bytes).map_err(|cause| {
        let good = String::from_utf8_lossy(&bytes[..cause.valid_up_to()]);
        error(Position::after(&good), "the file is not UTF-8".to_owned(), "save it as UTF-8")
    })?;
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some((offset, character)) = body.char_indices().find(|(_, character)| !is_allowed(*character)) {
        let reason = format!("the character U+{:04X} is not allowed in YAML", u32::from(character));
        return Err(error(
            Position::after(&body[..offset]),
            reason,
            "remove it, or write it as an escape in double quotes",
        ));
    }
    if let Some(offset) = open_brackets_beyond(MAX_OPEN_BRACKETS, body) {
        let reason = format!("values are nested: more than {MAX_OPEN_BRACKETS} brackets are open");
        return Err(error(
            Position::after(&body[..offset]),
            reason,
            "use fewer levels, or close the brackets",
        ));
    }
    Ok(text)
}

/// The YAML parser's complaint about `text`.
pub(super) fn explain(file: &str, text: &str, cause: &serde_yaml::Error) -> Error {
    let error = |position, reason: &str, fix: &str| {
        Error::new(file, position, KeyPath::root(), reason.to_owned(), fix.to_owned())
    };
    let Some(position) = locate::of_error(cause) else {
        return match second_document(text) {
            Some(position) => error(
                position,
                "the file holds more than one document",
                "remove the line `---` and what follows, or move it to a file of its own",
            ),
            None => error(Position::START, ALIASES, ALIASES_FIX),
        };
    };
    let message = cause.to_string();
    if character_at(text, position) == Some('\t') || message.contains("tab character") {
        return error(position, "a tab stands where the indentation is", "indent with spaces");
    }
    let place = format!(" at line {} column {}", position.line, position.column);
    let reason = format!("this is not YAML: {}", message.replacen(&place, "", 1).replace('\'', "`"));
    let fix = FIXES
        .iter()
        .find_map(|(fragment, fix)| message.contains(fragment).then_some(*fix))
        .unwrap_or("check indentation, quotes and brackets there and just above");
    error(position, &reason, fix)
}

/// The reason and the fix where aliases repeat each other without end.
pub(super) const ALIASES: &str = "its aliases (`*name`) expand to far more than the file holds";
pub(super) const ALIASES_FIX: &str = "write the repeated values out";

/// Fragments of libyaml's messages, and what helps most often.
const FIXES: &[(&str, &str)] = &[
    ("unknown anchor", "name an anchor (`&name`) that stands above, or quote the text"),
    ("mapping values are not allowed", "quote a text that holds `: `, or start a new line for the key"),
    ("cannot start any token", "quote a text that starts with `@`, `%` or a backtick"),
    ("while scanning a quoted scalar", "close the quote"),
    ("while parsing a flow sequence", "close the list with `]`"),
    ("while parsing a flow mapping", "close the mapping with `}`"),
    ("could not find expected ':'", "write `key: value`, or indent the line as part of the text above"),
    ("block sequence", "align the items' `-` below each other"),
    ("block mapping", "align the keys of a mapping below each other"),
    ("block scalar", "indent the text below `|` evenly with spaces"),
];

/// Where the second document starts, if there is one.
fn second_document(text: &str) -> Option<Position> {
    let second = serde_yaml::Deserializer::from_str(text).nth(1)?;
    Some(locate::walk(second, &KeyPath::root(), Place::Value))
}

fn character_at(text: &str, position: Position) -> Option<char> {
    text.split('\n').nth(position.line - 1)?.chars().nth(position.column - 1)
}

/// The offset of the bracket with which more than `limit` are open.
fn open_brackets_beyond(limit: usize, text: &str) -> Option<usize> {
    let mut open = 0_usize;
    text.bytes().position(|byte| {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > limit
    })
}

/// YAML 1.2, production 1: `c-printable`.
fn is_allowed(character: char) -> bool {
    matches!(
        character,
        '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}'
            | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}'
    )
}
