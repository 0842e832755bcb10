//! The ways to plan the layers of an image.

use std::fmt;

use nixlayer::layer::{LayerBudget, LayerPlan};
use nixlayer::nix::{Closure, StorePath};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Strategy {
    /// nixpkgs' default until 25.05, but by the number of users: the paths that most others need have a
    /// layer each, the rest share the last one.
    Popularity,
    /// nixpkgs' default since then.
    Auto,
    /// Ours, which looks at the image before.
    Stable,
}

impl Strategy {
    /// The layers of an image of `closure`, where `popular` has its paths, the most needed first.
    pub(super) fn layers(
        self,
        closure: &Closure,
        popular: &[&StorePath],
        previous: &[Vec<StorePath>],
    ) -> Vec<Vec<StorePath>> {
        let budget = LayerBudget::default();
        match self {
            Self::Auto => LayerPlan::auto(closure, budget).layers().to_vec(),
            Self::Stable => LayerPlan::stable(closure, budget, previous).layers().to_vec(),
            Self::Popularity => {
                let (alone, rest) = popular.split_at(popular.len().min(98));
                let rest = (!rest.is_empty()).then(|| rest.iter().map(|path| (*path).clone()).collect());
                alone.iter().map(|path| vec![(*path).clone()]).chain(rest).collect()
            }
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Popularity => "popularity",
            Self::Auto => "auto",
            Self::Stable => "stable",
        })
    }
}
