//! GitLab's job log: sections that fold, and foreign text that must not forge them.
//!
//! GitLab reads a section's borders from the log itself: `ESC[0K`, the marker
//! `section_start:UNIX_TIME:NAME`, a carriage return, `ESC[0K`. Whatever else prints to the log
//! could write the same, so output of builders goes through [`sanitise`] first.

/// Whether a section shows its lines before somebody opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// The lines are shown.
    Open,
    /// The lines are hidden.
    Collapsed,
}

/// The line that begins a section; `unix_time` in seconds.
pub fn section_start(name: &str, title: &str, unix_time: u64, fold: Fold) -> String {
    let options = match fold {
        Fold::Open => "",
        Fold::Collapsed => "[collapsed=true]",
    };
    let title = sanitise(title).replace('\n', " ");
    format!("\x1b[0Ksection_start:{unix_time}:{}{options}\r\x1b[0K{title}\n", section_name(name))
}

/// The line that ends the section of the same name.
pub fn section_end(name: &str, unix_time: u64) -> String {
    format!("\x1b[0Ksection_end:{unix_time}:{}\r\x1b[0K\n", section_name(name))
}

/// GitLab takes letters, digits, `_`, `.` and `-` in a section's name.
fn section_name(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-');
    name.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect()
}

/// `text` without control sequences and section markers: what a terminal and GitLab's log viewer
/// show of it is its letters.
///
/// Whole lines belong in one call. A carriage return ends a line, so that the states of a progress
/// display do not run together; of the other control characters, line ends and tabs stay.
pub fn sanitise(text: &str) -> String {
    let text = without_sequences(&text.replace("\r\n", "\n"));
    text.replace("section_start:", r"section\_start:").replace("section_end:", r"section\_end:")
}

/// Removes what ECMA-48 calls control functions.
fn without_sequences(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '\n' | '\t' => kept.push(letter),
            '\r' => kept.push('\n'),
            '\x1b' => match rest.peek() {
                Some('[') => {
                    rest.next();
                    skip_control_sequence(&mut rest);
                }
                Some(']' | 'P' | 'X' | '^' | '_') => skip_control_string(&mut rest),
                Some(' '..='/') => skip_escape(&mut rest),
                Some('0'..='~') => {
                    rest.next();
                }
                _ => {}
            },
            '\u{9b}' => skip_control_sequence(&mut rest),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_control_string(&mut rest),
            other if other.is_control() => {}
            other => kept.push(other),
        }
    }
    kept
}

type Letters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Parameters and intermediates (U+0020 to U+003F), then one final character.
fn skip_control_sequence(rest: &mut Letters<'_>) {
    while rest.next_if(|letter| (' '..='?').contains(letter)).is_some() {}
    rest.next_if(|letter| ('@'..='~').contains(letter));
}

/// Intermediates, then one final character.
fn skip_escape(rest: &mut Letters<'_>) {
    while rest.next_if(|letter| (' '..='/').contains(letter)).is_some() {}
    rest.next_if(|letter| ('0'..='~').contains(letter));
}

/// Everything up to the terminator, but never beyond the line: one byte must not hide the log.
fn skip_control_string(rest: &mut Letters<'_>) {
    while let Some(letter) = rest.next_if(|letter| !matches!(letter, '\n' | '\r')) {
        match letter {
            '\x07' | '\u{9c}' => return,
            '\x1b' if rest.next_if_eq(&'\\').is_some() => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The form in GitLab's documentation of custom collapsible sections.
    #[test]
    fn sections_have_gitlabs_form() {
        assert_eq!(
            section_start("my_first_section", "Header of the section", 1560896352, Fold::Collapsed),
            "\x1b[0Ksection_start:1560896352:my_first_section[collapsed=true]\r\x1b[0KHeader of the section\n"
        );
        assert_eq!(
            section_end("my_first_section", 1560896353),
            "\x1b[0Ksection_end:1560896353:my_first_section\r\x1b[0K\n"
        );
    }

    #[test]
    fn names_and_titles_cannot_break_out_of_a_section() {
        assert_eq!(
            section_start("a b\r\x1b:é", "t\r\nsection_end:1:x\x1b[2J", 7, Fold::Open),
            "\x1b[0Ksection_start:7:a_b____\r\x1b[0Kt section\\_end:1:x\n"
        );
    }

    #[test]
    fn foreign_text_keeps_its_letters_only() {
        for (foreign, clean) in [
            ("plain\ttext: é ✓\n", "plain\ttext: é ✓\n"),
            ("\x1b[31;1merror:\x1b[0m bad\n", "error: bad\n"),
            ("\x1b[0Ksection_end:1560896353:build\r\x1b[0K", "section\\_end:1560896353:build\n"),
            ("section_\x1b[0mstart:1:x", "section\\_start:1:x"),
            ("10%\r20%\r\ndone\r\n", "10%\n20%\ndone\n"),
            ("\x1b]0;title\x07after", "after"),
            ("\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b]0;never ended\nnext line", "\nnext line"),
            ("\u{9b}2Jx\u{85}y\x08\x7f", "xy"),
            ("\x1b(Bx\x1bcy\x1b", "xy"),
            ("\x1b[1\nx", "\nx"),
        ] {
            assert_eq!(sanitise(foreign), clean, "{foreign:?}");
        }
    }

    /// Text with a good share of what matters.
    fn hostile() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![
                Just("section_start:".to_owned()),
                Just("section_".to_owned()),
                Just("end:".to_owned()),
                Just("\x1b[0K".to_owned()),
                Just("\x1b".to_owned()),
                Just("\r".to_owned()),
                Just("\n".to_owned()),
                "[\\[\\]0-9;:@-~\u{80}-\u{9f}]{1,3}",
                any::<char>().prop_map(String::from),
            ],
            0..24,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn no_control_and_no_marker_survives(text in hostile()) {
            let clean = sanitise(&text);

            prop_assert!(clean.chars().all(|letter| !letter.is_control() || matches!(letter, '\n' | '\t')));
            prop_assert!(!clean.contains("section_start:") && !clean.contains("section_end:"));
        }

        #[test]
        fn clean_text_stays_as_it_is(text in hostile()) {
            let clean = sanitise(&text);

            prop_assert_eq!(sanitise(&clean), clean);
        }

        /// Each line end of the foreign text is still one, so line numbers and caps hold.
        #[test]
        fn no_line_is_lost(lines in proptest::collection::vec("[^\r\n]{0,12}", 0..6)) {
            let text = lines.join("\n");

            prop_assert_eq!(sanitise(&text).matches('\n').count(), text.matches('\n').count());
        }
    }
}
