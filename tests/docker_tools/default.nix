# `dockerTools` of the test package set: the functions that image expressions call, with the derivations, attributes and
# files that nixpkgs gives them, written anew from what is documented of these.
{ pkgs
# of which nixpkgs release the files are: "20.09", "21.05", "24.11" or "26.05"; see README.md
, generation ? "26.05"
}:
let
  inherit (builtins) baseNameOf concatStringsSep isList readFile replaceStrings substring toJSON;
  since = first: builtins.compareVersions generation first >= 0;
  lower = replaceStrings (letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ") (letters "abcdefghijklmnopqrstuvwxyz");
  letters = text: builtins.genList (place: substring place 1 text) 26;
  asList = paths: if paths == null then [ ] else if isList paths then paths else [ paths ];
  # of the 32 characters in a store path that are no name
  hashPart = path: substring 0 32 (baseNameOf path);

  # In nixpkgs it is 1980 as well.
  SOURCE_DATE_EPOCH = 315532800;
  # The shell stays until the end: Nix kills a builder that has closed its outputs, as cp does when it is done.
  run = name: env:
    pkgs.runCommand name ({
      builder = "/bin/bash";
      args = [ "-c" "set -e -o pipefail\numask 022\neval \"$buildCommand\"\n:" ];
      inherit SOURCE_DATE_EPOCH;
    } // env);
  writeText = name: text: run name { inherit text; passAsFile = [ "text" ]; } "cp $textPath $out";
  # Tools look in the source of the script for the mode of /nix, and know the source by its name.
  streamScript =
    let
      mode = if since "24.11" then "0o0755" else "0o0555";
      text = replaceStrings [ "0o0755" ] [ mode ] (readFile ./stream.py);
    in
    run "stream" { } "cp ${builtins.toFile "stream_layered_image.py" text} $out; chmod +x $out";

  compressors = {
    none = { suffix = ""; command = "cat"; };
    gz = { suffix = ".gz"; command = "pigz -p2 -nTR"; };
    zstd = { suffix = ".zst"; command = "zstd -T2 --no-progress"; };
  };

  # What is merged into `/`, and what the commands make of it, as one tar.
  customisationLayer = { base, contents, extraCommands, fakeRootCommands }:
    run "${base}-customisation-layer" {
      tree = run "bulk-layers" { paths = asList contents; } "/usr/bin/python3 ${./join.py} $out $paths";
      inherit extraCommands fakeRootCommands;
      passAsFile = [ "extraCommands" "fakeRootCommands" ];
    } ''
      cp -R $tree root
      find root -type d -exec chmod 755 {} +
      mkdir $out
      cd root
      (source $extraCommandsPath)
      # As in nixpkgs, it does not mind where nobody may own a file but one.
      FAKEROOTDONTTRYCHOWN=1 fakeroot bash -e -c '
        source $fakeRootCommandsPath
        tar --create --file $out/layer.tar --format gnu --sort name --numeric-owner \
          --mtime @$SOURCE_DATE_EPOCH --hard-dereference .
      '
      sha256sum $out/layer.tar | cut --characters -64 > $out/checksum
    '';

  streamLayeredImage =
    { name
    , tag ? null
    , fromImage ? null
    , contents ? [ ]
    , config ? { }
    , architecture ? "amd64"
    , variant ? ""
    , created ? "1970-01-01T00:00:01Z"
    , mtime ? "1970-01-01T00:00:01Z"
    , uid ? 0
    , gid ? 0
    , uname ? "root"
    , gname ? "root"
    , maxLayers ? 100
    , extraCommands ? ""
    , fakeRootCommands ? ""
    , includeStorePaths ? true
    , passthru ? { }
    }:
    let
      base = baseNameOf name;
      imageName = lower name;
      layer = customisationLayer { inherit base contents extraCommands fakeRootCommands; };
      baseJson = writeText "${base}-base.json" (toJSON { inherit architecture config; os = "linux"; });
      fields = { inherit architecture config created; os = "linux"; customisation_layer = layer; }
        // (if since "21.05" then { from_image = fromImage; store_dir = builtins.storeDir; } else { })
        // (if since "24.11" then { inherit mtime uname gname; uid = toString uid; gid = toString gid; } else { })
        // (if since "26.05" then { inherit variant; } else { });
      conf = run "${base}-conf.json"
        {
          inherit imageName fromImage maxLayers;
          tag = if tag == null then "" else tag;
          fields = toJSON fields;
          passAsFile = [ "fields" ];
          # Without store paths, nothing has been asked for.
          exportReferencesGraph = if includeStorePaths then [ "graph-config" baseJson "graph-layer" layer ] else [ ];
          roots = [ baseJson layer ];
        } "/usr/bin/python3 ${./conf.py} graph-* > $out" // {
        inherit imageName;
        imageTag = if tag == null then hashPart conf else tag;
      };
      stream = run "stream-${base}" ({ inherit imageName; } // handles) ''
        printf '#!/bin/sh\nexec %s %s "$@"\n' ${streamScript} ${conf} > $out
        chmod +x $out
      '';
      # Older ones have them as inputs alone.
      handles = if since "24.11" then { inherit conf streamScript; } else { };
    in
    stream // passthru // handles // { inherit imageName; inherit (conf) imageTag; isExe = true; };

  buildLayeredImage = { name, compressor ? "gz", ... }@args:
    let
      stream = streamLayeredImage (removeAttrs args [ "compressor" ]);
      inherit (stream) imageName imageTag;
      inherit (compressors.${compressor}) suffix command;
    in
    run "${baseNameOf name}.tar${suffix}" { inherit imageName; } "${stream} | ${command} > $out"
    // { inherit imageName imageTag; }
    // (if since "21.05" then { inherit stream; } else { });

  buildImage =
    { name
    , tag ? null
    , fromImage ? null
    , contents ? null
    , copyToRoot ? contents
    , config ? null
    , architecture ? "amd64"
    , created ? "1970-01-01T00:00:01Z"
    , extraCommands ? ""
    , compressor ? "gz"
    }@buildArgs:
    let
      base = baseNameOf name;
      imageName = lower name;
      configuration = { inherit architecture created; os = "linux"; }
        // (if config == null then { } else { inherit config; });
      baseJson = writeText "${base}-config.json" (toJSON configuration);
      # Files are copies here, and what they need lies beside them.
      layer = run "docker-layer-${base}" {
        inherit extraCommands;
        passAsFile = [ "extraCommands" ];
        roots = asList copyToRoot;
      } ''
        mkdir $out root
        for path in $roots; do
          cp -R $path/. root/
          find root -type d -exec chmod 755 {} +
        done
        cd root
        (source $extraCommandsPath)
        tar --create --file $out/layer.tar --format gnu --sort name --numeric-owner --owner :0 --group :0 \
          --mtime @$SOURCE_DATE_EPOCH --hard-dereference .
      '';
      inherit (compressors.${compressor}) suffix command;
      image = run "docker-image-${base}.tar${suffix}"
        {
          inherit imageName fromImage layer baseJson;
          tag = if tag == null then "" else tag;
          exportReferencesGraph = [ "graph-config" baseJson "graph-layer" layer ];
        } ''
        /usr/bin/python3 ${./image.py} graph-*
        tar --create --format gnu --sort name --numeric-owner --owner :0 --group :0 --mtime @$SOURCE_DATE_EPOCH \
          --mode u+rw --directory image $(cd image && ls) | ${command} > $out
      '' // {
        inherit buildArgs imageName layer;
        imageTag = if tag == null then hashPart image else tag;
      };
    in
    image;

  # One archive of several images.
  mergeImages = images:
    run "merge-docker-images" { inherit images; }
      "/usr/bin/python3 ${./merge.py} $images | ${compressors.gz.command} > $out";
in
{
  inherit buildImage buildLayeredImage mergeImages streamLayeredImage;
}
