//! Closures that the tests of plans are about.

use proptest::prelude::*;

use super::{LayerBudget, LayerPlan};
use crate::nix::{Closure, NarHash, PathInfo, StorePath};

pub(super) fn path(name: &str) -> StorePath {
    StorePath::from_base_name(&format!("{}-{name}", "0".repeat(32))).unwrap()
}

pub(super) fn info(
    path: StorePath,
    nar_size: u64,
    references: impl IntoIterator<Item = StorePath>,
) -> PathInfo {
    PathInfo {
        path,
        nar_hash: NarHash::from_bytes([0; 32]),
        nar_size,
        references: references.into_iter().collect(),
    }
}

pub(super) fn auto(closure: &Closure, available: usize) -> Vec<Vec<StorePath>> {
    LayerPlan::auto(closure, LayerBudget::new(available + 1).unwrap()).layers
}

prop_compose! {
    pub(super) fn any_infos()(count in 0..24usize)(
        sizes in proptest::collection::vec(1..40u64, count),
        references in proptest::collection::vec(proptest::collection::vec(any::<prop::sample::Index>(), 0..4), count),
    ) -> Vec<PathInfo> {
        // A path refers to itself or to earlier ones, and earlier in time is not earlier in name.
        let name = |number: usize| path(&format!("p{}", number * 7 % 24));
        let info = |(number, (size, references)): (usize, (u64, Vec<prop::sample::Index>))| {
            info(name(number), size, references.iter().map(|index| name(index.index(number + 1))))
        };
        sizes.into_iter().zip(references).enumerate().map(info).collect()
    }
}
