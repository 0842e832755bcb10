//! The Nix expressions that find what a spec names.
//!
//! Names reach an expression as quoted attribute names, never as code, so nothing in a spec can
//! become an expression of its own.

use std::path::Path;

use super::flakes::Flakes;
use crate::folder::Folder;
use crate::nix::System;
use crate::spec::{AttrPath, Content, Flake, Nixpkgs};

/// The value that `content` means.
fn value(content: &Content) -> String {
    match content {
        Content::Package(attr_path) => format!("(pkgs.{} or null)", attr_path.to_nix()),
        Content::StorePath(path) => quoted(&path.to_string()),
        Content::FlakeOutput { flake, output } => flake_output(flake, output),
    }
}

/// What names are looked up in.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The package set.
    pub nixpkgs: &'a Nixpkgs,
    /// The system that packages are for.
    pub system: System,
    /// What evaluation sees of the job.
    pub project: &'a Folder,
}

impl Scope<'_> {
    /// The package set as an expression. For the system of the machine it is asked for nothing, since one
    /// that has no other takes no arguments.
    fn pkgs(&self) -> String {
        let set = package_set(self.nixpkgs, self.project.path());
        if self.system == System::HOST {
            format!("import {set} {{ }}")
        } else {
            format!("import {set} {{ system = {}; }}", quoted(self.system.as_str()))
        }
    }
}

/// A derivation, only ever evaluated, whose variable `roots` is a JSON list with an object per
/// wanted thing: `{path, drv, output}`, `{path}`, `{missing}` or `{other}`. `set` is where the package
/// set lies, and `revision` what it says of itself.
pub(super) fn roots_expression(wanted: &[Content], scope: &Scope<'_>, flakes: &Flakes) -> String {
    let values: Vec<String> = wanted.iter().map(value).collect();
    // Without a package in it, the set need not even exist.
    let (set, revision) = if wanted.iter().any(|content| matches!(content, Content::Package(_))) {
        let set = package_set(scope.nixpkgs, scope.project.path());
        let revision = "text ((pkgs.lib.trivial.revisionWithDefault or (default: default)) \"\")";
        (format!("text (toString {set})"), revision)
    } else {
        ("\"\"".to_owned(), "\"\"")
    };
    format!(
        r#"let
  system = {system};
  pkgs = {pkgs};
  flakes = {flakes};
  text = value: if builtins.isString value then builtins.unsafeDiscardStringContext value else "";
  describe = value:
    if value == null then {{ missing = true; }}
    else if builtins.isAttrs value && value.type or null == "derivation" then {{
      path = "${{value}}";
      drv = builtins.unsafeDiscardOutputDependency value.drvPath;
      output = value.outputName;
    }}
    else if builtins.isPath value then {{ path = "${{value}}"; }}
    else if builtins.isString value then {{ path = value; }}
    else {{ other = builtins.typeOf value; }};
in derivation {{
  name = "nixlayer-roots";
  inherit system;
  builder = "/never-built";
  set = {set};
  revision = {revision};
  roots = builtins.toJSON (map describe [
    {values}
  ]);
}}"#,
        system = quoted(scope.system.as_str()),
        pkgs = scope.pkgs(),
        flakes = flakes.expression(),
        values = values.join("\n    ")
    )
}

/// The names that could stand in the place of the last part of `attr_path`.
pub(super) fn packages_expression(attr_path: &AttrPath, scope: &Scope<'_>) -> String {
    let parents = attr_path.components().split_last().map_or(&[][..], |(_, parents)| parents);
    let parents: String = parents.iter().map(|name| format!(".{}", quoted(name))).collect();
    format!("let pkgs = {}; in builtins.attrNames (pkgs{parents})", scope.pkgs())
}

/// Up to three of `names` that look like the last part of `attr_path`, the nearest first.
pub(super) fn near_names(attr_path: &AttrPath, names: &[String]) -> Vec<String> {
    let Some((last, parents)) = attr_path.components().split_last() else { return Vec::new() };
    let parents: String = parents.iter().map(|name| format!("{name}.")).collect();
    near(last, names).into_iter().map(|name| format!("{parents}{name}")).collect()
}

/// Up to three of `names` that look like `wanted`, the nearest first.
pub(super) fn near(wanted: &str, names: &[String]) -> Vec<String> {
    let mut near: Vec<(f64, &String)> = names
        .iter()
        .map(|name| (strsim::jaro_winkler(&wanted.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.85)
        .collect();
    near.sort_by(|(left, left_name), (right, right_name)| {
        right.total_cmp(left).then(left_name.cmp(right_name))
    });
    near.into_iter().take(3).map(|(_, name)| name.clone()).collect()
}

fn flake_output(of: &Flake, output: &AttrPath) -> String {
    let (flake, names) = (flake(of), output.to_nix());
    format!(
        "(let flake = {flake}; in flake.packages.${{system}}.{names} or \
         (flake.legacyPackages.${{system}}.{names} or (flake.{names} or null)))"
    )
}

/// A flake's outputs; those of the project are in the set `flakes`.
pub(super) fn flake(flake: &Flake) -> String {
    match flake {
        Flake::Folder(folder) => format!("flakes.{}", quoted(folder.as_str())),
        Flake::GitHub(commit) => format!("builtins.getFlake {}", quoted(&commit.to_string())),
    }
}

fn package_set(nixpkgs: &Nixpkgs, project: &Path) -> String {
    match nixpkgs {
        Nixpkgs::SearchPath(name) => format!("<{name}>"),
        Nixpkgs::Folder(folder) => {
            format!("(/. + {})", quoted(&project.join(folder.as_str()).to_string_lossy()))
        }
        Nixpkgs::GitHub(commit) => format!(
            "(fetchTarball {})",
            quoted(&format!(
                "https://github.com/{}/{}/archive/{}.tar.gz",
                commit.owner, commit.repository, commit.commit
            ))
        ),
        Nixpkgs::Channel(name) => format!("(fetchTarball {})", quoted(&format!("channel:{name}"))),
        Nixpkgs::Tarball { url, sha256: None } => format!("(fetchTarball {})", quoted(url)),
        Nixpkgs::Tarball { url, sha256: Some(sha256) } => {
            format!("(fetchTarball {{ url = {}; sha256 = {}; }})", quoted(url), quoted(&sha256.to_string()))
        }
    }
}

/// A Nix string literal.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::from("\"");
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '$') {
            literal.push('\\');
        }
        literal.push(character);
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_string_becomes_code() {
        assert_eq!(quoted(r#"a"b\c${d}"#), r#""a\"b\\c\${d}""#);
    }

    #[test]
    fn near_names_are_those_a_slip_away() {
        let names = ["jq", "yq", "kubectl", "kubectx", "git", "python3"].map(str::to_owned);

        assert_eq!(near_names(&"kubctl".parse().unwrap(), &names), ["kubectl", "kubectx"]);
        assert_eq!(near_names(&"tools.Git".parse().unwrap(), &names), ["tools.git"]);
        assert_eq!(near_names(&"terraform".parse().unwrap(), &names), Vec::<String>::new());
    }
}
