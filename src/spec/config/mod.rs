//! The image's `config`: what a container runtime starts, and how.
//!
//! The keys are those of the OCI image configuration and of Docker's, and as in Go's reading of JSON
//! their case does not matter. What people may write in two ways (`Env` as a mapping or as
//! `NAME=value` lines) has one form afterwards: the standard's.

mod duration;
mod label;
mod shape;

use serde_json::{Map, Value as Json};

pub use label::MissingValue;

use label::LabelText;
use shape::KEYS;

use super::attr_path::AttrPath;
use crate::yaml::{Error, KeyPath, Value};

/// The `config` object, checked; packages and variables are still open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    fields: Vec<(&'static str, Tree)>,
}

/// Why a config cannot be rendered, and at which key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` cannot be rendered")]
pub struct RenderError {
    /// The text concerned.
    pub key: KeyPath,
    /// What it lacks.
    #[source]
    pub cause: MissingValue,
}

/// JSON whose strings are still open.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tree {
    Text { key: KeyPath, text: LabelText },
    Known(Json),
    List(Vec<Tree>),
    Mapping(Vec<(String, Tree)>),
}

impl Config {
    /// Reads the mapping under the key `config`.
    pub(super) fn read(value: &Value<'_>) -> Result<Self, Error> {
        let names: Vec<&'static str> = KEYS.iter().map(|(name, _)| *name).collect();
        let given = value.fields_in_any_case(&names)?;
        let mut fields = Vec::new();
        for (name, shape) in KEYS {
            if let Some(value) = given.get(name) {
                fields.push((*name, shape.read(value)?));
            }
        }
        Ok(Self { fields })
    }

    /// Whether the spec gives the key of this name, in the standard's spelling.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| *field == name)
    }

    pub(super) fn set_user(&mut self, user: String) {
        self.fields.insert(0, ("User", Tree::Known(user.into())));
    }

    /// The packages that the values refer to, with the keys that do.
    pub fn packages(&self) -> Vec<(&KeyPath, &AttrPath)> {
        let mut found = Vec::new();
        self.fields.iter().for_each(|(_, tree)| tree.packages(&mut found));
        found
    }

    /// The object as an image configuration holds it, without the keys that are not given.
    ///
    /// `store_path` gives the store path of a package, and `variable` the value of a `CI_…` variable,
    /// which labels may name.
    pub fn render(
        &self,
        store_path: &dyn Fn(&AttrPath) -> Option<String>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Json, RenderError> {
        let mut object = Map::new();
        for (name, tree) in &self.fields {
            object.insert((*name).to_owned(), tree.render(store_path, variable)?);
        }
        Ok(Json::Object(object))
    }
}

impl Tree {
    fn packages<'t>(&'t self, found: &mut Vec<(&'t KeyPath, &'t AttrPath)>) {
        match self {
            Self::Text { key, text } => found.extend(text.packages().map(|package| (key, package))),
            Self::Known(_) => {}
            Self::List(items) => items.iter().for_each(|item| item.packages(found)),
            Self::Mapping(entries) => entries.iter().for_each(|(_, value)| value.packages(found)),
        }
    }

    fn render(
        &self,
        store_path: &dyn Fn(&AttrPath) -> Option<String>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Json, RenderError> {
        Ok(match self {
            Self::Text { key, text } => text
                .render(store_path, variable)
                .map_err(|cause| RenderError { key: key.clone(), cause })?
                .into(),
            Self::Known(value) => value.clone(),
            Self::List(items) => {
                items.iter().map(|item| item.render(store_path, variable)).collect::<Result<_, _>>()?
            }
            Self::Mapping(entries) => Json::Object(
                entries
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), value.render(store_path, variable)?)))
                    .collect::<Result<_, _>>()?,
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::yaml::Document;

    fn config(text: &str) -> Result<Config, Error> {
        Config::read(&Document::parse("f", text.as_bytes())?.root())
    }

    fn rendered(text: &str) -> Json {
        let store_path = |package: &AttrPath| Some(format!("/nix/store/{package}"));
        let variable = |name: &str| Some(format!("<{name}>"));
        config(text).unwrap().render(&store_path, &variable).unwrap()
    }

    #[test]
    fn every_key_becomes_what_the_image_specification_says() {
        let text = r#"
User: 1000:1000
ExposedPorts: [8080, 53/udp]
Env: { PATH: "${pkgs.jq}/bin:/bin", PORT: 8080, EMPTY: "", HOME: $HOME }
Entrypoint: ["${pkgs.tini}/bin/tini", --]
Cmd: [/bin/app, -v, 1.10]
Volumes: { /data: {} }
WorkingDir: /srv
Labels: { rev: $CI_COMMIT_SHA, bash: "${pkgs.bash}", cost: 5 $$ }
StopSignal: SIGINT
Healthcheck: { Test: [CMD, /bin/app, health], Interval: 30s, Timeout: 1500000000, Retries: 3, StartPeriod: 1m30s }
Shell: [/bin/bash, -c]
OnBuild: []
ArgsEscaped: true
Memory: 1048576
MemorySwap: -1
CpuShares: 512
"#;
        assert_eq!(
            rendered(text),
            json!({
                "User": "1000:1000",
                "ExposedPorts": { "8080": {}, "53/udp": {} },
                "Env": ["PATH=/nix/store/jq/bin:/bin", "PORT=8080", "EMPTY=", "HOME=$HOME"],
                "Entrypoint": ["/nix/store/tini/bin/tini", "--"],
                "Cmd": ["/bin/app", "-v", "1.10"],
                "Volumes": { "/data": {} },
                "WorkingDir": "/srv",
                "Labels": { "rev": "<CI_COMMIT_SHA>", "bash": "/nix/store/bash", "cost": "5 $" },
                "StopSignal": "SIGINT",
                "Healthcheck": {
                    "Test": ["CMD", "/bin/app", "health"],
                    "Interval": 30_000_000_000_i64,
                    "Timeout": 1_500_000_000,
                    "Retries": 3,
                    "StartPeriod": 90_000_000_000_i64,
                },
                "Shell": ["/bin/bash", "-c"],
                "OnBuild": [],
                "ArgsEscaped": true,
                "Memory": 1_048_576,
                "MemorySwap": -1,
                "CpuShares": 512,
            })
        );
    }

    #[test]
    fn case_of_keys_and_form_of_sets_do_not_matter() {
        let lists = "env: [A=1, B=x=y]\nexposedports: [80/tcp]\nvolumes: [/v]\nlabels: [a=b]\nCMD: [x]\n";
        let mappings =
            "Env: {A: 1, B: x=y}\nExposedPorts: {80/tcp: {}}\nVolumes: {/v: }\nLabels: {a: b}\nCmd: [x]\n";

        assert_eq!(rendered(lists), rendered(mappings));
    }

    #[test]
    fn packages_and_what_they_lack_come_with_their_keys() {
        let config = config("cmd: [a, '${pkgs.jq}/bin/jq']\nlabels: {x: $CI_X}\n").unwrap();

        let packages: Vec<String> =
            config.packages().iter().map(|(key, package)| format!("{key} {package}")).collect();
        assert_eq!(packages, ["cmd[1] jq"]);
        let no_package = config.render(&|_| None, &|_| None).unwrap_err();
        assert_eq!(no_package.key.to_string(), "cmd[1]");
        let no_variable = config.render(&|_| Some(String::new()), &|_| None).unwrap_err();
        assert_eq!(no_variable.key.to_string(), "labels.x");
        assert_eq!(no_variable.cause.to_string(), "the variable `$CI_X` is not set");
    }
}
