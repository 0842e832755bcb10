//! A lock as JSON: the same lock gives the same bytes, and a small change a small difference.
//!
//! Store paths stand by their base names. Those of a closure are sorted by what follows the hash, so that
//! a new version of a package stands where the old one stood.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Lock, LockError, LockedPackage, LockedSystem, PackageSet};
use crate::nix::closure::MOST_NAR_SIZE;
use crate::nix::{Closure, NarHash, PathInfo, StorePath, System};

const VERSION: u64 = 1;

/// Store paths of one system. The largest images have a few thousand; planning takes the square of it.
const MOST_PATHS: usize = 20_000;

#[derive(Deserialize)]
struct Version {
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u64,
    spec: String,
    nixpkgs: Set,
    #[serde(default, deserialize_with = "unique", skip_serializing_if = "BTreeMap::is_empty")]
    folders: BTreeMap<String, String>,
    #[serde(deserialize_with = "unique")]
    systems: BTreeMap<String, SystemEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Set {
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nar_hash: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SystemEntry {
    #[serde(deserialize_with = "unique")]
    packages: BTreeMap<String, String>,
    /// The package sets of those that come from another one than the lock's.
    #[serde(default, deserialize_with = "unique", skip_serializing_if = "BTreeMap::is_empty")]
    from_other_nixpkgs: BTreeMap<String, Set>,
    closure: Vec<PathEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PathEntry {
    path: String,
    nar_hash: String,
    nar_size: u64,
    references: Vec<String>,
}

impl Lock {
    /// The lock in `bytes`, the content of the file that messages call `file`.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, LockError> {
        let json = |source| LockError::Json { file: file.to_owned(), source };
        // Another version may have other fields, so the number is read alone first.
        let Version { version } = serde_json::from_slice(bytes).map_err(json)?;
        if version != VERSION {
            return Err(LockError::Version { file: file.to_owned(), found: version });
        }
        let read: File = serde_json::from_slice(bytes).map_err(json)?;
        for (name, entry) in &read.systems {
            if entry.closure.len() > MOST_PATHS {
                let system = name.clone();
                return Err(LockError::TooMany { file: file.to_owned(), system, most: MOST_PATHS });
            }
        }
        let mut systems = BTreeMap::new();
        for (name, mut entry) in read.systems {
            let system: System = parsed(&name).map_err(json)?;
            let infos: Result<Vec<PathInfo>, _> = entry.closure.iter().map(path_info).collect();
            let closure = Closure::new(infos.map_err(json)?).map_err(|source| LockError::Closure {
                file: file.to_owned(),
                system,
                source,
            })?;
            let mut packages = BTreeMap::new();
            for (name, package) in entry.packages {
                let path = base_name(&package).map_err(json)?;
                if closure.get(&path).is_none() {
                    return Err(LockError::Undescribed { file: file.to_owned(), name, path });
                }
                let package_set = entry.from_other_nixpkgs.remove(&name).map(Set::into_package_set);
                let package_set = package_set.transpose().map_err(json)?;
                packages.insert(name, LockedPackage { path, package_set });
            }
            if let Some(name) = entry.from_other_nixpkgs.keys().next() {
                let reason = format!("`fromOtherNixpkgs` has `{name}`, and `packages` does not");
                return Err(json(serde::de::Error::custom(reason)));
            }
            systems.insert(system, LockedSystem { packages, closure });
        }
        let package_set = read.nixpkgs.into_package_set().map_err(json)?;
        let folders = read.folders.into_iter().map(|(folder, hash)| Ok((folder, parsed(&hash)?)));
        let folders = folders.collect::<Result<_, _>>().map_err(json)?;
        Ok(Self { spec: parsed(&read.spec).map_err(json)?, package_set, folders, systems })
    }

    /// The lock as the content of a file.
    pub fn to_json(&self) -> String {
        let systems =
            self.systems.iter().map(|(system, locked)| (system.to_string(), SystemEntry::of(locked)));
        let file = File {
            version: VERSION,
            spec: self.spec.to_string(),
            nixpkgs: Set::of(&self.package_set),
            folders: self.folders.iter().map(|(folder, hash)| (folder.clone(), hash.to_string())).collect(),
            systems: systems.collect(),
        };
        // Maps with text as keys, and no more than JSON can say: nothing here can fail.
        let text = serde_json::to_string_pretty(&file).unwrap_or_default();
        format!("{text}\n")
    }
}

impl Set {
    fn of(set: &PackageSet) -> Self {
        Self {
            source: set.source.clone(),
            revision: set.revision.clone(),
            nar_hash: set.nar_hash.map(|hash| hash.to_string()),
        }
    }

    fn into_package_set(self) -> Result<PackageSet, serde_json::Error> {
        let nar_hash: Option<NarHash> = self.nar_hash.as_deref().map(parsed).transpose()?;
        Ok(PackageSet { source: self.source, revision: self.revision, nar_hash })
    }
}

impl SystemEntry {
    fn of(locked: &LockedSystem) -> Self {
        let packages = locked.packages.iter();
        let paths =
            packages.clone().map(|(name, package)| (name.clone(), package.path.base_name().to_owned()));
        let sets = packages
            .filter_map(|(name, package)| Some((name.clone(), Set::of(package.package_set.as_ref()?))));
        let mut infos: Vec<&PathInfo> = locked.closure.infos().collect();
        infos.sort_by_key(|info| by_name(&info.path));
        let closure = infos.into_iter().map(|info| {
            let mut references: Vec<&StorePath> = info.references.iter().collect();
            references.sort_by_key(|path| by_name(path));
            PathEntry {
                path: info.path.base_name().to_owned(),
                nar_hash: info.nar_hash.to_string(),
                nar_size: info.nar_size,
                references: references.iter().map(|path| path.base_name().to_owned()).collect(),
            }
        });
        Self { packages: paths.collect(), from_other_nixpkgs: sets.collect(), closure: closure.collect() }
    }
}

fn by_name(path: &StorePath) -> (String, String) {
    (path.name().to_owned(), path.hash_part().to_owned())
}

fn path_info(entry: &PathEntry) -> Result<PathInfo, serde_json::Error> {
    if entry.nar_size == 0 || entry.nar_size > MOST_NAR_SIZE {
        let reason = format!("`{}` has an impossible `narSize`", entry.path);
        return Err(serde::de::Error::custom(reason));
    }
    Ok(PathInfo {
        path: base_name(&entry.path)?,
        nar_hash: parsed(&entry.nar_hash)?,
        nar_size: entry.nar_size,
        references: entry.references.iter().map(|name| base_name(name)).collect::<Result<_, _>>()?,
    })
}

fn base_name(text: &str) -> Result<StorePath, serde_json::Error> {
    StorePath::from_base_name(text).map_err(serde::de::Error::custom)
}

fn parsed<T: std::str::FromStr<Err: fmt::Display>>(text: &str) -> Result<T, serde_json::Error> {
    text.parse().map_err(serde::de::Error::custom)
}

/// A map in which no key comes twice; serde would keep the last, and a merge gone wrong would pass.
fn unique<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<BTreeMap<String, T>, D::Error> {
    struct Unique<T>(std::marker::PhantomData<T>);

    impl<'de, T: DeserializeOwned> Visitor<'de> for Unique<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = entries.next_entry::<String, T>()? {
                if map.contains_key(&key) {
                    return Err(serde::de::Error::custom(format!("`{key}` is there twice")));
                }
                map.insert(key, value);
            }
            Ok(map)
        }
    }

    from.deserialize_map(Unique(std::marker::PhantomData))
}
