//! How the image's contents are spread over layers, and whose layers may serve again.

use super::VARIABLE_FIX;
use super::variables::VariableText;
use crate::yaml::{Error, Value};

/// Layers that an image has at most if the spec does not say; `dockerTools` has the same default.
const DEFAULT_MAX: u8 = 100;

/// What stands under the key `layers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Layers that the image may have, from 2 to 127.
    pub max: u8,
    /// How store paths are grouped.
    pub strategy: Strategy,
    /// Images whose layers may serve again beside those under the image's own tags, each as `TAG` or
    /// `REPOSITORY:TAG`; if not given, the default branch's image and `latest`.
    pub reuse_from: Option<Vec<VariableText>>,
}

/// How store paths are grouped into layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// As dockerTools does: the plan follows from the closure alone.
    #[default]
    Auto,
    /// As the image before did, as far as its layers are still of use.
    Stable,
}

impl Default for Layers {
    fn default() -> Self {
        Self { max: DEFAULT_MAX, strategy: Strategy::default(), reuse_from: None }
    }
}

impl Layers {
    pub(super) fn read(value: &Value<'_>) -> Result<Self, Error> {
        let fields = value.fields(&["max", "strategy", "reuseFrom"])?;
        let default = Self::default();
        let strategies = [("auto", Strategy::Auto), ("stable", Strategy::Stable)];
        Ok(Self {
            // More than 127 lower folders are more than overlay mounts take.
            max: fields.get("max").map_or(Ok(default.max), |max| max.integer(2..=127))?,
            strategy: fields.get("strategy").map_or(Ok(default.strategy), |value| value.word(&strategies))?,
            reuse_from: fields.get("reuseFrom").map(images).transpose()?,
        })
    }
}

fn images(value: &Value<'_>) -> Result<Vec<VariableText>, Error> {
    let image = |item: &Value<'_>| {
        let text = item.text()?;
        if text.is_empty() || text.contains(char::is_whitespace) {
            let fix = "write a tag such as `main`, or `$CI_REGISTRY/group/project:main`";
            return Err(item.error(format!("`{text}` is not an image"), fix));
        }
        item.parse(VARIABLE_FIX)
    };
    value.list_or_one()?.iter().map(image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::Document;

    fn read(text: &str) -> Result<Layers, Error> {
        Layers::read(&Document::parse("f", text.as_bytes())?.root())
    }

    #[test]
    fn every_key_is_read() {
        let layers = read("{ max: 12, strategy: stable, reuseFrom: [main, $CI_REGISTRY/base:1] }").unwrap();

        assert_eq!((layers.max, layers.strategy), (12, Strategy::Stable));
        let images = layers.reuse_from.unwrap();
        assert_eq!(images[1].expand(|_| Some("r.example".to_owned())).unwrap(), "r.example/base:1");
        assert_eq!(images[0].as_literal(), Some("main"));
        assert_eq!(read("{ reuseFrom: main }").unwrap().reuse_from.unwrap().len(), 1);
        assert_eq!(read("{ reuseFrom: [] }").unwrap().reuse_from, Some(Vec::new()));
        assert_eq!(read("{}").unwrap(), Layers::default());
    }

    #[test]
    fn slips_have_their_place() {
        for (text, message) in [
            ("{ max: 1 }", "f:1:8: `max`: `1` is out of range"),
            ("{ strategy: best }", "f:1:13: `strategy`: `best` is not known here"),
            ("{ reuseFrom: [a b] }", "f:1:15: `reuseFrom[0]`: `a b` is not an image"),
            ("{ reuseFrom: [$HOME] }", "f:1:15: `reuseFrom[0]`: `$HOME` is not a `CI_…`"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }
}
