//! Which paths of a [`Closure`] use which.

use std::collections::BTreeMap;

use crate::nix::{Closure, PathInfo, StorePath};

/// The references of a closure, between the places that its paths have in the sorted list.
pub(super) struct Graph<'a> {
    pub(super) infos: Vec<&'a PathInfo>,
    pub(super) uses: Vec<Vec<usize>>,
    pub(super) users: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(closure: &'a Closure) -> Self {
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

    /// The place of `path`, if it is one of the closure.
    pub(super) fn node(&self, path: &StorePath) -> Option<usize> {
        self.infos.binary_search_by(|info| info.path.cmp(path)).ok()
    }

    pub(super) fn closure_size(&self, nodes: &[usize]) -> u128 {
        let members = reachable(&self.uses, nodes);
        self.infos
            .iter()
            .zip(members)
            .filter(|(_, member)| *member)
            .map(|(info, _)| u128::from(info.nar_size))
            .sum()
    }

    /// What the paths of a layer are sorted by: name and version, then hash.
    pub(super) fn name_first(&self, node: usize) -> (&'a str, &'a str) {
        let path = &self.infos[node].path;
        (path.name(), path.hash_part())
    }
}

/// For each node, whether a way along `edges` leads to it from one of `starts`.
pub(super) fn reachable(edges: &[Vec<usize>], starts: &[usize]) -> Vec<bool> {
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
