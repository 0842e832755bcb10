//! Groups the store paths of a [`Closure`] into layers, as dockerTools' `auto-layer` does.
//!
//! Two images share a layer only when its bytes are equal. So a large path, and whatever only it
//! needs, gets a layer of its own: the image's next version sends it again only if it changed.
//!
//! 1. At first all paths share one layer.
//! 2. The largest path not yet tried becomes a *primary*: it leaves its layer for one of its own,
//!    and the paths it depends on move to the side of it, unless a primary nearer to them already
//!    speaks for them.
//! 3. That goes on until the next primary would need more layers than the budget has.
//! 4. Layers are ordered by the size of their closure, so that a layer comes after what it needs.
//!
//! With A → B, A → P, B → G, P → O, P → G, O → G and the sizes A 5, B 8, G 40, O 10, P 100, the
//! primaries are tried in the order P, G, O, B, A:
//!
//! | layers for the store | plan                      |
//! |----------------------|---------------------------|
//! | 1                    | `[A B G O P]`             |
//! | 2                    | `[G O P] [A B]`           |
//! | 3                    | `[G] [O P] [A B]`         |
//! | 4                    | `[G] [O] [P] [A B]`       |
//! | 5 or more            | `[G] [B] [O] [P] [A]`     |

use std::collections::{BTreeMap, BTreeSet};

use crate::nix::{Closure, PathInfo, StorePath};

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
        let mut layers = graph.split(budget.for_the_store()).groups();
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

/// The references of a closure, between the places that its paths have in the sorted list.
struct Graph<'a> {
    infos: Vec<&'a PathInfo>,
    uses: Vec<Vec<usize>>,
    users: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    fn new(closure: &'a Closure) -> Self {
        let infos: Vec<_> = closure.infos().collect();
        let places: BTreeMap<_, _> =
            infos.iter().enumerate().map(|(place, info)| (&info.path, place)).collect();
        let mut uses = vec![Vec::new(); infos.len()];
        let mut users = vec![Vec::new(); infos.len()];
        for (user, info) in infos.iter().enumerate() {
            for &used in info.references.iter().filter_map(|path| places.get(path)) {
                uses[user].push(used);
                users[used].push(user);
            }
        }
        Self { infos, uses, users }
    }

    fn split(&self, available: usize) -> Split {
        let mut by_size: Vec<_> = (0..self.infos.len()).collect();
        by_size.sort_by_key(|&node| self.infos[node].nar_size);

        let mut split = Split { sets: vec![BTreeSet::new()], set_of: vec![0; self.infos.len()] };
        for &primary in by_size.iter().rev() {
            let next = split.with_primary(
                primary,
                &reachable(&self.uses, &[primary]),
                &reachable(&self.users, &[primary]),
            );
            if next.sets.len() > available {
                break;
            }
            split = next;
        }
        split
    }

    fn closure_size(&self, nodes: &[usize]) -> u128 {
        let members = reachable(&self.uses, nodes);
        self.infos
            .iter()
            .zip(members)
            .filter(|(_, member)| *member)
            .map(|(info, _)| u128::from(info.nar_size))
            .sum()
    }

    /// What the paths of a layer are sorted by: name and version, then hash.
    fn name_first(&self, node: usize) -> (&'a str, &'a str) {
        let path = &self.infos[node].path;
        (path.name(), path.hash_part())
    }
}

/// For each node, whether a way along `edges` leads to it from one of `starts`.
fn reachable(edges: &[Vec<usize>], starts: &[usize]) -> Vec<bool> {
    let mut reached = vec![false; edges.len()];
    let mut left = starts.to_vec();
    while let Some(node) = left.pop() {
        if !reached[node] {
            reached[node] = true;
            left.extend(&edges[node]);
        }
    }
    reached
}

/// For each node the set of primaries that speak for it; nodes with equal sets share a layer.
///
/// There are few different sets, so each is kept once, and the nodes say which is theirs.
struct Split {
    sets: Vec<BTreeSet<usize>>,
    set_of: Vec<usize>,
}

impl Split {
    /// The split after one more primary. `uses` and `users` mark what it depends on and what
    /// depends on it, however indirectly. Both mark the primary too, but no set holds it yet.
    fn with_primary(&self, primary: usize, uses: &[bool], users: &[bool]) -> Self {
        let moved = |set: &BTreeSet<usize>| {
            let mut set = set.clone();
            set.retain(|&node| !users[node]);
            if !set.iter().any(|&node| uses[node]) {
                set.insert(primary);
            }
            set
        };
        let mut places = BTreeMap::new();
        let mut place_of = |set| {
            let next = places.len();
            *places.entry(set).or_insert(next)
        };

        // What becomes of a node depends only on its set and whether the primary needs it.
        let mut known = BTreeMap::new();
        let set_of = (0..self.set_of.len()).map(|node| {
            if node == primary {
                return place_of(BTreeSet::from([primary]));
            }
            let (old, used) = (self.set_of[node], uses[node]);
            *known.entry((old, used)).or_insert_with(|| {
                let old = &self.sets[old];
                place_of(if used { moved(old) } else { old.clone() })
            })
        });
        let set_of = set_of.collect();

        let mut sets = vec![BTreeSet::new(); places.len()];
        for (set, place) in places {
            sets[place] = set;
        }
        Self { sets, set_of }
    }

    /// The nodes of each set.
    fn groups(self) -> Vec<Vec<usize>> {
        let mut groups = vec![Vec::new(); self.sets.len()];
        for (node, set) in self.set_of.into_iter().enumerate() {
            groups[set].push(node);
        }
        groups.retain(|group| !group.is_empty());
        groups
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nix::NarHash;

    fn path(name: &str) -> StorePath {
        StorePath::from_base_name(&format!("{}-{name}", "0".repeat(32))).unwrap()
    }

    fn info(path: StorePath, nar_size: u64, references: impl IntoIterator<Item = StorePath>) -> PathInfo {
        PathInfo {
            path,
            nar_hash: NarHash::from_bytes([0; 32]),
            nar_size,
            references: references.into_iter().collect(),
        }
    }

    fn plan(closure: &Closure, available: usize) -> Vec<Vec<StorePath>> {
        LayerPlan::auto(closure, LayerBudget::new(available + 1).unwrap()).layers
    }

    #[test]
    fn the_example_comes_out_as_dockertools_plans_it() {
        let example = [("A", 5, "ABP"), ("B", 8, "G"), ("G", 40, "G"), ("O", 10, "G"), ("P", 100, "GO")];
        let closure = Closure::new(example.map(|(name, size, references)| {
            info(path(name), size, references.chars().map(|name| path(&name.to_string())))
        }))
        .unwrap();

        for (available, expected) in [
            (1, "ABGOP"),
            (2, "GOP AB"),
            (3, "G OP AB"),
            (4, "G O P AB"),
            (5, "G B O P A"),
            (6, "G B O P A"),
            (126, "G B O P A"),
        ] {
            let names = |layer: &Vec<StorePath>| layer.iter().map(StorePath::name).collect::<String>();
            let layers: Vec<_> = plan(&closure, available).iter().map(names).collect();
            assert_eq!(layers.join(" "), expected, "with {available} layers for the store");
        }
    }

    #[test]
    fn layers_of_equal_closures_are_ordered_by_their_first_path() {
        let closure = Closure::new(["c", "a", "b"].map(|name| info(path(name), 7, []))).unwrap();

        assert_eq!(plan(&closure, 3), [[path("a")], [path("b")], [path("c")]]);
    }

    #[test]
    fn a_layer_is_sorted_by_name_before_hash() {
        let [first, second] = ["1", "2"].map(|digit| digit.repeat(32));
        let paths = [format!("{second}-a"), format!("{first}-b"), format!("{second}-b")]
            .map(|name| StorePath::from_base_name(&name).unwrap());
        let closure = Closure::new(paths.clone().map(|path| info(path, 1, []))).unwrap();

        assert_eq!(plan(&closure, 1), [paths]);
    }

    #[test]
    fn no_paths_make_no_layers() {
        assert_eq!(plan(&Closure::default(), 1), [] as [Vec<StorePath>; 0]);
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
            let layers = plan(&closure, available);
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

    #[test]
    fn three_thousand_paths_use_most_of_the_budget() {
        let mut state = 1u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        let name = |number: usize| path(&format!("p{number}"));
        let closure = Closure::new((0..3000).map(|number| {
            let references: Vec<_> =
                if number == 0 { vec![] } else { (0..10).map(|_| name(random(number))).collect() };
            info(name(number), 1 + random(1 << 30) as u64, references)
        }))
        .unwrap();

        let layers = plan(&closure, 126);

        let planned: BTreeSet<_> = layers.concat().into_iter().collect();
        assert_eq!(layers.iter().map(Vec::len).sum::<usize>(), 3000);
        assert!(planned.iter().eq(closure.paths()));
        assert!((100..=126).contains(&layers.len()), "{} layers", layers.len());
    }

    /// The rules as the reference states them, on sets of paths: slow, but without the bookkeeping.
    fn plan_by_the_letter(closure: &Closure, available: usize) -> Vec<Vec<StorePath>> {
        type Sets = BTreeMap<StorePath, BTreeSet<StorePath>>;
        let references = |path: &StorePath| closure.get(path).unwrap().references.clone();
        let with_deps = |starts: &BTreeSet<StorePath>| {
            let mut all = starts.clone();
            loop {
                let more: BTreeSet<_> = all.iter().flat_map(references).chain(all.iter().cloned()).collect();
                if more == all {
                    return all;
                }
                all = more;
            }
        };
        let deps: Sets =
            closure.paths().map(|path| (path.clone(), with_deps(&[path.clone()].into()))).collect();

        let mut split: Sets = closure.paths().map(|path| (path.clone(), BTreeSet::new())).collect();
        let mut todo: Vec<_> = closure.infos().collect();
        todo.sort_by_key(|info| info.nar_size);
        while let Some(PathInfo { path: primary, .. }) = todo.pop() {
            let mut next = split.clone();
            next.insert(primary.clone(), [primary.clone()].into());
            let below: BTreeSet<_> = deps[primary].iter().filter(|path| *path != primary).cloned().collect();
            for dep in &below {
                let set = next.get_mut(dep).unwrap();
                set.retain(|path| path == primary || !deps[path].contains(primary));
                if set.is_disjoint(&below) {
                    set.insert(primary.clone());
                }
            }
            if next.values().collect::<BTreeSet<_>>().len() > available {
                break;
            }
            split = next;
        }

        let mut layers = BTreeMap::<_, Vec<_>>::new();
        for (path, set) in split {
            layers.entry(set).or_default().push(path);
        }
        let key = |path: &StorePath| (path.name().to_owned(), path.hash_part().to_owned());
        let mut layers: Vec<_> = layers.into_values().collect();
        layers.iter_mut().for_each(|layer| layer.sort_by_key(key));
        layers.sort_by_key(|layer| {
            let members = with_deps(&layer.iter().cloned().collect());
            (members.iter().map(|path| closure.get(path).unwrap().nar_size).sum::<u64>(), key(&layer[0]))
        });
        layers
    }

    prop_compose! {
        fn any_infos()(count in 0..24usize)(
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

    proptest! {
        /// Every store path of the closure is in exactly one layer, and the budget holds.
        #[test]
        fn a_plan_partitions_the_closure(infos in any_infos(), available in 1..=126usize) {
            let closure = Closure::new(infos).unwrap();

            let layers = plan(&closure, available);

            let mut planned = layers.concat();
            planned.sort();
            prop_assert!(planned.iter().eq(closure.paths()));
            prop_assert!(layers.len() <= available);
            prop_assert!(layers.iter().all(|layer| !layer.is_empty()));
        }

        #[test]
        fn a_plan_follows_the_letter_of_the_rules(infos in any_infos(), available in 1..=16usize) {
            let closure = Closure::new(infos).unwrap();

            prop_assert_eq!(plan(&closure, available), plan_by_the_letter(&closure, available));
        }

        #[test]
        fn the_order_of_the_input_does_not_matter(
            (infos, shuffled) in any_infos().prop_flat_map(|infos| (Just(infos.clone()), Just(infos).prop_shuffle())),
            available in 1..=16usize,
        ) {
            let plan = |infos| plan(&Closure::new(infos).unwrap(), available);

            prop_assert_eq!(plan(infos), plan(shuffled));
        }
    }
}
