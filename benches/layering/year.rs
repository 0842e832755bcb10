//! A year of updates, and an image pushed after each.
//!
//! * Each of the 52 weeks has 1 to 5 updates, evenly. An update gives one package a new version, and all
//!   that need it, however indirectly, are built anew: they have new paths of the same size.
//! * Which package it is, is drawn in inverse proportion to the number of those that need it, the package
//!   itself included: what much rests on is seldom touched, and then for many reasons at once. (`stable`
//!   supposes the same, so there are also years in which every package is drawn with equal chance.)
//! * That is the other case: once a quarter, in its middle, everything is built anew.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::{Duration, Instant};

use nixlayer::nix::{Closure, StorePath};

use super::packages::Packages;
use super::random::Random;
use super::strategy::Strategy;

const WEEKS: usize = 52;
const QUARTER: usize = 13;

#[derive(Clone, Copy, Default)]
pub(super) struct Transfer {
    pub(super) sent: f64,
    ideal: f64,
}

#[derive(Clone, Default)]
pub(super) struct Costs {
    /// Pushes after an update of one package, rebuilds of everything not counted.
    pub(super) updates: Transfer,
    /// Those of the updates that changed a single path.
    pub(super) leaves: Transfer,
    /// Those of them that came after the first rebuild.
    pub(super) settled: Transfer,
    rebuilds: Transfer,
    /// Pulls at the end of each week.
    pub(super) pull: Transfer,
    /// The longest time that a plan took.
    pub(super) slowest: Duration,
    layers: usize,
    pushes: usize,
}

/// Which packages the updates are of.
#[derive(Clone, Copy)]
pub(super) enum Habit {
    /// In inverse proportion to the number of those that need it.
    LeavesMostly,
    /// All with equal chance, the C library as often as an application.
    Evenly,
}

impl Transfer {
    pub(super) fn ratio(self) -> f64 {
        self.sent / self.ideal
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.ideal += other.ideal;
    }
}

impl Costs {
    pub(super) fn push(&self) -> Transfer {
        let mut push = self.updates;
        push.add(self.rebuilds);
        push
    }

    pub(super) fn layers(&self) -> f64 {
        self.layers as f64 / self.pushes as f64
    }
}

#[derive(Clone)]
struct Image {
    closure: Closure,
    layers: Vec<Vec<StorePath>>,
    planned_in: Duration,
}

impl Image {
    /// The layers that somebody who has `old` lacks.
    fn new_layers<'a>(&'a self, old: &Image) -> Vec<&'a Vec<StorePath>> {
        let old: BTreeSet<_> = old.layers.iter().collect();
        self.layers.iter().filter(|layer| !old.contains(layer)).collect()
    }

    fn transfer_to_owner_of(&self, old: &Image) -> Transfer {
        let size = |path| self.closure.get(path).map_or(0, |info| info.nar_size) as f64;
        Transfer {
            sent: self.new_layers(old).into_iter().flatten().map(size).sum(),
            ideal: self.closure.paths().filter(|path| old.closure.get(path).is_none()).map(size).sum(),
        }
    }
}

pub(super) fn simulate(
    mut packages: Packages,
    habit: Habit,
    strategy: Strategy,
    random: &mut Random,
) -> Result<Costs, Box<dyn Error>> {
    let dependents = packages.dependents();
    let likely = |dependents: &BTreeSet<_>| match habit {
        Habit::LeavesMostly => 1.0 / dependents.len() as f64,
        Habit::Evenly => 1.0,
    };
    let likely: Vec<_> = dependents.iter().map(likely).collect();
    let mut by_popularity: Vec<_> = (0..packages.len()).collect();
    by_popularity.sort_by_key(|&package| usize::MAX - dependents[package].len());
    let image = |packages: &Packages, previous: &[Vec<StorePath>]| -> Result<Image, Box<dyn Error>> {
        let (closure, paths) = (packages.closure()?, packages.paths()?);
        let popular: Vec<_> = by_popularity.iter().map(|&package| &paths[package]).collect();
        let start = Instant::now();
        let layers = strategy.layers(&closure, &popular, previous);
        Ok(Image { closure, layers, planned_in: start.elapsed() })
    };
    let everything: BTreeSet<_> = (0..packages.len()).collect();
    for &package in &everything {
        packages.rebuild(package, random);
    }

    let mut costs = Costs::default();
    let mut published = image(&packages, &[])?;
    let mut pulled = published.clone();
    for week in 0..WEEKS {
        let rebuild = (week % QUARTER == QUARTER / 2).then_some(None);
        let updates = (0..1 + random.below(5)).map(|_| Some(random.weighted(&likely))).collect::<Vec<_>>();
        for updated in rebuild.into_iter().chain(updates) {
            let changed = updated.map_or(&everything, |package| &dependents[package]);
            if let Some(package) = updated {
                packages.update(package, random);
            }
            for &package in changed {
                packages.rebuild(package, random);
            }

            let next = image(&packages, &published.layers)?;
            let push = next.transfer_to_owner_of(&published);
            if updated.is_some() {
                costs.updates.add(push);
                costs.layers += next.new_layers(&published).len();
                costs.pushes += 1;
            } else {
                costs.rebuilds.add(push);
            }
            if changed.len() == 1 {
                costs.leaves.add(push);
                if week > QUARTER / 2 {
                    costs.settled.add(push);
                }
            }
            costs.slowest = costs.slowest.max(next.planned_in);
            published = next;
        }
        costs.pull.add(published.transfer_to_owner_of(&pulled));
        pulled = published.clone();
    }
    Ok(costs)
}
