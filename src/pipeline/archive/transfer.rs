//! What becomes of the layers that pass by: some are there already, the others are sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::decision::{Decision, Lookup};
use super::leaving::{Failed, send};
use super::media_type_of;
use super::reading::{Arrival, Order, Passed, Reading, Travel};
use crate::layer::{Compression, LayerDigests, LayerKey, Workers};
use crate::pipeline::earlier::Earlier;
use crate::pipeline::event::Patience;
use crate::pipeline::reuse::KnownLayers;
use crate::pipeline::{BuildError, Effort, Event, Fate, LayerReport, blocking};
use crate::publish::{Blob, Destination, PublishError};
use crate::record::Record;
use crate::source::archive::{ArchiveFault, MemberName};

/// The layers of an archive on their way to a destination.
pub(super) struct Transfer<'a, 'e> {
    destination: &'a Destination,
    earlier: &'a mut Earlier<'e>,
    effort: Effort,
    compression: Compression,
    /// Whether the registry has lost what its images name.
    lost: bool,
    workers: Workers,
    slots: Arc<Semaphore>,
    under_way: JoinSet<Result<Done, BuildError>>,
    arrived: usize,
    sent: BTreeMap<MemberName, Sent>,
}

/// A layer that is where it was to go.
pub(super) struct Sent {
    pub(super) layer: LayerDigests,
    pub(super) media_type: &'static str,
    pub(super) report: LayerReport,
    /// Whether it was compressed on the way, or would have been.
    key: Option<LayerKey>,
}

struct Done {
    number: usize,
    member: MemberName,
    travel: Travel,
    layer: LayerDigests,
    fate: Fate,
    sent: u64,
    /// What it is to be compared with.
    known: KnownLayers,
}

impl Sent {
    /// What spares others to make the layer.
    pub(super) fn record(&self) -> Option<Record> {
        self.key.map(|key| Record { key, layer: self.layer })
    }
}

impl<'a, 'e> Transfer<'a, 'e> {
    pub(super) fn new(
        destination: &'a Destination,
        earlier: &'a mut Earlier<'e>,
        effort: Effort,
        compression: Compression,
        lost: bool,
    ) -> Self {
        Self {
            destination,
            earlier,
            effort,
            compression,
            lost,
            workers: Workers::new(effort.threads.get()),
            slots: Arc::new(Semaphore::new(effort.uploads.get())),
            under_way: JoinSet::new(),
            arrived: 0,
            sent: BTreeMap::new(),
        }
    }

    /// Threads that compress.
    pub(super) fn workers(&self) -> Workers {
        self.workers.clone()
    }

    /// Goes through the archive. At the end, all layers that are wanted are there.
    pub(super) async fn run(
        mut self,
        reading: Reading,
    ) -> Result<(Passed, BTreeMap<MemberName, Sent>), BuildError> {
        let (sender, mut arrivals) = mpsc::channel(1);
        let thread = {
            let (reading, sender) = (reading.clone(), sender.clone());
            tokio::task::spawn_blocking(move || reading.run(&sender))
        };
        tokio::pin!(thread);
        let mut patience = Patience::new();
        let mut passed = None;
        while passed.is_none() || !self.under_way.is_empty() {
            tokio::select! {
                Some(arrival) = arrivals.recv() => {
                    let place = match &reading.wanted {
                        Some(wanted) => wanted.place(&arrival.member),
                        // Of a stream, the place in it is all that is known.
                        None => Some(self.arrived + 1),
                    };
                    match place {
                        Some(number) => {
                            self.arrived += 1;
                            let (event, on_event) = (self.progress(&reading), self.earlier.on_event());
                            let take = self.take(number, arrival, &reading, &sender);
                            patience.during(take, event, on_event).await?;
                        }
                        None => drop(arrival.order.send(Order::PassOver)),
                    }
                }
                Some(done) = self.under_way.join_next() => {
                    match done.map_err(|_| BuildError::Thread)? {
                        Ok(done) => self.finish(done).await?,
                        // The thread may know why. It may also wait for an order, which would never come.
                        Err(error @ BuildError::Publish(PublishError::ProducerGone)) if passed.is_none() => {
                            drop(arrivals);
                            return Err(match thread.await.map_err(|_| BuildError::Thread)? {
                                Err(why) if !matches!(*why.fault, ArchiveFault::Sink(_)) => why.into(),
                                Err(_) | Ok(_) => error,
                            });
                        }
                        Err(error) => return Err(error),
                    }
                    patience.reset();
                }
                read = &mut thread, if passed.is_none() => {
                    passed = Some(read.map_err(|_| BuildError::Thread)??);
                }
                () = patience.end() => (self.earlier.on_event())(self.progress(&reading)),
            }
        }
        Ok((passed.ok_or(BuildError::Thread)?, self.sent))
    }

    fn progress(&self, reading: &Reading) -> Event {
        let layers = reading.wanted.as_ref().map(|wanted| wanted.layers());
        Event::UnderWay { done: self.sent.len(), layers }
    }

    /// Decides what to do with a layer, and has it done.
    async fn take(
        &mut self,
        number: usize,
        arrival: Arrival,
        reading: &Reading,
        sender: &mpsc::Sender<Arrival>,
    ) -> Result<(), BuildError> {
        let mut lookup = Lookup {
            destination: self.destination,
            earlier: self.earlier,
            compression: self.compression,
            lost: self.lost,
            lasting: reading.source.is_lasting(),
        };
        let decision = lookup.decide(&arrival).await?;
        let Arrival { member, travel, order, digests, .. } = arrival;
        let (destination, chunk) = (self.destination.clone(), self.effort.chunk);
        let (reading, sender, slots) = (reading.clone(), sender.clone(), Arc::clone(&self.slots));
        self.under_way.spawn(async move {
            let again = |failed: Failed| reading.blob_again(&member, travel, &sender, chunk, failed);
            let digests = async { digests.await.map_err(|_| PublishError::ProducerGone) };
            let slot = async { slots.acquire().await.map_err(|_| BuildError::Thread) };
            let there = |member, layer, fate| {
                Ok(Done { number, member, travel, layer, fate, sent: 0, known: KnownLayers::default() })
            };
            // The thread that asked waits for the order, or its error is at hand.
            let (layer, stored, known) = match decision {
                Decision::There { fate, layer } => {
                    let _ = order.send(Order::Check);
                    digests.await?;
                    return there(member, layer, fate);
                }
                Decision::Likely(blobs) => {
                    let _ = order.send(Order::Check);
                    let layer = digests.await?;
                    if blobs.contains(&layer.digest) {
                        return there(member, layer, Fate::Reused);
                    }
                    let _slot = slot.await?;
                    (layer, send(&destination, None, None, again).await?, KnownLayers::default())
                }
                Decision::Send { open, known } => {
                    let _slot = slot.await?;
                    let (writer, blob) = Blob::channel(chunk);
                    let _ = order.send(Order::Send(writer));
                    let stored = send(&destination, open, Some(blob), again).await?;
                    (digests.await?, stored, known)
                }
            };
            if stored.digest != layer.digest {
                return Err(reading.source.error(ArchiveFault::Changed(member)).into());
            }
            let fate = if stored.reused { Fate::There } else { Fate::New };
            Ok(Done { number, member, travel, layer, fate, sent: stored.sent, known })
        });
        Ok(())
    }

    /// Takes note of a layer that is there.
    async fn finish(&mut self, done: Done) -> Result<(), BuildError> {
        let Done { number, member, travel, layer, fate, sent, known } = done;
        let (key, media_type) = match travel {
            Travel::Compressed { .. } => {
                let key = LayerKey::of_tar(&self.compression.id(), &layer.diff_id);
                (Some(key), self.compression.media_type())
            }
            Travel::AsItIs { compression, .. } => (None, media_type_of(compression)),
        };
        let report = LayerReport {
            number,
            contents: short(&member),
            size: layer.size,
            tar_size: layer.uncompressed_size,
            fate,
            sent,
        };
        let done = Sent { layer, media_type, report, key };
        if let Some(record) = done.record().filter(|_| fate.is_made()) {
            if let Some(store) = self.earlier.reuse().store.clone()
                && let Err(error) = blocking(move || store.put(&record)).await?
            {
                self.earlier.say(format!("a layer record cannot be kept: {error}"));
            }
            if let Some((said, by)) = known.contradiction(&record) {
                return Err(BuildError::Unlike {
                    by: by.clone(),
                    of_commands: false,
                    recorded: said.layer.digest,
                    made: layer.digest,
                });
            }
        }
        (self.earlier.on_event())(Event::Layer(done.report.clone()));
        self.sent.insert(member, done);
        Ok(())
    }
}

/// A name for the log: of a digest, the beginning tells enough.
fn short(member: &MemberName) -> String {
    match member.hex() {
        Some(hex) => hex[..12].to_owned(),
        None => member.to_string(),
    }
}
