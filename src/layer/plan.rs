//! Groups the store paths of a [`Closure`] into layers.
//!
//! Two images share a layer only when its bytes are equal, so a plan decides what the next version of
//! an image sends again.
//!
//! * [`LayerPlan::auto`] looks at the closure alone, and makes the same plan as dockerTools.
//! * [`LayerPlan::stable`] also looks at the image now under the tag, and keeps what it can of it.

mod auto;
mod graph;
mod merge;
#[cfg(test)]
mod samples;
mod stable;

use self::graph::Graph;
use crate::nix::{Closure, StorePath};

/// How many layers an image may have: 2 to 127.
///
/// One of them is for what lies outside the store. Container runtimes mount at most 127 layers
/// above each other; the default of 100 leaves room for images that build upon ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerBudget(usize);

/// The number is no [`LayerBudget`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an image cannot have `{0}` layers: the number must be from 2 to 127")]
pub struct LayerBudgetError(usize);

/// Which store paths share a layer, lowest layer first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerPlan {
    layers: Vec<Vec<StorePath>>,
}

impl LayerBudget {
    /// A budget of `layers`, the one outside the store included.
    pub fn new(layers: usize) -> Result<Self, LayerBudgetError> {
        if (2..=127).contains(&layers) { Ok(Self(layers)) } else { Err(LayerBudgetError(layers)) }
    }

    fn for_the_store(self) -> usize {
        self.0 - 1
    }
}

impl Default for LayerBudget {
    fn default() -> Self {
        Self(100)
    }
}

impl LayerPlan {
    /// The plan that dockerTools makes of the same closure by default.
    ///
    /// Layers whose closures have the same size are ordered by their first path; dockerTools
    /// leaves that order to chance.
    pub fn auto(closure: &Closure, budget: LayerBudget) -> Self {
        let graph = Graph::new(closure);
        Self::in_order(&graph, auto::groups(&graph, budget.for_the_store()))
    }

    /// The plan that sends the fewest bytes, now and with later updates, where the registry has an image
    /// with the store layers `previous`: in any order, also with paths that nobody knows any more.
    ///
    /// Without one, or if it has no package of the closure, the plan of [`Self::auto`].
    pub fn stable(closure: &Closure, budget: LayerBudget, previous: &[Vec<StorePath>]) -> Self {
        let graph = Graph::new(closure);
        if !stable::is_predecessor(&graph, previous) {
            return Self::auto(closure, budget);
        }
        let groups = stable::groups(&graph, budget.for_the_store(), previous);
        Self::in_order(&graph, groups)
    }

    /// A layer comes after what it needs, because that has a smaller closure.
    fn in_order(graph: &Graph<'_>, mut layers: Vec<Vec<usize>>) -> Self {
        for layer in &mut layers {
            layer.sort_by_key(|&node| graph.name_first(node));
        }
        layers.sort_by_cached_key(|layer| (graph.closure_size(layer), graph.name_first(layer[0])));
        let path = |node: usize| graph.infos[node].path.clone();
        Self { layers: layers.into_iter().map(|layer| layer.into_iter().map(path).collect()).collect() }
    }

    /// The paths of each layer in the order of its tar; no layer is empty.
    pub fn layers(&self) -> &[Vec<StorePath>] {
        &self.layers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::samples::{any_infos, auto, info, path};
    use super::*;

    #[test]
    fn layers_of_equal_closures_are_ordered_by_their_first_path() {
        let closure = Closure::new(["c", "a", "b"].map(|name| info(path(name), 7, []))).unwrap();

        assert_eq!(auto(&closure, 3), [[path("a")], [path("b")], [path("c")]]);
    }

    #[test]
    fn a_layer_is_sorted_by_name_before_hash() {
        let [first, second] = ["1", "2"].map(|digit| digit.repeat(32));
        let paths = [format!("{second}-a"), format!("{first}-b"), format!("{second}-b")]
            .map(|name| StorePath::from_base_name(&name).unwrap());
        let closure = Closure::new(paths.clone().map(|path| info(path, 1, []))).unwrap();

        assert_eq!(auto(&closure, 1), [paths]);
    }

    #[test]
    fn no_paths_make_no_layers() {
        assert_eq!(auto(&Closure::default(), 1), [] as [Vec<StorePath>; 0]);
    }

    /// Nix makes no cycles, but a file that claims one must not stop us.
    #[test]
    fn a_cycle_is_planned_like_anything_else() {
        let closure = Closure::new([
            info(path("a"), 3, [path("b")]),
            info(path("b"), 2, [path("a")]),
            info(path("c"), 1, [path("a")]),
        ])
        .unwrap();

        for available in 1..=4 {
            let layers = auto(&closure, available);
            let mut planned: Vec<_> = layers.concat();
            planned.sort();
            assert_eq!(planned, [path("a"), path("b"), path("c")]);
            assert!(layers.len() <= available);
        }
    }

    #[test]
    fn a_budget_outside_the_range_is_refused() {
        for layers in [0, 1, 128, usize::MAX] {
            assert_eq!(LayerBudget::new(layers), Err(LayerBudgetError(layers)));
        }
        assert!(LayerBudget::new(2).is_ok() && LayerBudget::new(127).is_ok());
    }

    proptest! {
        /// Every store path of the closure is in exactly one layer, and the budget holds.
        #[test]
        fn a_plan_partitions_the_closure(infos in any_infos(), available in 1..=126usize) {
            let closure = Closure::new(infos).unwrap();

            let layers = auto(&closure, available);

            let mut planned = layers.concat();
            planned.sort();
            prop_assert!(planned.iter().eq(closure.paths()));
            prop_assert!(layers.len() <= available);
            prop_assert!(layers.iter().all(|layer| !layer.is_empty()));
        }

        #[test]
        fn the_order_of_the_input_does_not_matter(
            (infos, shuffled) in any_infos().prop_flat_map(|infos| (Just(infos.clone()), Just(infos).prop_shuffle())),
            available in 1..=16usize,
        ) {
            let plan = |infos| auto(&Closure::new(infos).unwrap(), available);

            prop_assert_eq!(plan(infos), plan(shuffled));
        }
    }
}
