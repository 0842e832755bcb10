//! A plan that keeps the layers of the image that is now under the tag.
//!
//! A layer is one tar: whatever changes in it, all of it is sent again. [`auto`](super::auto) parts
//! paths by size alone, so the small ones that change every week lie beside much that does not. Here
//! each update is a chance to part them.
//!
//! 1. A layer of the previous image stays as it is, if all its paths are still there.
//! 2. Every other path starts alone. It is sent in any case, because it is new or its layer lost one.
//! 3. If that is more than the budget has, layers [merge], those first that cost least now
//!    and with the updates to come. Only then can a kept layer be one of them: a small one that hardly
//!    changes makes room for paths that would have others sent again and again.
//!
//! An image without a predecessor has the plan of `auto`, and so has one whose predecessor had none of
//! its packages.
//!
//! With python → libc, tool → libc, app → libc, the sizes app 2, docs 1, libc 40, python 100, tool 30, and
//! room for three layers:
//!
//! | image             | plan                              | bytes sent |
//! |-------------------|-----------------------------------|------------|
//! | the first         | `[libc] [app docs tool] [python]` | 173        |
//! | app has changed   | `[app docs] [libc tool] [python]` | 73         |
//! | app changes again | `[app docs] [libc tool] [python]` | 3          |
//!
//! The first change of app breaks the layer of docs and tool. Alone, these three and the other two layers
//! would be five, so two merges follow: docs and app are small; and that tool lies with libc costs less than
//! to send it with each app, because what changes libc changes tool anyway.

use std::collections::BTreeSet;

use super::graph::Graph;
use super::merge::{self, Draft, Updates};
use crate::nix::StorePath;

/// Whether there is anything in `previous` to go by: a package of ours, if only by its name.
///
/// When all is built anew, no path stays what it was, but the image is still the same.
pub(super) fn is_predecessor(graph: &Graph<'_>, previous: &[Vec<StorePath>]) -> bool {
    let names: BTreeSet<_> = graph.infos.iter().map(|info| info.path.name()).collect();
    previous.iter().flatten().any(|path| names.contains(path.name()))
}

/// The nodes of each of at most `available` layers.
pub(super) fn groups(graph: &Graph<'_>, available: usize, previous: &[Vec<StorePath>]) -> Vec<Vec<usize>> {
    let kept = kept(graph, previous);
    let mut loose: BTreeSet<_> = (0..graph.infos.len()).collect();
    for node in kept.iter().flatten() {
        loose.remove(node);
    }

    let updates = Updates::new(graph);
    let loose = loose.into_iter().map(|node| Draft::new(graph, &updates, vec![node], false));
    let kept = kept.into_iter().map(|nodes| Draft::new(graph, &updates, nodes, true));
    merge::groups(kept.chain(loose).collect(), available, &updates)
}

/// The layers of `previous` that the closure still holds whole. Where two overlap, one of them.
fn kept(graph: &Graph<'_>, previous: &[Vec<StorePath>]) -> Vec<Vec<usize>> {
    let whole = |layer: &Vec<StorePath>| layer.iter().map(|path| graph.node(path)).collect();
    let layers: BTreeSet<BTreeSet<usize>> = previous.iter().filter_map(whole).collect();

    let mut taken = BTreeSet::new();
    let mut kept = Vec::new();
    for layer in layers {
        if !layer.is_empty() && layer.is_disjoint(&taken) {
            taken.extend(&layer);
            kept.push(layer.into_iter().collect());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use crate::layer::plan::samples::{any_infos, auto, info, path};
    use crate::layer::plan::{LayerBudget, LayerPlan};
    use crate::nix::{Closure, PathInfo, StorePath};

    type Layers = Vec<Vec<StorePath>>;

    fn stable(closure: &Closure, available: usize, previous: &[Vec<StorePath>]) -> Layers {
        LayerPlan::stable(closure, LayerBudget::new(available + 1).unwrap(), previous).layers
    }

    /// The path of a package that was built anew so many times.
    fn build(name: &str, number: usize) -> StorePath {
        StorePath::from_base_name(&format!("{number:032}-{name}")).unwrap()
    }

    fn closure_with_app(number: usize) -> Closure {
        Closure::new([
            info(path("libc"), 40, []),
            info(path("python"), 100, [path("libc")]),
            info(path("docs"), 1, []),
            info(path("tool"), 30, [path("libc")]),
            info(build("app", number), 2, [path("libc")]),
        ])
        .unwrap()
    }

    #[test]
    fn the_example_parts_what_changes_from_what_does_not() {
        let mut previous = Layers::new();

        for (number, layers, bytes) in [
            (1, "libc | app docs tool | python", 173),
            (2, "app docs | libc tool | python", 73),
            (3, "app docs | libc tool | python", 3),
        ] {
            let closure = closure_with_app(number);
            let plan = stable(&closure, 3, &previous);

            let names =
                |layer: &Vec<StorePath>| layer.iter().map(StorePath::name).collect::<Vec<_>>().join(" ");
            assert_eq!(plan.iter().map(names).collect::<Vec<_>>().join(" | "), layers);
            let sent = plan.iter().filter(|layer| !previous.contains(layer)).flatten();
            assert_eq!(sent.map(|path| closure.get(path).unwrap().nar_size).sum::<u64>(), bytes);
            previous = plan;
        }
    }

    #[test]
    fn an_image_of_other_packages_counts_as_none() {
        let closure = closure_with_app(1);

        let previous = [vec![path("perl"), path("bash")], vec![], vec![path("zlib")]];

        assert_eq!(stable(&closure, 3, &previous), auto(&closure, 3));
    }

    #[test]
    fn an_image_whose_packages_were_all_built_anew_is_a_predecessor() {
        let closure = closure_with_app(1);

        let previous = [vec![build("libc", 7)], vec![build("python", 7), build("tool", 7)]];

        assert!(stable(&closure, 3, &previous).contains(&vec![build("app", 1), path("docs")]));
    }

    /// A history can say anything.
    fn any_layers() -> impl Strategy<Value = Layers> {
        let layer = prop::collection::vec((0..30usize).prop_map(|number| path(&format!("p{number}"))), 0..5);
        prop::collection::vec(layer, 0..20)
    }

    /// A closure and some of its paths.
    fn any_closure_with_part() -> impl Strategy<Value = (Vec<PathInfo>, Vec<StorePath>)> {
        let part = |infos: Vec<PathInfo>| {
            let paths: Vec<_> = infos.iter().map(|info| info.path.clone()).collect();
            (Just(infos), prop::sample::subsequence(paths.clone(), 0..=paths.len()))
        };
        any_infos().prop_flat_map(part)
    }

    /// The closure after an update: `changed` have other paths.
    fn updated(infos: &[PathInfo], changed: &[StorePath]) -> Closure {
        let new = |old: &StorePath| if changed.contains(old) { build(old.name(), 1) } else { old.clone() };
        Closure::new(
            infos.iter().map(|old| info(new(&old.path), old.nar_size, old.references.iter().map(new))),
        )
        .unwrap()
    }

    proptest! {
        /// Every store path of the closure is in exactly one layer, nothing else is, and the budget holds.
        #[test]
        fn a_plan_partitions_the_closure(
            infos in any_infos(),
            previous in any_layers(),
            available in 1..=30usize,
        ) {
            let closure = Closure::new(infos).unwrap();

            let layers = stable(&closure, available, &previous);

            let mut planned = layers.concat();
            planned.sort();
            prop_assert!(planned.iter().eq(closure.paths()));
            prop_assert!(layers.len() <= available);
            prop_assert!(layers.iter().all(|layer| !layer.is_empty()));
        }

        /// With room for what is new, nothing is sent twice.
        #[test]
        fn whole_layers_stay_where_there_is_room(
            (infos, changed) in any_closure_with_part(),
            before in 1..=12usize,
            more in 0..4usize,
        ) {
            let previous = auto(&Closure::new(infos.clone()).unwrap(), before);
            let closure = updated(&infos, &changed);
            let is_whole = |layer: &&Vec<StorePath>| layer.iter().all(|path| !changed.contains(path));
            let whole: Layers = previous.iter().filter(is_whole).cloned().collect();
            let others = closure.len() - whole.iter().map(Vec::len).sum::<usize>();

            let layers = stable(&closure, (whole.len() + others + more).max(1), &previous);

            prop_assert!(whole.iter().all(|layer| layers.contains(layer)));
        }

        #[test]
        fn without_a_previous_image_the_plan_is_that_of_auto(infos in any_infos(), available in 1..=30usize) {
            let closure = Closure::new(infos).unwrap();

            prop_assert_eq!(stable(&closure, available, &[]), auto(&closure, available));
        }

        /// A plan that nothing has changed since is kept, whatever it came from.
        #[test]
        fn an_unchanged_closure_keeps_its_plan(
            infos in any_infos(),
            previous in any_layers(),
            available in 1..=30usize,
        ) {
            let closure = Closure::new(infos).unwrap();
            let layers = stable(&closure, available, &previous);

            prop_assert_eq!(stable(&closure, available, &layers), layers);
        }

        #[test]
        fn the_order_of_the_previous_image_does_not_matter(
            (infos, changed) in any_closure_with_part(),
            before in 1..=12usize,
            available in 1..=12usize,
            swaps in prop::collection::vec((any::<Index>(), any::<Index>()), 0..12),
        ) {
            let previous = auto(&Closure::new(infos.clone()).unwrap(), before);
            let closure = updated(&infos, &changed);
            let mut shuffled: Layers = previous.clone();
            for (one, other) in swaps.iter().filter(|_| !previous.is_empty()) {
                shuffled.swap(one.index(previous.len()), other.index(previous.len()));
                shuffled[one.index(previous.len())].reverse();
            }

            prop_assert_eq!(stable(&closure, available, &shuffled), stable(&closure, available, &previous));
        }
    }
}
