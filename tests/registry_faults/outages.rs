//! Faults that come before any request, and how long a push bears with faults.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use nixlayer::http::{HttpSettings, Notice, Patience};
use nixlayer::oci::{Digest, Repository};
use nixlayer::publish::Destination;
use tokio::net::TcpSocket;

use crate::fault_proxy::{FaultProxy, Kind, LIMIT};
use crate::push::{Behind, Cargo, put_one_blob};
use crate::request::{Seen, Site};
use crate::support::{
    BUDGET, CHUNK, RUNTIME, bytes, chain, destination, hurried, settings, simulated, unhurried,
};

/// How long a registry is away.
const AWAY: Duration = Duration::from_millis(300);

/// Does `kind` to the first request of `site`.
fn once(site: Site, kind: Kind) -> impl Fn(&Seen) -> Option<Kind> + Send + Sync + 'static {
    let left = AtomicUsize::new(1);
    move |seen| {
        let is_it = seen.site == site
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        is_it.then(|| kind.clone())
    }
}

/// A socket that does not listen yet. Others may be bound to its port beside it, if they are made here.
fn bound(address: &str) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address.parse().unwrap()).unwrap();
    socket
}

fn listening(socket: TcpSocket) -> TcpListener {
    let _in_runtime = RUNTIME.enter();
    let listener = socket.listen(128).unwrap().into_std().unwrap();
    listener.set_nonblocking(false).unwrap();
    listener
}

#[test]
fn a_registry_that_starts_late_is_waited_for() {
    let registry = simulated(settings());
    // Bound, and not listening: connections are refused.
    let socket = bound("127.0.0.1:0");
    let address = socket.local_addr().unwrap();
    let destination = destination(&address.to_string(), "team/app", hurried(BUDGET));
    let cargo = Cargo::new(1);

    let (pushed, proxy) = thread::scope(|scope| {
        let proxy = scope.spawn(|| {
            thread::sleep(AWAY);
            FaultProxy::start_on(listening(socket), registry.address(), |_| None, |_| {})
        });
        (cargo.push(&destination), proxy.join().unwrap())
    });

    pushed.unwrap();
    drop(proxy);
    Behind::Simulated(registry).holds("team/app", &cargo).unwrap();
}

#[test]
fn a_registry_that_goes_away_in_the_middle_is_waited_for() {
    let registry = simulated(settings());
    let count = AtomicUsize::new(0);
    // The port is nobody else's meanwhile.
    let port = bound("127.0.0.1:0");
    let address = port.local_addr().unwrap();
    let proxy = FaultProxy::start_on(
        listening(bound(&address.to_string())),
        registry.address(),
        move |seen| {
            let third = seen.site == Site::Patch && count.fetch_add(1, Ordering::SeqCst) == 2;
            third.then_some(Kind::Hang)
        },
        |_| {},
    );
    let destination = destination(&address.to_string(), "team/app", unhurried(BUDGET));
    let cargo = Cargo::new(1);

    let (pushed, proxy) = thread::scope(|scope| {
        let pushing = scope.spawn(|| cargo.push(&destination));
        while proxy.faults(Site::Patch) == 0 && !pushing.is_finished() {
            thread::sleep(Duration::from_millis(5));
        }
        drop(proxy);
        thread::sleep(AWAY);
        let listener = listening(bound(&address.to_string()));
        let proxy = FaultProxy::start_on(listener, registry.address(), |_| None, |_| {});
        (pushing.join().unwrap(), proxy)
    });

    pushed.unwrap();
    drop(proxy);
    Behind::Simulated(registry).holds("team/app", &cargo).unwrap();
}

/// What the log is told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn notice(&self) -> Notice {
        let told = self.clone();
        Notice::new(move |line| told.lines().push(line.to_owned()))
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap()
    }
}

#[test]
fn a_name_that_does_not_exist_is_told_soon() {
    let told = Told::default();
    let settings = HttpSettings { notice: told.notice(), ..unhurried(LIMIT) };
    let destination = destination("registry.invalid:5000", "team/app", settings);
    let started = Instant::now();

    let error = put_one_blob(&destination, &bytes(10, 1)).unwrap_err();

    assert_eq!(
        chain(&error),
        "no connection to `registry.invalid:5000`; there is no host `registry.invalid`"
    );
    let elapsed = started.elapsed();
    assert!(elapsed < LIMIT / 10, "it was tried for {elapsed:?}");
    let told = told.lines();
    let reason =
        "no connection to `registry.invalid:5000`: there is no host `registry.invalid`: trying again in ";
    assert!((1..10).contains(&told.len()), "{told:?}");
    assert!(told.iter().all(|line| line.starts_with(reason)), "{told:?}");
}

/// Checks that `work` takes one budget, and not two. On a machine that pauses it may take longer, but not each time.
fn costs_one(budget: Duration, what: &str, work: impl Fn()) {
    let mut tries = Vec::new();
    let once = (0..5).any(|_| {
        let started = Instant::now();
        work();
        let elapsed = started.elapsed();
        assert!(elapsed >= budget * 3 / 4, "{what}: it was tried for {elapsed:?}");
        tries.push(elapsed);
        elapsed < budget * 3 / 2
    });
    assert!(once, "{what}: it was tried for {tries:?}");
}

#[test]
fn a_registry_out_of_reach_costs_one_budget() {
    let budget = Duration::from_secs(2);
    // Bound, and not listening: connections are refused.
    let socket = bound("127.0.0.1:0");
    let host = socket.local_addr().unwrap().to_string();
    let told = Told::default();
    let telling = HttpSettings { notice: told.notice(), ..unhurried(budget) };
    let refused = destination(&host, "team/app", telling);
    costs_one(budget, "refused", || {
        let error = put_one_blob(&refused, &bytes(10, 1)).unwrap_err();
        assert_eq!(chain(&error), format!("no connection to `{host}`; the connection was refused"));
    });
    let line = format!("no connection to `{host}`: the connection was refused: trying again in ");
    assert!(told.lines()[0].starts_with(&line), "{:?}", told.lines()[0]);

    let registry = simulated(settings());
    let decide = |seen: &Seen| (seen.site == Site::Token).then_some(Kind::Rst);
    let proxy = FaultProxy::start(registry.address(), decide, |_| {});
    let destination = destination(&proxy.address().to_string(), "team/app", unhurried(budget));
    // The token endpoint is asked while a blob is asked for, or closed.
    for size in [10, 3 * CHUNK] {
        costs_one(budget, "token", || drop(put_one_blob(&destination, &bytes(size, 1)).unwrap_err()));
    }
    let from = Repository::new(&proxy.address().to_string(), "team/base").unwrap();
    // Otherwise the upload would wait as long again.
    costs_one(budget, "mount", || {
        let mount = RUNTIME.block_on(destination.mount(&Digest::of(b"x"), &from));
        drop(mount.unwrap_err());
    });
}

#[test]
fn a_fault_that_does_not_end_is_told_when_the_budget_is_spent() {
    for site in [Site::Ping, Site::Token, Site::HeadBlob, Site::Post, Site::Patch, Site::Close] {
        let registry = simulated(settings());
        let decide = move |seen: &Seen| (seen.site == site).then_some(Kind::Says(503));
        let proxy = FaultProxy::start(registry.address(), decide, |_| {});
        let host = proxy.address().to_string();
        let destination = destination(&host, "team/app", unhurried(Duration::from_millis(400)));
        let started = Instant::now();

        let error = match site {
            Site::HeadBlob => put_one_blob(&destination, &bytes(10, 1)),
            _ => put_one_blob(&destination, &bytes(3 * CHUNK, 1)),
        };

        let told = chain(&error.unwrap_err());
        assert!(told.contains(&format!("`{host}` answered 503 Service Unavailable")), "{told}");
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_millis(300), "{site:?} was tried for {elapsed:?}");
    }
}

/// A way to a registry that is busy once, and says until when.
fn busy_once(site: Site, when: &'static str, longest: Duration) -> (FaultProxy, Destination) {
    let registry = simulated(settings());
    let behind = Arc::clone(&registry);
    // The registry lasts as long as the proxy.
    let proxy = FaultProxy::start(registry.address(), once(site, Kind::RetryAfter(when)), move |_| {
        let _ = behind.address();
    });
    let patience = Patience { budget: BUDGET, first: Duration::from_millis(1), longest };
    let now = "2026-01-31T12:00:00Z".parse().unwrap();
    let settings = HttpSettings { patience, now, ..hurried(BUDGET) };
    let destination = destination(&proxy.address().to_string(), "team/app", settings);
    (proxy, destination)
}

#[test]
fn a_registry_that_names_a_time_is_left_alone_until_then() {
    for site in [Site::Token, Site::Post, Site::Patch] {
        for (when, least) in [("1", 1000), ("Sat, 31 Jan 2026 12:00:02 GMT", 1500)] {
            // Before the time that the client counts from.
            let started = Instant::now();
            let (proxy, destination) = busy_once(site, when, BUDGET);

            put_one_blob(&destination, &bytes(3 * CHUNK, 1)).unwrap();

            let elapsed = started.elapsed();
            assert_eq!(proxy.faults(site), 1);
            assert!(elapsed >= Duration::from_millis(least), "{when} at {site:?}: {elapsed:?}");
        }
    }
}

#[test]
fn a_registry_that_names_a_time_far_away_is_asked_before() {
    // The hour would not fit into the budget.
    let (proxy, destination) = busy_once(Site::Post, "3600", Duration::from_millis(50));

    put_one_blob(&destination, &bytes(3 * CHUNK, 1)).unwrap();

    assert_eq!(proxy.faults(Site::Post), 1);
}

/// With the settings that users have: everywhere else here, silence is shortened.
#[test]
fn a_registry_that_hangs_is_noticed_after_half_a_minute() {
    let registry = simulated(settings());
    let proxy = FaultProxy::start(registry.address(), once(Site::Patch, Kind::Hang), |_| {});
    let host = proxy.address().to_string();
    let told = Told::default();
    let settings =
        HttpSettings { plain_http: [host.clone()].into(), notice: told.notice(), ..HttpSettings::default() };
    let destination = destination(&host, "team/app", settings);
    let content = bytes(3 * CHUNK, 9);

    let stored = put_one_blob(&destination, &content).unwrap();

    assert_eq!(registry.blob("team/app", &stored.digest), Some(content));
    let told = told.lines();
    assert!(
        told[0].starts_with(&format!("`{host}` was silent for 30 seconds: trying again in ")),
        "{told:?}"
    );
}
