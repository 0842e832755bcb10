//! What `tests/environment` prepared on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nixlayer::nix::StorePath;

/// What `tests/environment` prepared on this machine.
pub(crate) struct Environment {
    /// What `<nixpkgs>` means: a store path, so that every user and every sandbox can read it.
    pub(crate) nixpkgs: PathBuf,
    /// The folder of the `nix.conf` that Nix needs here when it runs as the owner of the store.
    pub(crate) nix_conf_dir: PathBuf,
    /// The user that jobs run as: not the owner of the store, and no trusted user of the daemon.
    pub(crate) ci_user: String,
    /// The built packages of the set `small`: curl, jq, bash, coreutils, cacert, hello.
    pub(crate) small: Vec<StorePath>,
    /// The built packages of the set `seed`: those of `small` and of the example image.
    pub(crate) seed: Vec<StorePath>,
    /// A binary cache of the closure of `small`: zstd, signed.
    pub(crate) cache_small: PathBuf,
    /// A binary cache of the closure of `seed`: zstd, signed.
    pub(crate) cache_seed: PathBuf,
    /// The public key of the caches' signatures, as `NAME:BASE64`.
    pub(crate) cache_public_key: String,
    /// The file of the secret key that signs them.
    pub(crate) cache_secret_key_file: PathBuf,
}

/// Reads what `tests/environment` wrote.
pub(crate) fn environment() -> Environment {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-environment/env");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!("run tests/environment (or tests/run) first: {}: {error}", file.display())
    });
    let values: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let paths = |key| values[key].split(' ').map(|path| path.parse().unwrap()).collect();
    Environment {
        nixpkgs: values["NIXPKGS"].into(),
        nix_conf_dir: values["NIX_CONF_DIR"].into(),
        ci_user: values["CI_USER"].to_owned(),
        small: paths("SMALL"),
        seed: paths("SEED"),
        cache_small: values["CACHE_SMALL"].into(),
        cache_seed: values["CACHE_SEED"].into(),
        cache_public_key: values["CACHE_PUBLIC_KEY"].to_owned(),
        cache_secret_key_file: values["CACHE_SECRET_KEY_FILE"].into(),
    }
}

impl Environment {
    /// The built package called `name`, such as `bash`.
    pub(crate) fn package(&self, name: &str) -> &StorePath {
        let version_follows = |rest: &str| {
            rest.strip_prefix('-').is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        };
        let is_it = |path: &&StorePath| path.name().strip_prefix(name).is_some_and(version_follows);
        self.seed.iter().find(is_it).unwrap_or_else(|| panic!("`{name}` is not in the set `seed`"))
    }
}
