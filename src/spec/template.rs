//! Text in which `${pkgs.NAME}` stands for a package's store path.

use std::str::FromStr;

use super::attr_path::AttrPath;

/// What opens a reference to a package. The dot keeps it apart from every expansion that a shell has.
const OPENING: &str = "${pkgs.";

/// A text with references to packages, such as `ln -s ${pkgs.coreutils}/bin/env usr/bin/env`.
///
/// Every other `$` is the text's own and stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text that stays as it is.
    Text(String),
    /// The store path of a package.
    Package(AttrPath),
}

/// A reference to a package is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a reference such as `${{pkgs.coreutils}}`: {reason}")]
pub struct TemplateError {
    text: String,
    reason: &'static str,
}

/// A package that a text refers to has no store path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the package `{0}` has no store path")]
pub struct MissingPackage(pub AttrPath);

impl Template {
    /// The pieces in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The packages that the text refers to, as often as it does.
    pub fn packages(&self) -> impl Iterator<Item = &AttrPath> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Package(package) => Some(package),
        })
    }

    /// The text with what `store_path` gives for each package.
    pub fn render(&self, store_path: impl Fn(&AttrPath) -> Option<String>) -> Result<String, MissingPackage> {
        let mut rendered = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Package(package) => {
                    rendered.push_str(&store_path(package).ok_or_else(|| MissingPackage(package.clone()))?);
                }
            }
        }
        Ok(rendered)
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(OPENING) {
            let reference = &rest[start..];
            let error = |reason| {
                let line = reference.lines().next().unwrap_or_default();
                let end = line.find('}').map_or(line.len(), |brace| brace + 1);
                TemplateError { text: line[..end].to_owned(), reason }
            };
            let (package, after) = AttrPath::from_start(&reference[OPENING.len()..]).map_err(error)?;
            let after = after.strip_prefix('}').ok_or_else(|| error("`}` must follow the package's name"))?;
            if start > 0 {
                parts.push(Part::Text(rest[..start].to_owned()));
            }
            parts.push(Part::Package(package));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn render(text: &str) -> String {
        text.parse::<Template>().unwrap().render(|package| Some(format!("<{package}>"))).unwrap()
    }

    #[test]
    fn only_references_to_packages_are_replaced() {
        assert_eq!(render("ln -s ${pkgs.coreutils}/bin/env x"), "ln -s <coreutils>/bin/env x");
        assert_eq!(render("${pkgs.a.b}${pkgs.\"x}y\"}"), "<a.b><\"x}y\">");
        for shell in ["$HOME ${HOME} $$ ${x:-y} $(z) ${pkgs} $pkgs.x ${#pkgs}", "${pkgs:-.}", ""] {
            assert_eq!(render(shell), shell);
        }
    }

    #[test]
    fn malformed_references_are_refused() {
        for text in
            ["${pkgs.}", "${pkgs.a", "${pkgs.a b}", "${pkgs.a/bin}", "${pkgs.-a}", "x\n${pkgs.\"a}\ny"]
        {
            assert!(text.parse::<Template>().is_err(), "{text:?} passed");
        }
    }

    #[test]
    fn a_package_without_store_path_is_named() {
        let template: Template = "${pkgs.jq} ${pkgs.gone.x}".parse().unwrap();

        let error = template.render(|package| (package.to_string() == "jq").then(String::new)).unwrap_err();

        assert_eq!(error.to_string(), "the package `gone.x` has no store path");
    }

    proptest! {
        #[test]
        fn text_without_references_stays(text in "[${}pkgs. a\n]{0,40}") {
            prop_assume!(!text.contains("${pkgs."));
            prop_assert_eq!(render(&text), text);
        }
    }
}
