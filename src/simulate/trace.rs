//! The job log: what the driver prints, line by line, masked values replaced.

/// Collects a job log and shows it as it grows.
pub(super) struct Trace<'a> {
    masked: Vec<String>,
    unfinished: Vec<u8>,
    text: String,
    show: &'a mut dyn FnMut(&str),
}

impl<'a> Trace<'a> {
    /// A log in which none of the `masked` values appears.
    pub(super) fn new(mut masked: Vec<String>, show: &'a mut dyn FnMut(&str)) -> Self {
        masked.retain(|value| !value.is_empty());
        // A value may be part of a longer one.
        masked.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { masked, unfinished: Vec::new(), text: String::new(), show }
    }

    /// A line of the runner's own.
    pub(super) fn line(&mut self, line: &str) {
        self.end_line();
        self.write(format!("{line}\n").as_bytes());
    }

    /// What a process printed. An unfinished line waits for its rest, in case a value is split.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.unfinished.extend_from_slice(bytes);
        if let Some(end) = self.unfinished.iter().rposition(|&byte| byte == b'\n') {
            let rest = self.unfinished.split_off(end + 1);
            self.flush();
            self.unfinished = rest;
        }
    }

    /// Ends the line that a process left unfinished.
    pub(super) fn end_line(&mut self) {
        if !self.unfinished.is_empty() {
            self.unfinished.push(b'\n');
            self.flush();
        }
    }

    /// The whole log.
    pub(super) fn into_text(mut self) -> String {
        self.end_line();
        self.text
    }

    fn flush(&mut self) {
        let mut lines = String::from_utf8_lossy(&self.unfinished).into_owned();
        for value in &self.masked {
            lines = lines.replace(value.as_str(), "[MASKED]");
        }
        self.unfinished.clear();
        (self.show)(&lines);
        self.text.push_str(&lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_values_are_replaced_even_when_split_or_nested() {
        let mut shown = String::new();
        let mut show = |lines: &str| shown.push_str(lines);
        let mut trace = Trace::new(vec!["pass".to_owned(), "password".to_owned(), String::new()], &mut show);

        trace.write(b"a pass");
        trace.write(b"word, a pass\nand pa");
        trace.line("own line");
        trace.write(b"ss");
        let text = trace.into_text();

        assert_eq!(text, "a [MASKED], a [MASKED]\nand pa\nown line\nss\n");
        assert_eq!(shown, text);
    }
}
