# `nix2container` of the test package set: the two functions that image expressions call. What they make lists store
# paths and the hashes of layers, and holds no layer.
{ pkgs }:
let
  inherit (builtins) baseNameOf isList toJSON;
  asList = paths: if paths == null then [ ] else if isList paths then paths else [ paths ];
  # The shell stays until the end: Nix kills a builder that has closed its outputs, as cp does when it is done.
  run = name: env: script: pkgs.runCommand name ({ builder = "/bin/bash"; } // env) "set -e\n${script}\n:";
  program = run "nix2container" { } ''
    mkdir $out
    cp ${./nix2container.py} $out/nix2container.py
    cp ${./go_tar.py} $out/go_tar.py
  '';
  # The graphs of `exportReferencesGraph` are called graph-1, graph-2, and so on.
  graphs = paths: builtins.concatLists
    (builtins.genList (place: [ "graph-${toString place}" (builtins.elemAt paths place) ]) (builtins.length paths));

  # All store paths in one layer, which is what `maxLayers = 1` says.
  buildLayer =
    { deps ? [ ]
    , copyToRoot ? null
    , ignore ? null
    , layers ? [ ]
    , reproducible ? true
    , perms ? [ ]
    }:
    let
      roots = asList copyToRoot;
    in
    run "layers.json" {
      arguments = toJSON { inherit layers ignore perms reproducible; copyToRoot = roots; };
      passAsFile = [ "arguments" ];
      exportReferencesGraph = graphs (deps ++ roots);
    } "mkdir $out; /usr/bin/python3 ${program}/nix2container.py layers graph-*";

  buildImage =
    { name
    , tag ? null
    , config ? { }
    , copyToRoot ? null
    , layers ? [ ]
    , perms ? [ ]
    , arch ? "amd64"
    , created ? "0001-01-01T00:00:00Z"
    }:
    let
      configFile = run "config.json" { text = toJSON config; passAsFile = [ "text" ]; } "cp $textPath $out";
      own = buildLayer { inherit copyToRoot layers perms; deps = [ configFile ]; ignore = configFile; };
      image = run "image-${baseNameOf name}.json" {
        arguments = toJSON { inherit arch config created; layers = layers ++ [ own ]; };
        passAsFile = [ "arguments" ];
      } "/usr/bin/python3 ${program}/nix2container.py image";
    in
    image // {
      imageName = name;
      imageTag = if tag == null then builtins.substring 0 32 (baseNameOf image) else tag;
    };
in
{
  inherit buildImage buildLayer;
}
