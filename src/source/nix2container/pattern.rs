//! Regular expressions as Go reads them.
//!
//! Go's `regexp` and the crate `regex` both descend from RE2, and find the same once an expression is
//! written for the other: see [`syntax`]. Neither can take long or much memory, whoever wrote it.
//! Two differences are left. Where a name is not UTF-8, no `.` matches the bytes that are not. What Go
//! alone knows, `\Q…\E`, is an error and not another meaning.

mod syntax;

use regex::bytes::{Captures, Regex, RegexBuilder};

use super::LayerError;

const LONGEST: usize = 4096;

/// What a compiled expression may take in memory.
const MOST_BYTES: usize = 256 * 1024;

/// A regular expression that can be compiled. It is so for the time of its use only: a file may have thousands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern(String);

impl Pattern {
    pub(super) fn new(text: &str) -> Option<Self> {
        compile(text).map(|_| Self(text.to_owned()))
    }

    pub(super) fn compile(&self) -> Result<Regex, LayerError> {
        compile(&self.0).ok_or_else(|| LayerError::Pattern(self.0.clone()))
    }
}

fn compile(text: &str) -> Option<Regex> {
    if text.len() > LONGEST {
        return None;
    }
    RegexBuilder::new(&syntax::translated(text)?).octal(true).size_limit(MOST_BYTES).build().ok()
}

/// `text` with all that matches replaced; nothing if that is longer than `most` bytes.
pub(super) fn replace_all(regex: &Regex, text: &[u8], replacement: &str, most: usize) -> Option<Vec<u8>> {
    let mut replaced = Vec::new();
    let mut end = 0;
    for found in regex.captures_iter(text) {
        let whole = found.get_match();
        // Go finds the empty text between characters only.
        let continues = text.get(whole.start()).is_some_and(|byte| matches!(byte, 0x80..0xc0));
        if whole.is_empty() && continues {
            continue;
        }
        replaced.extend_from_slice(&text[end..whole.start()]);
        expand(&found, replacement, &mut replaced);
        if replaced.len() > most {
            return None;
        }
        end = whole.end();
    }
    replaced.extend_from_slice(&text[end..]);
    (replaced.len() <= most).then_some(replaced)
}

/// Appends `replacement`, in which `$1`, `$name` and `${name}` stand for groups, and `$$` for a `$`.
fn expand(found: &Captures<'_>, mut replacement: &str, replaced: &mut Vec<u8>) {
    while let Some((before, rest)) = replacement.split_once('$') {
        replaced.extend_from_slice(before.as_bytes());
        replacement = if let Some(rest) = rest.strip_prefix('$') {
            replaced.push(b'$');
            rest
        } else if let Some((name, rest)) = group_name(rest) {
            let leading_zero = name.len() > 1 && name.starts_with('0');
            let group = match name.parse::<usize>() {
                Ok(number) if !leading_zero => found.get(number),
                _ => found.name(name),
            };
            replaced.extend_from_slice(group.map_or(&[], |group| group.as_bytes()));
            rest
        } else {
            replaced.push(b'$');
            rest
        };
    }
    replaced.extend_from_slice(replacement.as_bytes());
}

/// The name behind a `$`, and what follows.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let start = text.strip_prefix('{').unwrap_or(text);
    let end = start.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(start.len());
    let (name, rest) = start.split_at(end);
    let rest = if text.starts_with('{') { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(pattern: &str, text: &str, replacement: &str) -> Option<String> {
        let regex = Pattern::new(pattern).unwrap().compile().unwrap();
        replace_all(&regex, text.as_bytes(), replacement, 4096).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// Printed by Go 1.19.8 for `regexp.MustCompile(PATTERN).ReplaceAll([]byte(TEXT), []byte(REPLACEMENT))`.
    #[test]
    fn replacing_equals_gos() {
        for (pattern, text, replacement, expected) in GO {
            assert_eq!(
                replaced(pattern, text, replacement).as_deref(),
                Some(*expected),
                "{pattern} in {text}"
            );
        }
    }

    #[rustfmt::skip]
    const GO: &[(&str, &str, &str, &str)] = &[
        (r"^/nix/store/0+-c", r"/nix/store/00000000000000000000000000000000-c++-1.0", r"/", r"/++-1.0"),
        (r"^/nix/store/00000000000000000000000000000000-c\+\+-1.0", r"/nix/store/00000000000000000000000000000000-c++-1.0/bin/x", r"", r"/bin/x"),
        (r"^/nix/store/00000000000000000000000000000000-c\+\+-1.0", r"/nix/store/00000000000000000000000000000000-c++-1.0", r"", r""),
        (r"store/(?P<hash>[^-]+)-(.*)$", r"/nix/store/00000000000000000000000000000000-c++-1.0", r"${hash}/$2$$/$3/$hash_", r"/nix/00000000000000000000000000000000/c++-1.0$//"),
        (r"\w+", r"é/ab_1", r"<$0>", r"é/<ab_1>"),
        (r"\b", r"a é", r"|", r"|a| é"),
        (r"x?", r"éa", r"-", r"-é-a-"),
        (r"[[a&&b~~c]", r"[a&~", r".", r"...."),
        (r"[+--]+", r"a+,-.", r"_", r"a_."),
        (r"\<a\>", r"<a>", r"b", r"b"),
        (r"[^\d\pL]", r"é1-", r"${x", r"é1${x"),
        (r"(?i)A.é", r"abÉ", r"$0é$ $", r"$ $"),
        (r"a{01}", r"aa{01}", r"_", r"a_"),
        (r"a{ 1}b{1 }", r"aba{ 1}b{1 }", r"_", r"ab_"),
        (r"a{,2}{", r"aaa{,2}{", r"_", r"aa_"),
        (r"a{1, 2}", r"aa{1, 2}", r"_", r"a_"),
        (r"a{2}\p{Lu}\x{62}", r"aaCb", r"_", r"_"),
        (r"[[:]]", r"[]:]:", r"_", r"__:"),
        (r"a{1,2}|x{2,}?", r"aaaxxx", r"_", r"___x"),
        (r"{a", r"{a", r"_", r"_"),
        (r"[a{1}]{2}", r"{1", r"_", r"_"),
    ];

    #[test]
    fn an_expression_can_take_neither_long_nor_much_memory() {
        for text in ["(", r"\Qa\E", "a{1000}{1000}", r"\pL{1000}", &"a".repeat(5000), "(?=a)", "(?x)a\\"] {
            assert_eq!(Pattern::new(text), None, "{text}");
        }
        let longest = "a".repeat(4000);
        assert!(replaced("b", &longest, "").is_some());
        assert!(replaced("", &longest, "bc").is_none());
        assert!(replaced("a+", &longest, &"$0".repeat(100)).is_none());
    }
}
