//! Merges layers in the making until the budget holds, the cheapest pair first.
//!
//! A layer is sent again when anything in it changes. What a draft of one is expected to cost with the
//! next update is therefore its size times its *unrest*: how likely the update changes it.
//!
//! * An update is of one path, and changes all that need it, however indirectly.
//! * A path is the likelier to be updated the fewer need it. Of what the whole image rests on there are
//!   a few updates in a year; an application has one in a week.
//! * So a draft's unrest is the sum, over all that its paths need, of 1 / (number of paths that need it).
//!
//! Two drafts that merge cost what the whole is expected to cost more than the two did. A layer that the
//! registry has already is also sent now, if it merges; that counts over the next [`HORIZON`] updates.
//!
//! All numbers are whole, so the plan is the same on every machine.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::graph::{Graph, reachable};

/// How many updates a plan is made for. A year of a few a week; half or twice of it changes little.
const HORIZON: u64 = 100;

/// The unrest of a path that nothing else needs.
const UNREST: u64 = 1 << 20;

/// A layer in the making.
pub(super) struct Draft {
    nodes: Vec<usize>,
    needs: Needs,
    unrest: u64,
    size: u64,
    published: bool,
}

/// The nodes that those of a draft need, themselves included: a bit each.
struct Needs(Vec<u64>);

/// How likely each node is updated, in parts of [`UNREST`].
pub(super) struct Updates {
    likely: Vec<u64>,
    /// What sending a byte now costs, in the bytes times unrest that drafts are compared by.
    price_of_now: u64,
}

impl Updates {
    pub(super) fn new(graph: &Graph<'_>) -> Self {
        let users = |node| reachable(&graph.users, &[node]).iter().filter(|user| **user).count();
        let likely: Vec<_> = (0..graph.infos.len()).map(|node| UNREST / users(node) as u64).collect();
        let price_of_now = likely.iter().sum::<u64>() / HORIZON;
        Self { likely, price_of_now }
    }

    /// The unrest that comes from the nodes of `words`.
    fn of(&self, words: impl Iterator<Item = u64>) -> u64 {
        let mut sum = 0;
        for (first, mut word) in (0..).step_by(64).zip(words) {
            while word != 0 {
                sum += self.likely[first + word.trailing_zeros() as usize];
                word &= word - 1;
            }
        }
        sum
    }

    fn shared(&self, one: &Draft, other: &Draft) -> u64 {
        self.of(one.needs.0.iter().zip(&other.needs.0).map(|(one, other)| one & other))
    }

    fn sent_now(&self, one: &Draft, other: &Draft) -> u128 {
        let sent = |draft: &Draft| if draft.published { draft.size } else { 0 };
        bytes_times(sent(one) + sent(other), self.price_of_now)
    }
}

impl Draft {
    /// A layer of `nodes`; `published` if the registry has it already.
    pub(super) fn new(graph: &Graph<'_>, updates: &Updates, nodes: Vec<usize>, published: bool) -> Self {
        let needs = Needs::new(&reachable(&graph.uses, &nodes));
        Self {
            unrest: updates.of(needs.0.iter().copied()),
            size: nodes.iter().map(|&node| graph.infos[node].nar_size).sum(),
            nodes,
            needs,
            published,
        }
    }

    /// What it costs more to have both in one layer whose unrest is `unrest`.
    fn cost_with(&self, other: &Self, unrest: u64) -> u128 {
        bytes_times(self.size, unrest - self.unrest) + bytes_times(other.size, unrest - other.unrest)
    }

    fn merged_with(mut self, other: Self, updates: &Updates) -> Self {
        self.nodes.extend(other.nodes);
        for (word, more) in self.needs.0.iter_mut().zip(other.needs.0) {
            *word |= more;
        }
        self.unrest = updates.of(self.needs.0.iter().copied());
        self.size += other.size;
        self.published = false;
        self
    }
}

impl Needs {
    fn new(needed: &[bool]) -> Self {
        let word = |bits: &[bool]| bits.iter().rev().fold(0, |word, &bit| word << 1 | u64::from(bit));
        Self(needed.chunks(64).map(word).collect())
    }
}

fn bytes_times(bytes: u64, unrest: u64) -> u128 {
    u128::from(bytes) * u128::from(unrest)
}

/// The nodes of each layer, once so many drafts have merged that there are at most `available`.
pub(super) fn groups(drafts: Vec<Draft>, available: usize, updates: &Updates) -> Vec<Vec<usize>> {
    let mut left = drafts.len();
    let mut drafts: Vec<_> = drafts.into_iter().map(Some).collect();

    // Each draft waits with the cheapest of those before it. If that one is gone, what the draft waits
    // with costs no less: it looks again only when its turn comes.
    let mut waiting = BinaryHeap::new();
    if left > available {
        waiting.extend((0..left).filter_map(|place| cheapest_before(&drafts, place, updates)).map(Reverse));
    }
    while left > available
        && let Some(Reverse((_, place, partner))) = waiting.pop()
    {
        if drafts[place].is_none() {
            continue;
        }
        let place = match drafts[partner].take() {
            None => place,
            Some(partner) => {
                let draft = drafts[place].take();
                drafts.push(draft.map(|draft| draft.merged_with(partner, updates)));
                left -= 1;
                drafts.len() - 1
            }
        };
        waiting.extend(cheapest_before(&drafts, place, updates).map(Reverse));
    }
    drafts.into_iter().flatten().map(|draft| draft.nodes).collect()
}

/// The draft before `place` that the one there merges with at the least cost: the cost, `place`, its place.
fn cheapest_before(
    drafts: &[Option<Draft>],
    place: usize,
    updates: &Updates,
) -> Option<(u128, usize, usize)> {
    let draft = drafts[place].as_ref()?;
    let mut best: Option<(u128, usize, usize)> = None;
    for (partner, other) in drafts[..place].iter().enumerate() {
        let Some(other) = other else { continue };
        let now = updates.sent_now(draft, other);
        let worse = |cost| best.is_some_and(|(best, ..)| best <= cost);
        // The whole has at least the unrest of either: often enough to know without counting.
        if worse(now + draft.cost_with(other, draft.unrest.max(other.unrest))) {
            continue;
        }
        let unrest = draft.unrest + other.unrest - updates.shared(draft, other);
        let cost = now + draft.cost_with(other, unrest);
        if !worse(cost) {
            best = Some((cost, place, partner));
        }
    }
    best
}
