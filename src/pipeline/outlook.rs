//! What a push would do, before anything moves.

use std::fmt;

use super::earlier::Earlier;
use super::layer_set::LayerSet;
use super::reuse::Whereabouts;
use super::{BuildError, Event, Prepared, Reuse, Size, Sum, image};
use crate::layer::LayerDigests;
use crate::nix::StorePath;
use crate::oci::Tag;
use crate::publish::Destination;
use crate::record::Record;

/// What a push would do.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// The layers, the lowest first.
    pub layers: Vec<PlannedLayer>,
    /// Whether a tag that would be written names this image already.
    pub unchanged: bool,
}

/// What a push would do about one layer.
#[derive(Clone, Debug)]
pub struct PlannedLayer {
    /// Its place in the image, from 1.
    pub number: usize,
    /// What is in it, in a few words.
    pub contents: String,
    /// The store paths in it; none in the last.
    pub paths: Vec<StorePath>,
    /// The NAR sizes of these together, or the size of the tar that it is made of, in bytes.
    pub nar_size: u64,
    /// What would be done.
    pub decision: Decision,
    /// What came of it the last time, if somebody knows.
    pub known: Option<LayerDigests>,
}

/// What would be done about a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It would be made, and sent unless it is there by then.
    Build,
    /// It is there.
    Reuse,
    /// Another repository has it.
    Mount,
}

impl Decision {
    /// The decision in a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Reuse => "reuse",
            Self::Mount => "mount",
        }
    }
}

impl Outlook {
    /// The layers that would be made, with the NAR sizes of their store paths.
    pub fn build(&self) -> Sum {
        self.sum(|layer| (layer.decision == Decision::Build).then_some(layer.nar_size))
    }

    /// The layers that would not be made, with their sizes in the registry.
    pub fn reuse(&self) -> Sum {
        self.sum(|layer| layer.known.filter(|_| layer.decision != Decision::Build).map(|known| known.size))
    }

    /// About how many bytes would be sent, if the layers to be made compress like those that are known; none if
    /// none is known.
    pub fn estimated_upload(&self) -> Option<u64> {
        let known =
            |of: fn(&LayerDigests) -> u64| self.layers.iter().filter_map(|it| it.known.as_ref()).map(of);
        let (packed, unpacked) =
            (known(|it| it.size).sum::<u64>(), known(|it| it.uncompressed_size).sum::<u64>());
        (unpacked > 0).then(|| (self.build().size as f64 * packed as f64 / unpacked as f64) as u64)
    }

    fn sum(&self, size: impl Fn(&PlannedLayer) -> Option<u64>) -> Sum {
        let mut sum = Sum::default();
        for size in self.layers.iter().filter_map(size) {
            sum.count += 1;
            sum.size += size;
        }
        sum
    }
}

impl fmt::Display for Outlook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (build, reuse) = (self.build(), self.reuse());
        write!(formatter, "layers: {} to build ({} unpacked", build.count, Size(build.size))?;
        if let Some(upload) = self.estimated_upload().filter(|_| build.count > 0) {
            write!(formatter, ", about {} to send", Size(upload))?;
        }
        write!(formatter, "), {} to reuse ({})", reuse.count, Size(reuse.size))?;
        if self.unchanged { formatter.write_str("; the tag names this image already") } else { Ok(()) }
    }
}

impl fmt::Display for PlannedLayer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = match self.decision {
            Decision::Build => self.nar_size,
            Decision::Reuse | Decision::Mount => self.known.map_or(0, |known| known.size),
        };
        let (size, word) = (Size(size).to_string(), self.decision.word());
        write!(formatter, "layer {:>3}  {size:>9}  {word:<6}  {}", self.number, self.contents)
    }
}

pub(super) async fn outlook(
    prepared: &Prepared<'_>,
    against: Option<(&Destination, &[Tag])>,
    reuse: &Reuse,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Outlook, BuildError> {
    let (destination, tags) = against.unzip();
    let mut earlier = Earlier::new(destination, tags.unwrap_or_default(), reuse, on_event);
    let layers = LayerSet::plan(prepared, prepared.compression, &mut earlier).await?;
    let planned = (1..=layers.len()).map(|number| {
        let record = layers.record(number);
        let material = layers.material(number);
        PlannedLayer {
            number,
            contents: material.summary(),
            nar_size: material.size(prepared.recipe.closure()),
            paths: material.paths().to_vec(),
            decision: match record {
                Some((_, Whereabouts::Present)) => Decision::Reuse,
                // To mount a blob is to move it, so whether that works is not tried.
                Some((_, Whereabouts::Elsewhere(_))) => Decision::Mount,
                Some((_, Whereabouts::Gone | Whereabouts::Unknown)) | None => Decision::Build,
            },
            known: record.map(|(record, _)| record.layer),
        }
    });
    let planned: Vec<PlannedLayer> = planned.collect();
    let record = |number| Some(layers.record(number)?.0);
    let records: Option<Vec<Record>> = (1..=layers.len()).map(record).collect();
    let image = records.map(|records| image::assemble(prepared, &layers, &records, None, None));
    let unchanged = image.is_some_and(|image| earlier.same_image(image.manifest_bytes()).is_some());
    Ok(Outlook { layers: planned, unchanged })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn layer(number: usize, nar_size: u64, decision: Decision, known: Option<(u64, u64)>) -> PlannedLayer {
        let digest = Digest::of(b"");
        let known = known.map(|(size, uncompressed_size)| LayerDigests {
            diff_id: digest.to_string().parse().unwrap(),
            digest,
            size,
            uncompressed_size,
        });
        PlannedLayer { number, contents: "a".to_owned(), paths: Vec::new(), nar_size, decision, known }
    }

    #[test]
    fn a_plan_says_what_it_costs() {
        let mut outlook = Outlook {
            layers: vec![
                layer(1, 9_000_000, Decision::Reuse, Some((3_000_000, 9_000_000))),
                layer(2, 6_000_000, Decision::Build, None),
                layer(3, 300, Decision::Mount, Some((1_000_000, 3_000_000))),
            ],
            unchanged: false,
        };

        assert_eq!(
            outlook.to_string(),
            "layers: 1 to build (6.0 MB unpacked, about 2.0 MB to send), 2 to reuse (4.0 MB)"
        );
        assert_eq!(outlook.layers[1].to_string(), "layer   2     6.0 MB  build   a");
        assert_eq!(outlook.layers[2].to_string(), "layer   3     1.0 MB  mount   a");
        outlook.layers.remove(1);
        outlook.unchanged = true;
        assert_eq!(
            outlook.to_string(),
            "layers: 0 to build (0 B unpacked), 2 to reuse (4.0 MB); the tag names this image already"
        );
    }
}
