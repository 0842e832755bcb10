//! Store paths together with everything they refer to.

use std::collections::{BTreeMap, BTreeSet};

use super::{NarHash, StorePath};

/// The most bytes that the NAR of one path can have, 16 TiB: the sizes of as many as anybody names then fit a
/// number.
pub const MOST_NAR_SIZE: u64 = 1 << 44;

/// What the store's database knows of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// The path itself.
    pub path: StorePath,
    /// The SHA-256 of its NAR.
    pub nar_hash: NarHash,
    /// The length of its NAR in bytes.
    pub nar_size: u64,
    /// The paths whose hash parts occur in its contents; it may be one of them itself.
    pub references: BTreeSet<StorePath>,
}

/// A set of store paths that holds every path its members refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closure {
    infos: BTreeMap<StorePath, PathInfo>,
}

/// Why a set of paths is no closure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClosureError {
    /// A path that is referred to is missing.
    #[error("`{referrer}` refers to `{missing}`, which is not among the paths")]
    Open {
        /// The path with the reference.
        referrer: StorePath,
        /// What it refers to.
        missing: StorePath,
    },
    /// One path came twice, with different facts.
    #[error("`{0}` is described twice, differently")]
    Contradiction(StorePath),
}

impl Closure {
    /// The closure of these paths, in any order.
    pub fn new(infos: impl IntoIterator<Item = PathInfo>) -> Result<Self, ClosureError> {
        let mut known = BTreeMap::new();
        for info in infos {
            let path = info.path.clone();
            if known.insert(path.clone(), info.clone()).is_some_and(|earlier| earlier != info) {
                return Err(ClosureError::Contradiction(path));
            }
        }
        for info in known.values() {
            if let Some(missing) = info.references.iter().find(|path| !known.contains_key(*path)) {
                return Err(ClosureError::Open { referrer: info.path.clone(), missing: missing.clone() });
            }
        }
        Ok(Self { infos: known })
    }

    /// The part of it that `roots`, as far as they are in it, need at run time.
    pub fn reachable_from<'a>(&self, roots: impl IntoIterator<Item = &'a StorePath>) -> Self {
        let mut infos = BTreeMap::new();
        let mut waiting: Vec<&StorePath> = roots.into_iter().collect();
        while let Some(path) = waiting.pop() {
            if let Some(info) = self.infos.get(path)
                && infos.insert(path.clone(), info.clone()).is_none()
            {
                waiting.extend(&info.references);
            }
        }
        Self { infos }
    }

    /// The paths with what is known of them, sorted by base name.
    pub fn infos(&self) -> impl ExactSizeIterator<Item = &PathInfo> {
        self.infos.values()
    }

    /// The paths, sorted by base name.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &StorePath> {
        self.infos.keys()
    }

    /// What is known of `path`.
    pub fn get(&self, path: &StorePath) -> Option<&PathInfo> {
        self.infos.get(path)
    }

    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.infos.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.infos.is_empty()
    }

    /// The NAR sizes of all paths together, in bytes.
    pub fn nar_size(&self) -> u64 {
        self.infos.values().map(|info| info.nar_size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, nar_size: u64, references: &[&str]) -> PathInfo {
        let path = |name: &str| StorePath::from_base_name(&format!("{}-{name}", "0".repeat(32))).unwrap();
        PathInfo {
            path: path(name),
            nar_hash: NarHash::from_bytes([0; 32]),
            nar_size,
            references: references.iter().map(|name| path(name)).collect(),
        }
    }

    #[test]
    fn a_closure_is_the_same_in_whatever_order_its_paths_were_found() {
        let (a, b) = (info("a", 1, &["a", "b"]), info("b", 2, &[]));

        let closure = Closure::new([a.clone(), b.clone()]).unwrap();

        assert_eq!(Closure::new([b.clone(), a.clone(), b]), Ok(closure.clone()));
        assert_eq!((closure.len(), closure.nar_size()), (2, 3));
    }

    #[test]
    fn a_part_holds_all_that_its_roots_need_and_no_more() {
        let infos =
            [info("a", 1, &["a", "b"]), info("b", 1, &["c"]), info("c", 1, &["b"]), info("d", 1, &["a"])];
        let [a, _, _, d] = infos.each_ref().map(|info| info.path.clone());
        let closure = Closure::new(infos).unwrap();

        let names = |part: &Closure| part.paths().map(|path| path.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&closure.reachable_from([&a])), ["a", "b", "c"]);
        assert_eq!(closure.reachable_from([&d]), closure);
        assert_eq!(closure.reachable_from([]), Closure::default());
    }

    #[test]
    fn a_reference_that_leads_out_is_named() {
        let error = Closure::new([info("a", 1, &["b"])]).unwrap_err();

        assert!(matches!(&error, ClosureError::Open { referrer, missing }
            if referrer.name() == "a" && missing.name() == "b"));
    }

    #[test]
    fn two_descriptions_of_one_path_that_differ_are_refused() {
        let error = Closure::new([info("a", 1, &[]), info("a", 2, &[])]).unwrap_err();

        assert!(matches!(error, ClosureError::Contradiction(path) if path.name() == "a"));
    }
}
