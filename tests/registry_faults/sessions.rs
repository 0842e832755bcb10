//! Uploads that are cut, and registries that resume them or do not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nixlayer::oci::Digest;
use nixlayer::publish::{Destination, PublishError, Refusal};
use nixlayer::simulate::registry::{CutBody, Locations, Registry, RegistrySettings, Resume};

use crate::fault_proxy::{FaultProxy, Kind};
use crate::push::{Behind, put_one_blob};
use crate::real::real_registry;
use crate::request::{Seen, Site};
use crate::support::{
    BUDGET, CHUNK, SplitMix64, bytes, chain, destination, in_parallel, settings, simulated, unhurried,
};

const REPOSITORY: &str = "team/app";

/// More than four chunks, the last of three bytes.
const SIZE: usize = 4 * CHUNK + 3;

/// A registry in this process behind a proxy, and the way there.
fn behind_proxy(
    settings: RegistrySettings,
    decide: impl Fn(&Seen) -> Option<Kind> + Send + Sync + 'static,
) -> (Arc<Registry>, FaultProxy, Destination) {
    let registry = simulated(settings);
    let proxy = FaultProxy::start(registry.address(), decide, |_| {});
    let destination = destination(&proxy.address().to_string(), REPOSITORY, unhurried(BUDGET));
    (registry, proxy, destination)
}

fn brings_bytes(seen: &Seen) -> bool {
    matches!(seen.site, Site::Patch | Site::Whole | Site::Close) && seen.length > 0
}

/// Cuts the request number `request` of those that bring bytes of a blob, after `length` of them.
fn cut_at(request: usize, length: usize) -> impl Fn(&Seen) -> Option<Kind> + Send + Sync + 'static {
    let count = AtomicUsize::new(0);
    move |seen| {
        let is_it = brings_bytes(seen) && count.fetch_add(1, Ordering::SeqCst) == request;
        is_it.then_some(Kind::FinAfter(length))
    }
}

/// Cuts `count` times, always the chunk number `chunk` of a session, in its middle.
fn cut_sessions(chunk: usize, count: usize) -> impl Fn(&Seen) -> Option<Kind> + Send + Sync + 'static {
    let sessions = Mutex::new((BTreeMap::<String, usize>::new(), count));
    move |seen| {
        let mut sessions = sessions.lock().unwrap();
        let (chunks, left) = &mut *sessions;
        if seen.site != Site::Patch {
            return None;
        }
        let session = seen.path.split('?').next().unwrap_or_default();
        let chunks = chunks.entry(session.to_owned()).or_default();
        *chunks += 1;
        let cut = *chunks == chunk + 1 && *left > 0;
        *left -= usize::from(cut);
        cut.then_some(Kind::FinInside)
    }
}

/// Around every border of a chunk, and at some places between: the chunk, and how many bytes of it arrive.
fn cuts(between: usize) -> Vec<(usize, usize)> {
    let mut numbers = SplitMix64(4711);
    let lengths = (0..=SIZE / CHUNK).map(|chunk| (chunk, CHUNK.min(SIZE - chunk * CHUNK)));
    lengths
        .flat_map(|(chunk, length)| {
            let near = [0, 1, length - 1, length];
            let between: Vec<_> = (0..between).map(|_| numbers.below(length)).collect();
            near.into_iter().chain(between).map(move |at| (chunk, at))
        })
        .collect()
}

#[test]
fn a_cut_at_any_byte_costs_at_most_one_chunk() {
    let cases = cuts(8).into_iter().flat_map(|cut| [CutBody::Kept, CutBody::Dropped].map(|kept| (cut, kept)));

    let wrong = in_parallel(8, cases.collect(), |((chunk, at), kept)| {
        let content = bytes(SIZE, (chunk * CHUNK + at) as u64);
        let (registry, proxy, destination) = behind_proxy(settings().cut_body(kept), cut_at(chunk, at));
        let name = format!("{at:5} bytes of chunk {chunk}, {kept:?}");

        let stored = put_one_blob(&destination, &content);

        let stored = stored.map_err(|error| format!("{name}: {}", chain(&error)))?;
        let sent: usize = proxy.log().iter().filter(|seen| brings_bytes(seen)).map(|seen| seen.length).sum();
        let right = registry.blob(REPOSITORY, &stored.digest).as_ref() == Some(&content);
        let cut = proxy.log().iter().filter(|seen| seen.faulted).count();
        // `0-0` is what a session says that has one byte, and one that has none: then a second try is fair.
        let unclear = chunk == 0 && (at <= 1 || kept == CutBody::Dropped);
        let most = if unclear { 2 * CHUNK } else { CHUNK };
        if right && cut == 1 && sent <= SIZE + most {
            Ok(())
        } else {
            Err(format!("{name}: {cut} cuts, sent {sent} of {SIZE}, right: {right}"))
        }
    });

    assert_eq!(wrong, [""; 0]);
}

#[test]
fn a_cut_at_any_byte_is_survived_on_a_real_registry() {
    let registry = real_registry();
    let address = registry.address().parse().unwrap();

    let wrong = in_parallel(8, cuts(2), |(chunk, at)| {
        let content = bytes(SIZE, (chunk * CHUNK + at) as u64);
        let proxy = FaultProxy::start(address, cut_at(chunk, at), |_| {});
        let destination = destination(&proxy.address().to_string(), REPOSITORY, unhurried(BUDGET));
        let name = format!("{at:5} bytes of chunk {chunk}");

        let stored = put_one_blob(&destination, &content);

        let stored = stored.map_err(|error| format!("{name}: {}", chain(&error)))?;
        match Behind::Real(address).blob(REPOSITORY, &stored.digest) {
            Some(found) if found == content => Ok(()),
            _ => Err(format!("{name}: the blob is wrong")),
        }
    });

    drop(registry);
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn each_refused_resume_opens_one_new_session() {
    let rules = [Resume::Unknown, Resume::Invalid, Resume::Stale];
    let cases = rules.into_iter().flat_map(|rule| [(1, 1), (2, 1), (2, 3)].map(|cut| (rule, cut)));

    let wrong = in_parallel(9, cases.collect(), |(rule, (chunk, times))| {
        let content = bytes(SIZE, (chunk + times) as u64);
        let (registry, proxy, destination) =
            behind_proxy(settings().resume(rule), cut_sessions(chunk, times));
        let name = format!("{rule:?} at chunk {chunk}, {times} times");

        let stored = put_one_blob(&destination, &content);

        let stored = stored.map_err(|error| format!("{name}: {}", chain(&error)))?;
        let right = registry.blob(REPOSITORY, &stored.digest).as_ref() == Some(&content);
        let (cut, sessions) = (proxy.faults(Site::Patch), proxy.count(Site::Post));
        if right && (cut, sessions) == (times, times + 1) {
            Ok(())
        } else {
            Err(format!("{name}: {cut} cuts, {sessions} sessions, right: {right}"))
        }
    });

    assert_eq!(wrong, [""; 0]);
}

/// The registry resumes, so asking it where the upload stands is enough; a new session would be as well.
#[test]
fn a_range_that_is_refused_is_looked_up() {
    let count = AtomicUsize::new(0);
    let (registry, proxy, destination) = behind_proxy(settings(), move |seen| {
        let is_it = seen.site == Site::Patch && count.fetch_add(1, Ordering::SeqCst) == 2;
        is_it.then_some(Kind::Says(416))
    });
    let content = bytes(SIZE, 416);

    let stored = put_one_blob(&destination, &content).unwrap();

    assert_eq!(registry.blob(REPOSITORY, &stored.digest), Some(content));
    assert_eq!(proxy.faults(Site::Patch), 1);
    assert!(proxy.count(Site::Post) <= 2);
}

#[test]
fn chunks_are_long_enough_for_the_registry_after_a_cut_as_well() {
    let size = 7 * CHUNK + 5;
    let cases = (0..3).flat_map(|chunk| [0, 1, CHUNK, 2 * CHUNK - 1].map(|at| (chunk, at)));

    let wrong = in_parallel(8, cases.collect(), |(chunk, at)| {
        let content = bytes(size, (chunk + at) as u64);
        let (registry, _proxy, destination) =
            behind_proxy(settings().chunk_min_length(3 * CHUNK), cut_at(chunk, at));
        let name = format!("{at:5} bytes of chunk {chunk}");

        let stored = put_one_blob(&destination, &content);

        let stored = stored.map_err(|error| format!("{name}: {}", chain(&error)))?;
        let right = registry.blob(REPOSITORY, &stored.digest).as_ref() == Some(&content);
        // What broke off has no length.
        let refused = registry.log().iter().filter(|it| it.status == 400 && it.body > 0).count();
        if right && refused == 0 { Ok(()) } else { Err(format!("{name}: {refused} refused, right: {right}")) }
    });

    assert_eq!(wrong, [""; 0]);
}

#[test]
fn uploads_go_on_where_the_registry_says_in_either_form() {
    for locations in [Locations::Relative, Locations::Absolute] {
        let content = bytes(SIZE, 1);
        let (registry, proxy, destination) = behind_proxy(settings().locations(locations), cut_at(2, 100));

        let stored = put_one_blob(&destination, &content).unwrap();

        assert_eq!(registry.blob(REPOSITORY, &stored.digest), Some(content), "{locations:?}");
        assert_eq!(proxy.count(Site::Post), 1, "{locations:?}");
        assert!(registry.log().len() <= proxy.log().len(), "{locations:?}: the proxy was left");
    }
}

/// Changes a byte of the first `count` uploads.
fn altering(count: usize) -> impl Fn(&Seen) -> Option<Kind> + Send + Sync + 'static {
    let (uploads, altered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    move |seen| {
        if seen.site == Site::Post {
            uploads.fetch_add(1, Ordering::SeqCst);
        }
        // One request of each upload.
        let upload = uploads.load(Ordering::SeqCst);
        let is_it = brings_bytes(seen) && upload <= count && altered.swap(upload, Ordering::SeqCst) < upload;
        is_it.then_some(Kind::Altered)
    }
}

#[test]
fn bytes_that_change_on_the_way_are_sent_again_once() {
    for size in [100, SIZE] {
        let content = bytes(size, 2);
        let (registry, proxy, destination) = behind_proxy(settings(), altering(1));

        let stored = put_one_blob(&destination, &content).unwrap();

        assert_eq!(stored.digest, Digest::of(&content));
        assert_eq!(registry.blob(REPOSITORY, &stored.digest), Some(content), "{size} bytes");
        assert_eq!(proxy.count(Site::Post), 2, "{size} bytes");
    }
}

#[test]
fn bytes_that_change_on_the_way_twice_end_the_push() {
    for size in [100, SIZE] {
        let content = bytes(size, 2);
        let (registry, proxy, destination) = behind_proxy(settings(), altering(2));

        let error = put_one_blob(&destination, &content).unwrap_err();

        let PublishError::Refused { answer, .. } = &error else { panic!("{error:?}") };
        assert_eq!(answer.refusal(), Refusal::Content, "{size} bytes");
        assert_eq!(registry.blob(REPOSITORY, &Digest::of(&content)), None, "{size} bytes");
        assert_eq!(proxy.count(Site::Post), 2, "{size} bytes");
    }
}
