//! The Nix expression that finds the images which a project means.

use std::path::Path;

use super::expression::{flake, quoted};
use super::flakes::Flakes;
use crate::nix::System;
use crate::spec::{AttrPath, Installable};

/// So many values have package sets, and not sets of images.
pub(super) const MOST_VALUES: usize = 100;

/// Sets and lists in each other are no deeper, unless they hold themselves.
pub(super) const DEEPEST: usize = 16;

/// A derivation, only ever evaluated, whose variable `images` is a JSON object: `{images, passed}` with an object per
/// image and the places of the sets that none was looked for in, or one that says why there is none: `{missing, near}`,
/// or, each with the place in the value, `{needs}` or `{other}`, or `{beyond}`, the bound that it is beyond.
///
/// As `nix-build` does, it calls functions whose arguments all have defaults, looks for `default.nix` in a folder, and
/// takes of a list every element, and of a set each derivation and each set with `recurseForDerivations = true`.
pub(super) fn image_expression(
    wanted: &Installable,
    project: &Path,
    system: System,
    flakes: &Flakes,
) -> String {
    let body = r#"derivation {
  name = "nixlayer-images";
  inherit system;
  builder = "/never-built";
  images = builtins.toJSON (answer.failed or {
    inherit (answer) images;
    passed = map (set: set.place) answer.passed;
  });
}"#;
    of_answer(wanted, project, system, flakes, body)
}

/// The places of the sets that no image was looked for in, and that have derivations. What else is in them may be
/// broken, and so may this.
pub(super) fn passed_expression(
    wanted: &Installable,
    project: &Path,
    system: System,
    flakes: &Flakes,
) -> String {
    let body = r#"let
  isGood = value:
    let tried = builtins.tryEval (isDerivation value); in tried.success && tried.value;
  holds = { value, ... }:
    builtins.length (builtins.attrNames value) <= most && builtins.any isGood (builtins.attrValues value);
in map (set: set.place) (builtins.filter holds (answer.passed or [ ]))"#;
    of_answer(wanted, project, system, flakes, body)
}

fn of_answer(wanted: &Installable, project: &Path, system: System, flakes: &Flakes, body: &str) -> String {
    let (start, names) = match wanted {
        Installable::File { path, attribute } => {
            let place = project.join(path.as_str());
            let start = format!("import (/. + {})", quoted(&place.to_string_lossy()));
            (start, list(attribute.as_ref().map_or(&[], AttrPath::components)))
        }
        Installable::FlakeOutput { flake: of, output } => {
            let names = list(output.components());
            let start = format!("outputsOf ({}) {names}", flake(of));
            (start, names)
        }
    };
    format!(
        r#"let
  system = {system};
  flakes = {flakes};
  most = {MOST_VALUES};
  text = value: if builtins.isString value then builtins.unsafeDiscardStringContext value else "";
  isDerivation = value: builtins.isAttrs value && value.type or null == "derivation";
  needs = function:
    let arguments = builtins.functionArgs function;
    in builtins.filter (name: !arguments.${{name}}) (builtins.attrNames arguments);
  outputsOf = flake: names:
    let
      has = set: names == [ ] || builtins.isAttrs set && set ? ${{builtins.head names}};
      sets = [ (flake.packages.${{system}} or {{ }}) (flake.legacyPackages.${{system}} or {{ }}) flake ];
      found = builtins.filter has sets;
    in if found == [ ] then builtins.head sets else builtins.head found;
  follow = value: names:
    if names == [ ] then gather 0 {{ seen = 0; images = [ ]; passed = [ ]; }} [ ] value
    else if builtins.isFunction value then
      (if needs value == [ ] then follow (value {{ }}) names else {{ failed = {{ place = [ ]; needs = needs value; }}; }})
    else if builtins.isList value then
      let
        index = builtins.head names;
        isIndex = builtins.match "0|[1-9][0-9]{{0,8}}" index != null;
      in if isIndex && builtins.fromJSON index < builtins.length value
      then follow (builtins.elemAt value (builtins.fromJSON index)) (builtins.tail names)
      else {{ failed = {{ missing = index; near = builtins.genList toString (builtins.length value); }}; }}
    else if !builtins.isAttrs value then {{ failed = {{ place = [ ]; other = builtins.typeOf value; }}; }}
    else if value ? ${{builtins.head names}} then follow value.${{builtins.head names}} (builtins.tail names)
    else {{ failed = {{ missing = builtins.head names; near = builtins.attrNames value; }}; }};
  gather = depth: found: place: value:
    let
      fail = why: found // {{ failed = {{ inherit place; }} // why; }};
      all = into: names: valueOf:
        let
          seen = found.seen + builtins.length names;
          next = found: name:
            if found ? failed then found else into found (place ++ [ name ]) (valueOf name);
        in if seen > most then fail {{ beyond = "values"; }} else builtins.foldl' next (found // {{ inherit seen; }}) names;
      deeper = gather (depth + 1);
      ofSet = found: place: value:
        if isDerivation value || builtins.isAttrs value && value.recurseForDerivations or false == true
        then deeper found place value
        else if builtins.isAttrs value then found // {{ passed = found.passed ++ [ {{ inherit place value; }} ]; }}
        else found;
    in
    if isDerivation value then found // {{ images = found.images ++ [ (describe place value) ]; }}
    else if depth > {DEEPEST} then fail {{ beyond = "depth"; }}
    else if builtins.isFunction value then
      (if needs value == [ ] then deeper found place (value {{ }}) else fail {{ needs = needs value; }})
    else if builtins.isList value then
      all deeper (builtins.genList toString (builtins.length value)) (name: builtins.elemAt value (builtins.fromJSON name))
    else if builtins.isAttrs value then all ofSet (builtins.attrNames value) (name: value.${{name}})
    else fail {{ other = builtins.typeOf value; }};
  derivationOf = value: {{
    # For its context: what is named here is kept.
    path = "${{value}}";
    drv = builtins.unsafeDiscardOutputDependency value.drvPath;
    output = value.outputName;
  }};
  describe = place: value: {{
    inherit place;
    imageName = text (value.imageName or null);
    imageTag = text (value.imageTag or null);
    derivation = derivationOf value;
  }};
  answer = follow ({start}) {names};
in {body}"#,
        system = quoted(system.as_str()),
        flakes = flakes.expression(),
    )
}

fn list(names: &[String]) -> String {
    let names: String = names.iter().map(|name| format!("{} ", quoted(name))).collect();
    format!("[ {names}]")
}
