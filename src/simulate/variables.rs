//! How GitLab Runner makes one value per variable from a list with duplicates and references.
//!
//! The last entry of a key wins. References in it (`$X`, `${X}`; `$$` is a dollar) are replaced
//! once, by the unexpanded last values of the list, unless the entry is raw; what is not in the
//! list is empty.

use std::collections::BTreeMap;
use std::path::Path;

use super::RunnerVersion;
use crate::job::payload::Variable;

/// A variable as a script gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The value: of a file variable, the contents of the file.
    pub(super) value: String,
    /// Whether scripts get the path of a file instead.
    pub(super) file: bool,
}

/// The last value of every key, expanded; `temp_project_dir` holds the files of file variables.
pub(super) fn resolve(
    list: &[Variable],
    version: RunnerVersion,
    temp_project_dir: Option<&Path>,
) -> BTreeMap<String, Resolved> {
    let last: BTreeMap<&str, &Variable> =
        list.iter().map(|variable| (variable.key.as_str(), variable)).collect();
    let referenced = |name: &str| match (last.get(name), temp_project_dir) {
        (Some(variable), Some(folder)) if variable.file && version.has_temp_project_dir() => {
            folder.join(name).to_string_lossy().into_owned()
        }
        (Some(variable), _) => variable.value.expose().to_owned(),
        (None, _) => String::new(),
    };
    let resolved = |variable: &Variable| {
        let text = variable.value.expose();
        let value = if variable.raw { text.to_owned() } else { expand(text, referenced) };
        Resolved { value, file: variable.file }
    };
    last.iter().map(|(key, variable)| ((*key).to_owned(), resolved(variable))).collect()
}

/// Replaces references as Go's `os.Expand` does, with `$$` for a dollar.
fn expand(text: &str, value: impl Fn(&str) -> String) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            expanded.push_str(&value(name));
            rest = after;
        } else {
            let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let end = rest.find(|letter| !word(letter)).unwrap_or(rest.len());
            if end == 0 {
                expanded.push('$');
            } else {
                expanded.push_str(&value(&rest[..end]));
            }
            rest = &rest[end..];
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn list(entries: &[(&str, &str)]) -> Vec<Variable> {
        let entry = |(key, value): &(&str, &str)| Variable {
            key: (*key).to_owned(),
            value: Secret::from((*value).to_owned()),
            file: key.starts_with("FILE"),
            raw: key.starts_with("RAW"),
            ..Variable::default()
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn references_are_replaced_once_and_the_last_entry_wins() {
        let list = list(&[
            ("A", "first"),
            ("B", "$A-${A}-$$A-$NONE."),
            ("C", "$B"),
            ("RAW", "$A"),
            ("D", "a $ b, ${A"),
            ("A", "last"),
        ]);

        let resolved = resolve(&list, RunnerVersion::NEWEST, None);

        for (key, value) in [
            ("A", "last"),
            ("B", "last-last-$A-."),
            ("C", "$A-${A}-$$A-$NONE."),
            ("RAW", "$A"),
            ("D", "a $ b, ${A"),
        ] {
            assert_eq!(resolved[key].value, value, "{key}");
        }
    }

    #[test]
    fn a_reference_to_a_file_variable_is_its_path_since_15_7() {
        let list = list(&[("FILE", "contents"), ("X", "$FILE")]);
        let value = |version| resolve(&list, version, Some(Path::new("/b/p.tmp")))["X"].value.clone();

        assert_eq!(value(RunnerVersion::new(15, 6)), "contents");
        assert_eq!(value(RunnerVersion::new(15, 7)), "/b/p.tmp/FILE");
    }
}
