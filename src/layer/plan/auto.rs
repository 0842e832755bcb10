//! The plan that dockerTools' `auto-layer` makes of a closure.
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

use super::graph::{Graph, reachable};

/// The nodes of each of at most `available` layers.
pub(super) fn groups(graph: &Graph<'_>, available: usize) -> Vec<Vec<usize>> {
    let mut by_size: Vec<_> = (0..graph.infos.len()).collect();
    by_size.sort_by_key(|&node| graph.infos[node].nar_size);

    let mut split = Split { sets: vec![BTreeSet::new()], set_of: vec![0; graph.infos.len()] };
    for &primary in by_size.iter().rev() {
        let next = split.with_primary(
            primary,
            &reachable(&graph.uses, &[primary]),
            &reachable(&graph.users, &[primary]),
        );
        if next.sets.len() > available {
            break;
        }
        split = next;
    }
    split.groups()
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
    use crate::layer::plan::samples::{any_infos, auto, info, path};
    use crate::nix::{Closure, PathInfo, StorePath};

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
            let layers: Vec<_> = auto(&closure, available).iter().map(names).collect();
            assert_eq!(layers.join(" "), expected, "with {available} layers for the store");
        }
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

        let layers = auto(&closure, 126);

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

    proptest! {
        #[test]
        fn a_plan_follows_the_letter_of_the_rules(infos in any_infos(), available in 1..=16usize) {
            let closure = Closure::new(infos).unwrap();

            prop_assert_eq!(auto(&closure, available), plan_by_the_letter(&closure, available));
        }
    }
}
