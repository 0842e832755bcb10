# An image as nixpkgs' dockerTools describe it: `nix-build` makes an archive of it, and `nixlayer build default.nix` the
# image itself, without the archive.
with import <nixpkgs> {};

pkgs.dockerTools.buildLayeredImage {
  name = "k8s-deployer";
  tag = "latest";
  created = "now";

  contents = with pkgs; [
    kubectl
    hello   # kubernetes-helm and terraform in nixpkgs; the tests have a smaller package set
    yq
    jq
    bash
    coreutils # mkdir and such
    python3
    moreutils # for sponge
    git
    cacert
    curl
  ];

  extraCommands = ''
    mkdir -p usr/bin
    ln -sf ${pkgs.coreutils}/bin/env usr/bin/env
    mkdir tmp
    chmod 1777 tmp
  '';

  config = {
    Cmd = [ "/bin/bash" ];
    WorkingDir = "/";
  };
}
