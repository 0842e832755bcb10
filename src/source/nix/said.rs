//! Short errors from the long logs of Nix.

/// How lines begin that tell how Nix came to an error.
const TRACE: &str = "…";

/// Lines of a builder's log that an error shows.
const LOG_LINES: usize = 10;

/// The last words of a Nix command: its error, then the lines before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub(super) error: String,
    before: Vec<String>,
    /// Places in expressions, as `FILE:LINE:COLUMN`, those next to the error first.
    pub(super) places: Vec<String>,
    /// Whether it misses a file that is none of the project's.
    pub(super) is_outside: bool,
}

impl std::error::Error for Said {}

impl std::fmt::Display for Said {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.error)?;
        if !self.before.is_empty() {
            write!(formatter, "\nthe log ends:\n  {}", self.before.join("\n  "))?;
        }
        Ok(())
    }
}

impl Said {
    /// The part of a log that matters: the last `error:` with what follows it, and what came before.
    pub(super) fn last(log: &str) -> Self {
        let lines: Vec<&str> = log.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let last = |wanted: &dyn Fn(&str) -> bool| {
            lines.iter().rposition(|line| line.trim_start().starts_with("error:") && wanted(line))
        };
        let at = last(&|line| !only_sums_up(line)).or_else(|| last(&|_| true));
        let at = at.unwrap_or(lines.len().saturating_sub(1));
        // An error's own place stands behind it, whichever way Nix tells how it came to it.
        let (before, behind) = lines.split_at(at);
        let places = behind.iter().chain(before.iter().rev()).filter_map(|line| place(line));
        let places = places.map(str::to_owned).collect();
        let (before, error) = lines.split_at(at);
        let noise = |line: &&&str| !line.starts_with("(use '--show-trace'") && !line.starts_with("warning:");
        let error: Vec<&str> = error
            .iter()
            .take_while(|line| !line.trim_start().starts_with(TRACE))
            .enumerate()
            .filter(|(index, line)| noise(line) && (*index == 0 || !only_sums_up(line)))
            // Nix puts what follows the first line below its text.
            .map(|(_, line)| line.strip_prefix("       ").unwrap_or(line).trim_start_matches("error: "))
            .take(20)
            .collect();
        // Nix tells newest first in some versions how it came to an error, and in others last.
        let log =
            before.iter().take_while(|line| !line.trim_start().starts_with(TRACE) && **line != "error:");
        let before: Vec<String> = log.filter(noise).map(|line| (*line).to_owned()).collect();
        let first = before.len().saturating_sub(LOG_LINES);
        Self { error: error.join("\n"), before: before[first..].to_vec(), places, is_outside: false }
    }

    /// The file that is not there.
    pub(super) fn missing_file(&self) -> Option<&str> {
        let line = self.error.lines().next()?;
        let missing = line.ends_with("No such file or directory") || line.ends_with("does not exist");
        let (_, file) = line.split_once("'/").filter(|_| missing)?;
        let length = file.find('\'')?;
        let start = line.len() - file.len() - 1;
        Some(&line[start..=start + length])
    }

    /// Whether it misses a file that is none of the project's, of which Nix sees no other.
    pub fn is_outside(&self) -> bool {
        self.is_outside
    }

    /// Whether it did not get a file of the network.
    pub fn is_download(&self) -> bool {
        self.error.starts_with("unable to download")
    }

    /// The entry of the search path that is wanted, such as `nixpkgs`, where there is none of this name.
    pub fn missing_entry(&self) -> Option<&str> {
        let (file, _) =
            self.error.strip_prefix("file '")?.split_once("' was not found in the Nix search path")?;
        file.split('/').next()
    }
}

/// The place that a line of a trace names: `at FILE:LINE:COLUMN:`.
fn place(line: &str) -> Option<&str> {
    let place = line.trim_start().strip_prefix("at ")?.trim_end_matches(':');
    let mut parts = place.rsplit(':');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (parts.next().is_some_and(is_number) && parts.next().is_some_and(is_number)).then_some(place)
}

/// Whether an error says no more than that one before it stopped something else, too.
fn only_sums_up(line: &str) -> bool {
    line.starts_with("error: build of '")
        || line.contains("dependencies of derivation '") && line.ends_with("failed to build")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by Nix 2.8.0 for a derivation whose builder exits with 3.
    #[test]
    fn the_error_of_a_failed_builder_comes_first_and_then_the_end_of_its_log() {
        let log = "this derivation will be built:\n  /nix/store/a-fail.drv\nbuilding '/nix/store/a-fail.drv'...\n\
                   compiling\nline 1\nline 2\nline 3\nline 4\nline 5\nline 6\nline 7\nline 8\noh no\n\
                   error: builder for '/nix/store/a-fail.drv' failed with exit code 3\n";

        let said = Said::last(log);

        assert_eq!(said.error, "builder for '/nix/store/a-fail.drv' failed with exit code 3");
        assert_eq!(said.before.first().map(String::as_str), Some("compiling"));
        assert_eq!(said.before.last().map(String::as_str), Some("oh no"));
    }

    /// Printed by Nix 2.8.0 for two packages, of which one needs a third whose builder exits with 3.
    #[test]
    fn the_cause_comes_before_what_it_caused() {
        let log = "building '/nix/store/a-lib.drv'...\noh no\n\
                   error: builder for '/nix/store/a-lib.drv' failed with exit code 3;\n       last 1 log lines:\n       > oh no\n\
                   error: 1 dependencies of derivation '/nix/store/b-app.drv' failed to build\n\
                   error: build of '/nix/store/b-app.drv', '/nix/store/c-good.drv' failed\n";

        let said = Said::last(log);

        assert_eq!(
            said.error,
            "builder for '/nix/store/a-lib.drv' failed with exit code 3;\nlast 1 log lines:\n> oh no"
        );
        assert_eq!(said.before.last().map(String::as_str), Some("oh no"));
    }

    /// Printed by Nix 2.8.0 for `<nixpkgs/nixos>`.
    #[test]
    fn what_the_search_path_lacks_is_known_by_its_name() {
        let said = Said::last(
            "error: file 'nixpkgs/nixos' was not found in the Nix search path (add it using $NIX_PATH or -I)\n",
        );

        assert_eq!(said.missing_entry(), Some("nixpkgs"));
        assert_eq!(Said::last("error: file 'a' is not there\n").missing_entry(), None);
    }

    /// Printed by Nix 2.8.0.
    #[test]
    fn a_missing_file_is_known_by_its_path() {
        for (error, file) in [
            ("getting status of '/a/b.nix': No such file or directory", Some("/a/b.nix")),
            ("path '/a' does not exist", Some("/a")),
            ("attribute '/a' missing", None),
            ("a: No such file or directory", None),
            ("'/a: No such file or directory", None),
        ] {
            assert_eq!(Said::last(&format!("error: {error}\n")).missing_file(), file, "{error}");
        }
    }

    /// Printed by Nix 2.8.0 for `throw "broken package"`.
    #[test]
    fn an_evaluation_error_stands_without_nixs_advice() {
        let log = "error: broken package\n(use '--show-trace' to show detailed location information)\n";

        assert_eq!(Said::last(log).to_string(), "broken package");
    }
}
