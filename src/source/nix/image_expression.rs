//! The Nix expression that finds the images which a project means.

use std::path::Path;

use super::expression::{flake, quoted};
use super::flakes::Flakes;
use crate::nix::System;
use crate::spec::{AttrPath, Installable};

/// So many attributes have package sets, and not sets of images.
const MOST_IMAGES: usize = 100;

/// A derivation, only ever evaluated, whose variable `images` is a JSON object: `{images}` with an object per image,
/// or one that says why there is none: `{missing, near}`, `{needs}`, `{many}` or `{other}`.
///
/// As `nix-build` does, it calls functions whose arguments all have defaults, and looks for `default.nix` in a folder.
pub(super) fn image_expression(
    wanted: &Installable,
    project: &Path,
    system: System,
    flakes: &Flakes,
) -> String {
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
    if builtins.isFunction value then
      (if needs value == [ ] then follow (value {{ }}) names else {{ needs = needs value; }})
    else if names == [ ] then images value
    else if builtins.isList value then
      let
        index = builtins.head names;
        isIndex = builtins.match "0|[1-9][0-9]{{0,8}}" index != null;
      in if isIndex && builtins.fromJSON index < builtins.length value
      then follow (builtins.elemAt value (builtins.fromJSON index)) (builtins.tail names)
      else {{ missing = index; near = builtins.genList toString (builtins.length value); }}
    else if !builtins.isAttrs value then {{ other = builtins.typeOf value; }}
    else if value ? ${{builtins.head names}} then follow value.${{builtins.head names}} (builtins.tail names)
    else {{ missing = builtins.head names; near = builtins.attrNames value; }};
  images = value:
    if isDerivation value then {{ images = [ (describe "" value) ]; }}
    else if builtins.isList value then
      if builtins.length value > {MOST_IMAGES} then {{ many = builtins.length value; }} else {{ images = described (builtins.genList (index: {{ name = toString index; value = builtins.elemAt value index; }}) (builtins.length value)); }}
    else if builtins.isAttrs value then
      let names = builtins.attrNames value;
      in if builtins.length names > {MOST_IMAGES} then {{ many = builtins.length names; }}
      else {{ images = described (map (name: {{ inherit name; value = value.${{name}}; }}) names); }}
    else {{ other = builtins.typeOf value; }};
  described = entries:
    map (entry: describe entry.name entry.value) (builtins.filter (entry: isDerivation entry.value) entries);
  derivationOf = value: {{
    # For its context: what is named here is kept.
    path = "${{value}}";
    drv = builtins.unsafeDiscardOutputDependency value.drvPath;
    output = value.outputName;
  }};
  describe = place: value:
    let conf = value.stream.conf or (value.conf or null);
    in {{
      inherit place;
      imageName = text (value.imageName or null);
      imageTag = text (value.imageTag or null);
      derivation = derivationOf value;
      conf = if isDerivation conf then derivationOf conf else null;
    }};
in derivation {{
  name = "nixlayer-images";
  inherit system;
  builder = "/never-built";
  images = builtins.toJSON (follow ({start}) {names});
}}"#,
        system = quoted(system.as_str()),
        flakes = flakes.expression(),
    )
}

fn list(names: &[String]) -> String {
    let names: String = names.iter().map(|name| format!("{} ", quoted(name))).collect();
    format!("[ {names}]")
}
