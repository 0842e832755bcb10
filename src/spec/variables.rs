//! Text in which `$CI_…` stands for a variable of the job.

use std::str::FromStr;

/// A text with variables, such as `$CI_REGISTRY_IMAGE/web` or `v${CI_PIPELINE_IID}-x`; `$$` is a `$`.
///
/// Only GitLab's own `CI_…` and our `NIXLAYER_…` variables count, and none that holds a secret:
/// where these texts go, everybody can read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableText {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

/// Why a text with variables is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableTextError {
    /// A `$` starts no variable.
    #[error("`$` starts neither `$NAME` nor `${{NAME}}`")]
    LoneDollar,
    /// The variable belongs to neither GitLab nor us.
    #[error("`${0}` is not a `CI_…` or `NIXLAYER_…` variable")]
    Foreign(String),
    /// The variable holds a secret.
    #[error("`${0}` holds a secret, and this text is public")]
    Secret(String),
}

/// A variable that a text names is not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the variable `${name}` is not set")]
pub struct UnsetVariable {
    /// The variable, without `$`.
    pub name: String,
}

impl VariableText {
    /// The text if it has no variables.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            [Part::Variable(_)] | [_, _, ..] => None,
        }
    }

    /// What stands between the variables.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Variable(_) => None,
        })
    }

    /// The text with what `value` gives for each variable.
    pub fn expand(&self, value: impl Fn(&str) -> Option<String>) -> Result<String, UnsetVariable> {
        let mut expanded = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => expanded.push_str(text),
                Part::Variable(name) => {
                    expanded.push_str(&value(name).ok_or_else(|| UnsetVariable { name: name.clone() })?);
                }
            }
        }
        Ok(expanded)
    }
}

impl FromStr for VariableText {
    type Err = VariableTextError;

    fn from_str(text: &str) -> Result<Self, VariableTextError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            literal.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let (name, after) = variable(rest).ok_or(VariableTextError::LoneDollar)?;
            if is_secret(name) {
                return Err(VariableTextError::Secret(name.to_owned()));
            }
            if !name.starts_with("CI_") && !name.starts_with("NIXLAYER_") {
                return Err(VariableTextError::Foreign(name.to_owned()));
            }
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Variable(name.to_owned()));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }
}

/// The variable's name at the start of `text`, bare or in braces, and what follows it.
fn variable(text: &str) -> Option<(&str, &str)> {
    let (name, after) = match text.strip_prefix('{') {
        Some(braced) => braced.split_once('}')?,
        None => {
            let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
            text.split_at(text.find(|character| !is_word(character)).unwrap_or(text.len()))
        }
    };
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let good = starts_well && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    good.then_some((name, after))
}

/// Whether an expression may see the variable: it is one of GitLab's, and holds no secret. Others would change Nix itself.
pub fn is_for_expressions(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.starts_with("CI_") && name.bytes().all(is_plain) && !is_secret(name)
}

/// Whether GitLab puts a credential into the variable; `CI_REPOSITORY_URL` has the job's token in it.
fn is_secret(name: &str) -> bool {
    ["TOKEN", "PASSWORD", "JWT", "SECRET", "PRIVATE_KEY"].iter().any(|word| name.contains(word))
        || name == "CI_REPOSITORY_URL"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand(text: &str) -> String {
        text.parse::<VariableText>().unwrap().expand(|name| Some(format!("<{name}>"))).unwrap()
    }

    #[test]
    fn variables_stand_bare_or_in_braces() {
        assert_eq!(expand("$CI_REGISTRY_IMAGE/web"), "<CI_REGISTRY_IMAGE>/web");
        assert_eq!(expand("v${CI_PIPELINE_IID}_x$NIXLAYER_A$CI_B"), "v<CI_PIPELINE_IID>_x<NIXLAYER_A><CI_B>");
        assert_eq!(expand("5 $$ and $$CI_X"), "5 $ and $CI_X");
        assert_eq!(expand(""), "");
    }

    #[test]
    fn other_uses_of_the_dollar_are_refused() {
        let error = |text: &str| text.parse::<VariableText>().unwrap_err();

        for lone in ["$", "a$", "$ x", "${", "${}", "${CI_X", "${CI X}", "$1", "$-", "${CI_X:-y}"] {
            assert_eq!(error(lone), VariableTextError::LoneDollar, "{lone}");
        }
        assert_eq!(error("$HOME"), VariableTextError::Foreign("HOME".to_owned()));
        for secret in ["CI_JOB_TOKEN", "CI_REGISTRY_PASSWORD", "CI_REPOSITORY_URL", "CI_JOB_JWT_V2"] {
            assert_eq!(error(&format!("${secret}")), VariableTextError::Secret(secret.to_owned()));
            assert!(!is_for_expressions(secret), "{secret}");
        }
    }

    #[test]
    fn an_unset_variable_is_named() {
        let text: VariableText = "$CI_A-$CI_B".parse().unwrap();

        let error = text.expand(|name| (name == "CI_A").then(String::new)).unwrap_err();

        assert_eq!(error.to_string(), "the variable `$CI_B` is not set");
    }

    proptest! {
        #[test]
        fn doubling_every_dollar_keeps_any_text(text: String) {
            prop_assert_eq!(expand(&text.replace('$', "$$")), text);
        }
    }
}
