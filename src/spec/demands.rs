//! Everything that a spec needs a store path of.

use super::attr_path::AttrPath;
use super::choices::Preset;
use super::contents::Content;
use super::{ImageSpec, KeyPath};

/// The shell of `extraCommands` and of the preset `bin-sh`.
pub const BASH: &str = "bash";
/// The programs of `extraCommands` and of the preset `usr-bin-env`.
pub const COREUTILS: &str = "coreutils";
/// The certificates of the preset `ca-certificates`.
pub const CACERT: &str = "cacert";

/// One thing that must become a store path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// What it is.
    pub content: Content,
    /// What it is for.
    pub purpose: Purpose,
    /// The key of the spec that asks for it.
    pub key: KeyPath,
}

/// What a store path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Its tree shows at the top of the image.
    Contents,
    /// The image holds it, since the spec or a preset refers to it.
    Reference,
    /// Only `extraCommands` sees it.
    Tool,
}

impl ImageSpec {
    /// Everything that must become a store path: `contents` first and in order, tools last.
    pub fn demands(&self) -> Vec<Demand> {
        let package =
            |purpose, key, package: AttrPath| Demand { content: Content::Package(package), purpose, key };
        let contents = self.contents.iter().enumerate().map(|(index, content)| Demand {
            content: content.clone(),
            purpose: Purpose::Contents,
            key: KeyPath::root().key("contents").index(index),
        });
        let mut demands: Vec<Demand> = contents.collect();
        for (key, referred) in self.packages() {
            demands.push(package(Purpose::Reference, key, referred.clone()));
        }
        for preset in self.presets.iter().filter_map(|preset| package_of(*preset)) {
            demands.push(package(Purpose::Reference, KeyPath::root().key("presets"), preset));
        }
        if self.has_commands() {
            for tool in [BASH, COREUTILS].into_iter().filter_map(|name| name.parse().ok()) {
                demands.push(package(Purpose::Tool, KeyPath::root().key("extraCommands"), tool));
            }
        }
        demands
    }

    /// Whether `extraCommands` has any.
    pub fn has_commands(&self) -> bool {
        !self.extra_commands.parts().is_empty()
    }
}

fn package_of(preset: Preset) -> Option<AttrPath> {
    let name = match preset {
        Preset::UsrBinEnv => COREUTILS,
        Preset::BinSh => BASH,
        Preset::CaCertificates => CACERT,
        Preset::Tmp | Preset::Nss => return None,
    };
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_come_first_and_tools_only_where_there_are_commands() {
        let demands = |text: &str| {
            let spec = ImageSpec::parse("image.yaml", text.as_bytes()).unwrap();
            let shown = |demand: Demand| format!("{} {:?} {}", demand.content, demand.purpose, demand.key);
            spec.demands().into_iter().map(shown).collect::<Vec<_>>()
        };

        assert_eq!(
            demands("name: a\ncontents: [jq, .#app]\npresets: [tmp, ca-certificates]\n"),
            ["jq Contents contents[0]", ".#app Contents contents[1]", "cacert Reference presets"]
        );
        assert_eq!(
            demands("name: a\ncontents: [jq]\nextraCommands: ln -s ${pkgs.less} x\n"),
            [
                "jq Contents contents[0]",
                "less Reference extraCommands",
                "bash Tool extraCommands",
                "coreutils Tool extraCommands"
            ]
        );
    }
}
