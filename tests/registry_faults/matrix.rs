//! Every fault at every step of a push, four times in a row.
//!
//! A row is a kind of fault, a column a step. Faults that do not belong to a step are in `outages.rs` and `tls.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nixlayer::http::HttpError;
use nixlayer::publish::PublishError;

use crate::fault_proxy::{FaultProxy, Kind};
use crate::push::{Behind, Cargo, TagWatch, manifest_of};
use crate::real::real_registry;
use crate::request::{Seen, Site};
use crate::support::{BUDGET, chain, destination, hurried, in_parallel, settings, simulated};

/// How often a fault comes in a row.
const TIMES: usize = 4;

/// How many cells run at a time: they wait most of the time.
const THREADS: usize = 16;

/// What a push makes of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    /// The image arrives.
    Survives,
    /// The push ends, and says that an answer was too long.
    TooLong,
    /// There is no such fault, for this reason.
    Never(&'static str),
}

use Cell::{Survives as S, TooLong as L};

/// No push reads a body there.
const B: Cell = Cell::Never("no body of the answer is read");
/// HTTP has no body there.
const H: Cell = Cell::Never("an answer to HEAD has no body");

#[rustfmt::skip]
const MATRIX: [(Kind, [Cell; 11]); 16] = [
    //                        ping token head post patch whole close status head digest tag
    (Kind::Fin,              [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::Rst,              [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::FinInside,        [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::RstInside,        [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::AnswerLost,       [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::Hang,             [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::Trickle,          [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::Says(408),        [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::Says(429),        [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::RetryAfter("1"),  [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::Says(500),        [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::Says(502),        [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::Says(503),        [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::Says(504),        [S,   S,    S,   S,   S,    S,    S,    S,     S,   S,     S]),
    (Kind::Truncated,        [B,   S,    H,   B,   B,    B,    B,    B,     H,   B,     B]),
    (Kind::Endless,          [S,   L,    H,   S,   S,    S,    S,    S,     H,   S,     S]),
];

#[test]
fn every_fault_at_every_step_is_survived_on_a_registry_with_resume() {
    let (count, wrong) = run(&|| Behind::Simulated(simulated(settings())), |_| true);

    assert_eq!(wrong, [""; 0]);
    assert_eq!(count, 164);
}

/// It asks for no token, and takes no resume.
#[test]
fn every_fault_at_every_step_is_survived_on_a_real_registry() {
    let registry = real_registry();
    let address = registry.address().parse().unwrap();

    let (count, wrong) = run(&|| Behind::Real(address), |site| site != Site::Token);

    // It writes a long log that is shown when a test fails; what went wrong says more.
    drop(registry);
    assert_eq!(wrong, [""; 0]);
    assert_eq!(count, 148);
}

/// Runs the cells of the columns that `exists` names; gives how many ran, and what went wrong.
fn run(start: &(dyn Fn() -> Behind + Sync), exists: impl Fn(Site) -> bool) -> (usize, Vec<String>) {
    let started = Instant::now();
    let mut cells = Vec::new();
    for (kind, row) in MATRIX {
        for (site, cell) in Site::ALL.into_iter().zip(row) {
            match cell {
                Cell::Never(reason) => println!("{kind:?} at {site:?}: never, {reason}"),
                Cell::Survives | Cell::TooLong if !exists(site) => {
                    println!("{kind:?} at {site:?}: never, the registry is not asked for that");
                }
                Cell::Survives | Cell::TooLong => cells.push((cells.len(), kind.clone(), site, cell)),
            }
        }
    }
    let count = cells.len();
    let wrong = in_parallel(THREADS, cells, |(number, kind, site, cell)| {
        let name = format!("{kind:?} at {site:?}");
        play(&start(), number, &kind, site, cell).map_err(|error| format!("{name}: {error}"))
    });
    wrong.iter().for_each(|wrong| println!("{wrong}"));
    println!("{count} cells in {:.1} s, {} wrong", started.elapsed().as_secs_f32(), wrong.len());
    (count, wrong)
}

/// Pushes an image while the first requests of `site` meet the fault.
fn play(behind: &Behind, number: usize, kind: &Kind, site: Site, cell: Cell) -> Result<(), String> {
    let cargo = Cargo::new(number as u64);
    let repository = format!("team/app{number}");
    let watch = TagWatch::default();
    let proxy = FaultProxy::start(
        behind.address(),
        {
            let (kind, left, cut) = (kind.clone(), AtomicUsize::new(TIMES), AtomicUsize::new(1));
            move |seen: &Seen| {
                if site == Site::Status && seen.site == Site::Patch && take(&cut) {
                    // Only then is there something to ask.
                    Some(Kind::FinInside)
                } else {
                    (seen.site == site && take(&left)).then(|| kind.clone())
                }
            }
        },
        {
            let (behind, repository, watch) = (behind.clone(), repository.clone(), watch.clone());
            let allowed = [manifest_of(&cargo)];
            // A tag of the real registry moves by the same requests.
            move |_: &Seen| {
                if matches!(behind, Behind::Simulated(_)) {
                    watch.look(&behind, &repository, &allowed);
                }
            }
        },
    );
    let mut settings = hurried(BUDGET);
    if matches!(behind, Behind::Real(_)) {
        // It writes to a disk.
        settings.idle_timeout *= 2;
    }
    let destination = destination(&proxy.address().to_string(), &repository, settings);

    let pushed = cargo.push(&destination);

    let faults = proxy.faults(site);
    match (cell, pushed) {
        (Cell::Survives, Ok(published)) if published.digest == cargo.image.digest() => {
            behind.holds(&repository, &cargo)?;
            // What the registry has done need not be done again.
            let settled =
                matches!(kind, Kind::AnswerLost | Kind::FinInside | Kind::RstInside) || site == Site::Status;
            if if settled { faults == 0 } else { faults != TIMES } {
                return Err(format!("the fault came {faults} times"));
            }
        }
        (Cell::TooLong, Err(PublishError::Http(HttpError::TooLong { .. }))) => {}
        (_, Ok(published)) => return Err(format!("the push gave {published:?}")),
        (_, Err(error)) => return Err(format!("after {faults} faults: {}", chain(&error))),
    }
    match watch.violations().as_slice() {
        [] => Ok(()),
        violations => Err(violations.join(", ")),
    }
}

/// Takes one of what is left.
fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}
