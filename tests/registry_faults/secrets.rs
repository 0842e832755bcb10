//! Tokens that die on the way, and credentials that go nowhere else.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::fault_proxy::{FaultProxy, Kind};
use crate::push::{Cargo, put_one_blob};
use crate::request::Site;
use crate::support::{
    BUDGET, CHUNK, PASSWORD, USER, bytes, chain, destination, hurried, in_parallel, settings, simulated,
    unhurried,
};

#[test]
fn an_upload_outlives_its_tokens() {
    let lifetime = Duration::from_secs(2);
    let registry = simulated(settings().token_lifetime(lifetime));
    // A chunk per second.
    let slow = |site: Site| (site == Site::Patch).then_some(Kind::Slow(CHUNK as u32));
    let proxy = FaultProxy::start(registry.address(), move |seen| slow(seen.site), |_| {});
    let destination = destination(&proxy.address().to_string(), "team/app", unhurried(BUDGET));
    let content = bytes(60 * CHUNK, 1);
    let started = Instant::now();

    let stored = put_one_blob(&destination, &content).unwrap();

    let elapsed = started.elapsed();
    assert!(elapsed >= Duration::from_secs(59), "{elapsed:?}");
    assert_eq!(registry.blob("team/app", &stored.digest), Some(content));
    // A token is used for nine tenths of its life.
    let most = (elapsed.as_secs_f32() / (0.9 * lifetime.as_secs_f32())) as usize + 2;
    let tokens = proxy.count(Site::Token);
    assert!((2..=most).contains(&tokens), "{tokens} tokens in {elapsed:?}, at most {most} expected");
    // The challenge, and some tokens that a busy machine delivered too late: without care, all of them would come late.
    let refused = registry.log().iter().filter(|request| request.status == 401).count();
    assert!(refused <= 1 + tokens / 2, "{refused} of {tokens} tokens were refused");
}

/// What nobody but the registry may see: the password, and what the proxy saw to be let in.
fn canaries(proxy: &FaultProxy) -> BTreeSet<String> {
    let shown = proxy.log().into_iter().filter_map(|seen| seen.authorization);
    let shown = shown.map(|value| value.split_once(' ').unwrap().1.to_owned());
    shown.chain([PASSWORD.to_owned(), STANDARD.encode(format!("{USER}:{PASSWORD}"))]).collect()
}

#[test]
fn no_error_and_no_debug_output_holds_a_password_or_token() {
    let kinds = [
        Kind::Fin,
        Kind::RstInside,
        Kind::Hang,
        Kind::Says(400),
        Kind::Says(401),
        Kind::Says(403),
        Kind::Says(429),
        Kind::Says(502),
        Kind::Truncated,
        Kind::Endless,
        Kind::Echo,
    ];
    let cases = kinds.iter().flat_map(|kind| Site::ALL.map(|site| (kind.clone(), site)));

    let wrong = in_parallel(16, cases.collect(), |(kind, site)| {
        let registry = simulated(settings());
        let decide = {
            let kind = kind.clone();
            move |at: Site| match (site, at) {
                // Only then is there something to ask.
                (Site::Status, Site::Patch) => Some(Kind::FinInside),
                _ => (site == at).then(|| kind.clone()),
            }
        };
        let proxy = FaultProxy::start(registry.address(), move |seen| decide(seen.site), |_| {});
        let host = proxy.address().to_string();
        let destination = destination(&host, "team/app", hurried(Duration::from_millis(50)));

        let pushed = Cargo::new(1).push(&destination);

        let mut text = format!("{destination:?}");
        if let Err(error) = pushed {
            text += &format!("{} {error:?}", chain(&error));
        }
        let told: Vec<_> = canaries(&proxy).into_iter().filter(|canary| text.contains(canary)).collect();
        if told.is_empty() { Ok(()) } else { Err(format!("{kind:?} at {site:?} tells {told:?}")) }
    });

    assert_eq!(wrong, [""; 0]);
}

#[test]
fn no_other_origin_sees_a_password_or_token() {
    for site in Site::ALL {
        let registry = simulated(settings());
        let other = FaultProxy::start(registry.address(), |_| Some(Kind::Says(404)), |_| {});
        let target = format!("http://{}/elsewhere", other.address());
        let decide = move |at: Site| (at == site).then(|| Kind::Redirect(target.clone()));
        let proxy = FaultProxy::start(registry.address(), move |seen| decide(seen.site), |_| {});
        let mut settings = hurried(BUDGET);
        settings.plain_http.insert(other.address().to_string());
        let destination = destination(&proxy.address().to_string(), "team/app", settings);

        let _ = Cargo::new(1).push(&destination);

        let canaries = canaries(&proxy);
        assert!(proxy.faults(site) > 0 || site == Site::Status, "{site:?}");
        for seen in other.log() {
            assert_eq!(seen.authorization, None, "{site:?}");
            assert!(!canaries.iter().any(|canary| seen.path.contains(canary)), "{site:?}: {}", seen.path);
        }
    }
}
