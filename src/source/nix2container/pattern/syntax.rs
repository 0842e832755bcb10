//! Writes an expression of Go's for the crate `regex`.
//!
//! | Go | `regex` |
//! |---|---|
//! | `\d`, `\s`, `\w`, `\b` mean ASCII | they mean Unicode: the ASCII class is spelt out |
//! | in a class, `[`, `&&`, `--` and `~~` mean themselves | they are operators: each character is written by its number |
//! | `\<` and `\>` mean themselves | they are the ends of words |
//! | `{` means itself where no `{2}`, `{2,}` or `{2,3}` begins | it is an error there, and `{ 2}` and `{02}` repeat |

use std::fmt::Write as _;
use std::str::Chars;

/// `expression` for the crate `regex`; nothing if it cannot be an expression.
pub(super) fn translated(expression: &str) -> Option<String> {
    let mut rest = expression.chars();
    let mut out = String::new();
    while let Some(character) = rest.next() {
        match character {
            '[' => class(&mut rest, &mut out)?,
            '\\' => match rest.next()? {
                'b' => out.push_str(r"(?-u:\b)"),
                'B' => out.push_str(r"(?-u:\B)"),
                // What stands in braces is part of these.
                character @ ('p' | 'P' | 'x') => {
                    out.extend(['\\', character]);
                    out.extend(rest.next());
                }
                character @ ('<' | '>') => out.push(character),
                character => match perl_class(character) {
                    Some((true, members)) => _ = write!(out, "[{members}]"),
                    Some((false, members)) => _ = write!(out, "[^{members}]"),
                    None => out.extend(['\\', character]),
                },
            },
            '{' if !is_repetition(rest.as_str()) => out.push_str(r"\{"),
            _ => out.push(character),
        }
    }
    Some(out)
}

/// Whether what follows a `{` makes it a repetition.
fn is_repetition(text: &str) -> bool {
    let Some((count, _)) = text.split_once('}') else { return false };
    let is_number = |text: &str| {
        let is_long = text.len() > 1 && text.starts_with('0');
        !text.is_empty() && !is_long && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let (least, most) = count.split_once(',').unwrap_or((count, ""));
    is_number(least) && (most.is_empty() || is_number(most))
}

/// The members of `\d` and the like, and whether they are what it stands for or all that it does not.
fn perl_class(name: char) -> Option<(bool, &'static str)> {
    let members = match name.to_ascii_lowercase() {
        'd' => "0-9",
        's' => r"\t\n\f\r ",
        'w' => "0-9A-Za-z_",
        _ => return None,
    };
    Some((name.is_ascii_lowercase(), members))
}

/// What follows the `[` of a class, up to its `]`.
fn class(rest: &mut Chars<'_>, out: &mut String) -> Option<()> {
    out.push('[');
    if rest.as_str().starts_with('^') {
        rest.next();
        out.push('^');
    }
    // A `]` that comes first is a member.
    let mut first = true;
    while first || !rest.as_str().starts_with(']') {
        first = false;
        if !named_class(rest, out)? {
            number(out, member(rest)?);
            if rest.as_str().starts_with('-') && !rest.as_str().starts_with("-]") {
                rest.next();
                out.push('-');
                number(out, member(rest)?);
            }
        }
    }
    rest.next();
    out.push(']');
    Some(())
}

/// Takes `[:alpha:]`, `\w` or `\pL` in a class, if one comes next.
fn named_class(rest: &mut Chars<'_>, out: &mut String) -> Option<bool> {
    let text = rest.as_str();
    let name = text.strip_prefix("[:").and_then(|name| name.find(":]"));
    let length = if let Some(name) = name {
        name + 4
    } else if let Some(name) = text.strip_prefix('\\').and_then(|text| text.chars().next()) {
        if let Some((positive, members)) = perl_class(name) {
            let (open, close) = if positive { ("", "") } else { ("[^", "]") };
            _ = write!(out, "{open}{members}{close}");
            *rest = text[2..].chars();
            return Some(true);
        }
        match name {
            'p' | 'P' if text[2..].starts_with('{') => text.find('}')? + 1,
            'p' | 'P' => 2 + text[2..].chars().next()?.len_utf8(),
            _ => return Some(false),
        }
    } else {
        return Some(false);
    };
    out.push_str(&text[..length]);
    *rest = text[length..].chars();
    Some(true)
}

/// One character in a class, which may be escaped.
fn member(rest: &mut Chars<'_>) -> Option<char> {
    let character = rest.next()?;
    if character != '\\' {
        return Some(character);
    }
    let text = rest.as_str();
    let escaped = text.chars().next()?;
    let (digits, radix, length) = match escaped {
        'x' if text.starts_with("x{") => {
            let digits = text[2..].split_once('}')?.0;
            (digits, 16, digits.len() + 3)
        }
        'x' => (text.get(1..3)?, 16, 3),
        '0'..='7' => {
            let length = text.bytes().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
            (&text[..length], 8, length)
        }
        _ => {
            rest.next();
            return simple_escape(escaped);
        }
    };
    *rest = text[length..].chars();
    char::from_u32(u32::from_str_radix(digits, radix).ok()?)
}

fn simple_escape(name: char) -> Option<char> {
    match name {
        'a' => Some('\u{7}'),
        'f' => Some('\u{c}'),
        't' => Some('\t'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        'v' => Some('\u{b}'),
        _ => name.is_ascii_punctuation().then_some(name),
    }
}

fn number(out: &mut String, member: char) {
    _ = write!(out, r"\x{{{:x}}}", u32::from(member));
}
