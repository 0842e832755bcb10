//! Text of the image's configuration: packages, and in labels the job's variables too.

use std::str::FromStr;

use super::super::attr_path::AttrPath;
use super::super::template::{self, MissingPackage, Template, TemplateError};
use super::super::variables::{UnsetVariable, VariableText, VariableTextError};

/// A text such as `built by $CI_PIPELINE_URL with ${pkgs.bash}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabelText {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variables(VariableText),
    Package(AttrPath),
}

/// Why a label's text is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LabelTextError {
    #[error(transparent)]
    Package(#[from] TemplateError),
    #[error(transparent)]
    Variable(#[from] VariableTextError),
}

/// What a text of the configuration lacks to be complete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingValue {
    /// The store path of a package.
    #[error(transparent)]
    Package(#[from] MissingPackage),
    /// The value of a variable.
    #[error(transparent)]
    Variable(#[from] UnsetVariable),
}

impl LabelTextError {
    pub(super) fn fix(&self) -> &'static str {
        match self {
            Self::Package(_) => super::super::PACKAGE_FIX,
            Self::Variable(_) => super::super::VARIABLE_FIX,
        }
    }
}

impl LabelText {
    /// The text in which every `$` but those of packages stays.
    pub(super) fn without_variables(template: Template) -> Self {
        let part = |part: &template::Part| match part {
            template::Part::Text(text) => Part::Text(text.clone()),
            template::Part::Package(package) => Part::Package(package.clone()),
        };
        Self { parts: template.parts().iter().map(part).collect() }
    }

    pub(super) fn packages(&self) -> impl Iterator<Item = &AttrPath> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) | Part::Variables(_) => None,
            Part::Package(package) => Some(package),
        })
    }

    pub(super) fn render(
        &self,
        store_path: impl Fn(&AttrPath) -> Option<String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<String, MissingValue> {
        let mut rendered = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Variables(text) => rendered.push_str(&text.expand(&variable)?),
                Part::Package(package) => {
                    rendered.push_str(&store_path(package).ok_or_else(|| MissingPackage(package.clone()))?);
                }
            }
        }
        Ok(rendered)
    }
}

impl FromStr for LabelText {
    type Err = LabelTextError;

    fn from_str(text: &str) -> Result<Self, LabelTextError> {
        let template: Template = text.parse()?;
        let part = |part: &template::Part| match part {
            template::Part::Text(text) => text.parse().map(Part::Variables),
            template::Part::Package(package) => Ok(Part::Package(package.clone())),
        };
        Ok(Self { parts: template.parts().iter().map(part).collect::<Result<_, _>>()? })
    }
}
