//! Why a store path is in an image, and what it costs.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::packages::Packages;
use super::recipe::SpecRecipe;
use super::{Prepared, Size, Sum, history};
use crate::nix::{Closure, StorePath};
use crate::oci::{Descriptor, Manifest, ManifestError};
use crate::spec::Strategy;
use crate::yaml::KeyPath;

/// Why a store path is in the image of a spec.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The path.
    pub path: StorePath,
    /// Its NAR size in bytes.
    pub nar_size: u64,
    /// What would not be in the image without it: itself, and what only it needs. Sizes are NAR sizes.
    pub alone: Sum,
    /// The key of the spec that leads to it by the shortest way.
    pub key: KeyPath,
    /// That way, from what the key names to the path itself.
    pub way: Vec<StorePath>,
    /// What refers to it.
    pub users: Vec<StorePath>,
    /// The number of its layer, and how many other paths share it; none if that depends on the image before.
    pub layer: Option<(usize, usize)>,
}

/// Where a store path is in an image that exists.
#[derive(Clone, Debug)]
pub struct Found {
    /// The path.
    pub path: StorePath,
    /// The number of its layer.
    pub layer: usize,
    /// The layer's blob.
    pub blob: Descriptor,
    /// How many other paths share the layer.
    pub neighbours: usize,
}

impl Prepared<'_> {
    /// Explains, in the image of a spec, the store paths that `text` means: one path, a file in it, or all packages of a name.
    pub fn explain(&self, text: &str) -> Vec<Explanation> {
        let Some(spec) = self.recipe.spec() else { return Vec::new() };
        let meant = spec.packages.closure.paths().filter(|path| means(text, path));
        meant.filter_map(|path| spec.explanation(path)).collect()
    }
}

impl SpecRecipe<'_> {
    fn explanation(&self, path: &StorePath) -> Option<Explanation> {
        let Packages { closure, roots, .. } = &self.packages;
        let (from, way) = way(closure, roots.iter().map(|(_, root)| root), path)?;
        let mut layers = self.plan.layers().iter().enumerate();
        let layer = layers.find(|(_, paths)| paths.contains(path));
        let layer = layer.filter(|_| self.build.spec.layers.strategy == Strategy::Auto);
        let users = closure.infos().filter(|info| info.references.contains(path) && info.path != *path);
        Some(Explanation {
            path: path.clone(),
            nar_size: closure.get(path)?.nar_size,
            alone: alone(closure, roots.iter().map(|(_, root)| root), path),
            key: roots.get(from)?.0.clone(),
            way,
            users: users.map(|info| info.path.clone()).collect(),
            layer: layer.map(|(index, paths)| (index + 1, paths.len() - 1)),
        })
    }
}

/// Finds the store paths that `text` means in an image, by what its configuration tells of each layer.
pub fn find_in_image(manifest: &[u8], configuration: &[u8], text: &str) -> Result<Vec<Found>, ManifestError> {
    let manifest = Manifest::parse(manifest)?;
    let mut found = Vec::new();
    for (index, (paths, blob)) in history::layers(configuration).iter().zip(manifest.layers).enumerate() {
        for path in paths.iter().filter(|path| means(text, path)) {
            let (path, blob, neighbours) = (path.clone(), blob.clone(), paths.len() - 1);
            found.push(Found { path, layer: index + 1, blob, neighbours });
        }
    }
    Ok(found)
}

/// Whether `text` is the path, something below it, its base name, its name, or its name without the version.
fn means(text: &str, path: &StorePath) -> bool {
    let full = path.to_string();
    let below = text.strip_prefix(&full).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let of_name = path.name().strip_prefix(text).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    below || text == path.base_name() || !text.is_empty() && of_name
}

/// The shortest way from one of `roots` to `path`, and the index of that root.
fn way<'a>(
    closure: &'a Closure,
    roots: impl Iterator<Item = &'a StorePath>,
    path: &StorePath,
) -> Option<(usize, Vec<StorePath>)> {
    let mut before: BTreeMap<&StorePath, Option<&StorePath>> = BTreeMap::new();
    let roots: Vec<&StorePath> = roots.collect();
    let mut waiting: VecDeque<&StorePath> = VecDeque::new();
    for root in &roots {
        if before.insert(root, None).is_none() {
            waiting.push_back(root);
        }
    }
    while let Some(user) = waiting.pop_front() {
        if user == path {
            break;
        }
        for used in closure.get(user).iter().flat_map(|info| &info.references) {
            if !before.contains_key(used) {
                before.insert(used, Some(user));
                waiting.push_back(used);
            }
        }
    }
    let mut way = vec![path.clone()];
    let mut at = path;
    while let Some(user) = *before.get(at)? {
        way.push(user.clone());
        at = user;
    }
    way.reverse();
    Some((roots.iter().position(|root| *root == at)?, way))
}

/// What would not be there without `path`.
fn alone<'a>(closure: &'a Closure, roots: impl Iterator<Item = &'a StorePath>, path: &StorePath) -> Sum {
    let mut reached = std::collections::BTreeSet::new();
    let mut waiting: Vec<&StorePath> = roots.collect();
    while let Some(user) = waiting.pop() {
        if user != path && reached.insert(user) {
            waiting.extend(closure.get(user).iter().flat_map(|info| &info.references));
        }
    }
    let gone: Vec<u64> =
        closure.infos().filter(|info| !reached.contains(&info.path)).map(|info| info.nar_size).collect();
    Sum { count: gone.len(), size: gone.iter().sum() }
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.path)?;
        write!(formatter, "  size:   {} unpacked", Size(self.nar_size))?;
        if self.alone.count > 1 {
            let (more, size) = (self.alone.count - 1, Size(self.alone.size));
            write!(formatter, "; {size} with {more} paths that only it needs")?;
        }
        match self.layer {
            Some((layer, others)) => writeln!(formatter, "\n  layer:  {layer}, with {others} other paths")?,
            None => writeln!(formatter, "\n  layer:  as the image before has it")?,
        }
        let names: Vec<&str> = self.way.iter().map(StorePath::name).collect();
        writeln!(formatter, "  why:    `{}` of the spec: {}", self.key, names.join(" → "))?;
        let users: Vec<&str> = self.users.iter().map(StorePath::name).collect();
        match users.as_slice() {
            [] => write!(formatter, "  users:  the spec alone"),
            _ => write!(formatter, "  users:  {}", users.join(", ")),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.path)?;
        let size = Size(self.blob.size);
        write!(formatter, "  layer:  {}, {size} with {} other paths", self.layer, self.neighbours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::{NarHash, PathInfo};

    fn path(name: &str) -> StorePath {
        StorePath::from_base_name(&format!("{}-{name}", "0".repeat(32))).unwrap()
    }

    /// app → lib → libc, app → data, tool → libc.
    fn closure() -> Closure {
        let info = |name: &str, nar_size, references: &[&str]| PathInfo {
            path: path(name),
            nar_hash: NarHash::from_bytes([0; 32]),
            nar_size,
            references: references.iter().map(|name| path(name)).collect(),
        };
        Closure::new([
            info("app-1", 1, &["lib-2", "data", "app-1"]),
            info("lib-2", 10, &["libc-3"]),
            info("data", 100, &[]),
            info("tool", 1_000, &["libc-3"]),
            info("libc-3", 10_000, &["libc-3"]),
        ])
        .unwrap()
    }

    #[test]
    fn the_way_to_a_path_is_the_shortest() {
        let roots = [path("app-1"), path("tool")];

        let libc = way(&closure(), roots.iter(), &path("libc-3"));
        let lib = way(&closure(), roots.iter(), &path("lib-2"));

        assert_eq!(libc, Some((1, vec![path("tool"), path("libc-3")])));
        assert_eq!(lib, Some((0, vec![path("app-1"), path("lib-2")])));
        assert_eq!(way(&closure(), roots[1..].iter(), &path("data")), None);
    }

    #[test]
    fn what_a_path_costs_is_what_would_go_with_it() {
        let roots = [path("app-1"), path("tool")];
        let cost = |name: &str| {
            let Sum { count, size } = alone(&closure(), roots.iter(), &path(name));
            (count, size)
        };

        assert_eq!(cost("app-1"), (3, 111));
        assert_eq!(cost("lib-2"), (1, 10));
        assert_eq!(cost("libc-3"), (1, 10_000));
        assert_eq!(cost("tool"), (1, 1_000));
    }

    #[test]
    fn a_path_is_meant_by_name_file_or_itself() {
        let lib = path("lib-2");
        for text in ["lib-2", "lib", &lib.to_string(), lib.base_name(), &format!("{lib}/lib/x.so")] {
            assert!(means(text, &lib), "{text}");
        }
        for text in ["", "li", "2", "lib-22", &format!("{lib}x"), "/nix/store"] {
            assert!(!means(text, &lib), "{text}");
        }
    }
}
