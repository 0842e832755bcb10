//! Many pushes, of whose requests every tenth meets a fault.

use std::time::Instant;

use bytes::Bytes;

use crate::fault_proxy::{FaultProxy, Kind};
use crate::push::{Behind, Cargo, TagWatch, manifest_of};
use crate::request::{Seen, Site};
use crate::support::{
    BUDGET, CHUNK, SplitMix64, bytes, chain, destination, hurried, in_parallel, settings, simulated,
};

/// Repositories, each with a tag that moves from image to image.
const REPOSITORIES: usize = 10;
/// Images for each.
const PUSHES: usize = 20;

const KINDS: [Kind; 12] = [
    Kind::Fin,
    Kind::Rst,
    Kind::FinInside,
    Kind::RstInside,
    Kind::AnswerLost,
    Kind::Hang,
    Kind::Says(408),
    Kind::Says(429),
    Kind::Says(500),
    Kind::Says(502),
    Kind::Says(503),
    Kind::Says(504),
];

/// What the schedule of `seed` has for a request.
fn scheduled(seed: u64, seen: &Seen) -> Option<Kind> {
    let mut numbers = SplitMix64(seed << 32 | seen.number as u64);
    let hit = numbers.below(10) == 0 && seen.site != Site::Other;
    hit.then(|| KINDS[numbers.below(KINDS.len())].clone())
}

#[test]
fn of_many_pushes_all_arrive_and_no_tag_is_early() {
    let started = Instant::now();
    let registry = Behind::Simulated(simulated(settings()));
    let faults = std::sync::atomic::AtomicUsize::new(0);

    let wrong = in_parallel(REPOSITORIES, (0..REPOSITORIES).collect(), |number| {
        let repository = format!("team/app{number}");
        let mut before: Vec<Bytes> = Vec::new();
        for push in 0..PUSHES {
            let seed = (number * PUSHES + push) as u64;
            let cargo = Cargo::of(vec![bytes(2 * CHUNK + 5, seed), bytes(1000, !seed)]);
            let now = manifest_of(&cargo);
            let watch = TagWatch::default();
            let proxy = FaultProxy::start(registry.address(), move |seen| scheduled(seed, seen), {
                let (registry, repository, watch) = (registry.clone(), repository.clone(), watch.clone());
                let allowed: Vec<_> = before.iter().cloned().chain([now.clone()]).collect();
                move |_| watch.look(&registry, &repository, &allowed)
            });
            let destination = destination(&proxy.address().to_string(), &repository, hurried(BUDGET));

            let pushed = cargo.push(&destination);

            let published = pushed.map_err(|error| format!("push {seed}: {}", chain(&error)))?;
            if published.digest != cargo.image.digest() {
                return Err(format!("push {seed} gave {}", published.digest));
            }
            registry.holds(&repository, &cargo).map_err(|error| format!("push {seed}: {error}"))?;
            if let [first, ..] = watch.violations().as_slice() {
                return Err(format!("push {seed}: {first}"));
            }
            let met = proxy.log().iter().filter(|seen| seen.faulted).count();
            faults.fetch_add(met, std::sync::atomic::Ordering::SeqCst);
            before = vec![now];
        }
        Ok(())
    });

    let faults = faults.into_inner();
    println!("{faults} faults in {:.1} s", started.elapsed().as_secs_f32());
    assert_eq!(wrong, [""; 0]);
    assert!(faults > REPOSITORIES * PUSHES, "{faults} faults");
}
