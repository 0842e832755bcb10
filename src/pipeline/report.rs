//! What became of an image and its layers, for people and for reports.

use std::fmt;

use super::Size;
use crate::oci::{Digest, Tag};

/// An image that is where it was to go.
#[derive(Clone, Debug)]
pub struct Published {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The tags that name it now.
    pub tags: Vec<Tag>,
    /// Those of them that named it already.
    pub unchanged: Vec<Tag>,
    /// What became of its layers, in order.
    pub layers: Vec<LayerReport>,
}

/// What became of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerReport {
    /// Its place in the image, from 1.
    pub number: usize,
    /// What is in it, in a few words.
    pub contents: String,
    /// Its size in the registry, in bytes.
    pub size: u64,
    /// Its size as a tar, in bytes.
    pub tar_size: u64,
    /// How it came there.
    pub fate: Fate,
    /// How many bytes were sent for it.
    pub sent: u64,
}

/// How a layer came to be at its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was there, and was not made.
    Reused,
    /// It was in another repository, and was not made.
    Mounted,
    /// It was made, and the destination turned out to have it.
    There,
    /// It was made and sent.
    New,
}

impl Fate {
    /// Whether the layer was made, and its store paths read.
    pub fn is_made(self) -> bool {
        matches!(self, Self::There | Self::New)
    }
}

/// What the layers of an image were made and sent for, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Layers that were made.
    pub made: Sum,
    /// Layers that were there, and were not made.
    pub reused: Sum,
    /// Layers that another repository had.
    pub mounted: Sum,
    /// Bytes that were sent.
    pub sent: u64,
}

/// Layers or store paths in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: usize,
    /// Their sizes together, in bytes.
    pub size: u64,
}

impl Totals {
    /// The totals of these layers.
    pub fn of(layers: &[LayerReport]) -> Self {
        let mut totals = Self::default();
        for layer in layers {
            let sum = match layer.fate {
                Fate::New | Fate::There => &mut totals.made,
                Fate::Reused => &mut totals.reused,
                Fate::Mounted => &mut totals.mounted,
            };
            sum.count += 1;
            sum.size += layer.size;
            totals.sent += layer.sent;
        }
        totals
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "layers: {} built, {} reused", self.made, self.reused)?;
        if self.mounted.count > 0 {
            write!(formatter, ", {} mounted", self.mounted)?;
        }
        write!(formatter, "; {} sent", Size(self.sent))
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.count, Size(self.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_tell_what_was_made_and_what_was_not() {
        let layer = |fate, size, sent| LayerReport {
            number: 1,
            contents: String::new(),
            size,
            tar_size: 2 * size,
            fate,
            sent,
        };
        let layers = [
            layer(Fate::New, 1000, 1000),
            layer(Fate::There, 500, 0),
            layer(Fate::Reused, 20_000, 0),
            layer(Fate::Reused, 10_000, 0),
        ];

        let said = "layers: 2 (1.5 kB) built, 2 (30.0 kB) reused; 1.0 kB sent";
        assert_eq!(Totals::of(&layers).to_string(), said);
        let mounted = [layers.as_slice(), &[layer(Fate::Mounted, 7, 0)]].concat();
        let said = "layers: 2 (1.5 kB) built, 2 (30.0 kB) reused, 1 (7 B) mounted; 1.0 kB sent";
        assert_eq!(Totals::of(&mounted).to_string(), said);
    }
}
