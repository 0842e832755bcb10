//! When another try may help, and when to make it.
//!
//! Classes, not places: whatever was asked, a server that is busy, restarting or out of reach may answer
//! later, and one that refuses will refuse again. Pauses grow and are random, so that many clients do not
//! come back at once ("full jitter"); a server that names a time is obeyed, up to a cap.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::StatusCode;
use reqwest::header::{HeaderName, RETRY_AFTER};

use super::{Http, HttpError, Request, Response, authority};

/// Seconds since 1970 (GitLab, "User and IP rate limits").
const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// How patient the client is with servers that may recover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For how long one piece of work is tried again, from its first failure on.
    pub budget: Duration,
    /// The longest that the first pause may be; each further one may be twice as long.
    pub first: Duration,
    /// The longest that any pause may be, also if the server names a later time.
    pub longest: Duration,
}

impl Default for Patience {
    /// Ten minutes: a registry or cache that is being updated is back by then.
    fn default() -> Self {
        Self {
            budget: Duration::from_secs(600),
            first: Duration::from_millis(500),
            longest: Duration::from_secs(60),
        }
    }
}

/// The tries of one piece of work.
#[derive(Debug)]
pub struct Retries<'a> {
    http: &'a Http,
    first_failure: Option<Instant>,
    pauses: u32,
    gave_up: bool,
}

impl Http {
    /// For one piece of work, which may be several requests.
    pub fn retries(&self) -> Retries<'_> {
        Retries { http: self, first_failure: None, pauses: 0, gave_up: false }
    }
}

impl Retries<'_> {
    /// Sends `request` until there is an answer that would not be another one later, or the budget is
    /// spent; then gives the last answer or error.
    pub async fn send(&mut self, request: &Request) -> Result<Response, HttpError> {
        loop {
            let sent = self.http.send(request.clone()).await;
            let after = match &sent {
                Ok(response) if may_recover(response.status()) => response.retry_after(),
                Err(error) if error.may_recover() => None,
                Ok(_) | Err(_) => return sent,
            };
            let reason = match &sent {
                Ok(response) => format!("`{}` answered {}", authority(response.url()), response.status()),
                Err(error) => error.in_short(),
            };
            if !self.pause(after, &reason).await {
                return sent;
            }
        }
    }

    /// Waits before the next try, for `after` if the server asked for that. Whether there is one. Whoever
    /// listens is told the `reason`.
    pub async fn pause(&mut self, after: Option<Duration>, reason: &str) -> bool {
        let patience = self.http.patience();
        let first_failure = *self.first_failure.get_or_insert_with(Instant::now);
        let left = patience.budget.saturating_sub(first_failure.elapsed());
        let pause = match after {
            Some(after) => after.min(patience.longest),
            None => self.http.jitter(longest_pause(&patience, self.pauses)),
        };
        if pause >= left {
            self.gave_up = true;
            return false;
        }
        self.pauses += 1;
        self.http.notice().say(&format!("{reason}: trying again in {:.1} s", pause.as_secs_f32()));
        tokio::time::sleep(pause).await;
        true
    }

    /// Whether patience is at its end.
    pub fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Says that the work has moved on, so that the next failure is a first one.
    pub fn moved_on(&mut self) {
        *self = self.http.retries();
    }
}

/// The longest that the pause after `pauses` others may be.
fn longest_pause(patience: &Patience, pauses: u32) -> Duration {
    patience.first.saturating_mul(1 << pauses.min(16)).min(patience.longest)
}

/// Whether an answer of this status may be another one later.
pub fn may_recover(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 499 | 500 | 502 | 503 | 504 | 522)
}

impl HttpError {
    /// Whether the same request may be answered later.
    pub fn may_recover(&self) -> bool {
        match self {
            // It was looked for more than once.
            _ if self.is_of_no_host() => false,
            Self::Connect { .. } | Self::Silent { .. } | Self::Broken { .. } => true,
            Self::CaFile { .. }
            | Self::ClientCertificate { .. }
            | Self::ClientRefused { .. }
            | Self::Proxy { .. }
            | Self::Setup { .. }
            | Self::NoUrl { .. }
            | Self::NotEncrypted { .. }
            | Self::Redirect { .. }
            | Self::NotTls { .. }
            | Self::Certificate { .. }
            | Self::TooLong { .. } => false,
        }
    }
}

impl Response {
    /// How long the server wants to be left alone, if it says so: with `Retry-After` (RFC 9110 §10.2.3), or, as
    /// GitLab does when there were too many requests, with the time at which it counts anew.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Some(text) = self.header(RETRY_AFTER) {
            return parse_retry_after(text.trim(), self.received);
        }
        if self.status() != StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        parse_rate_limit_reset(self.header(RATE_LIMIT_RESET)?.trim(), self.received)
    }
}

/// Seconds, or a date.
fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// Seconds since 1970.
fn parse_rate_limit_reset(text: &str, now: Timestamp) -> Option<Duration> {
    let at = Timestamp::from_second(text.parse().ok()?).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_names_a_time_in_seconds_or_as_a_date() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("Sat, 31 Jan 2026 12:01:30 GMT", Some(90)),
            ("Sat, 31 Jan 2026 11:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after(text, now), expected.map(Duration::from_secs), "{text:?}");
        }
    }

    /// The example of GitLab's documentation, a minute before.
    #[test]
    fn a_server_that_counts_requests_says_when_it_counts_anew() {
        let now: Timestamp = "2021-01-05T10:59:00Z".parse().unwrap();
        for (text, expected) in [("1609844400", Some(60)), ("1609844000", Some(0)), ("60s", None), ("", None)]
        {
            assert_eq!(parse_rate_limit_reset(text, now), expected.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let patience = Patience {
            budget: Duration::from_secs(9),
            first: Duration::from_secs(1),
            longest: Duration::from_secs(5),
        };

        let seconds: Vec<u64> = (0..5).map(|pauses| longest_pause(&patience, pauses).as_secs()).collect();

        assert_eq!(seconds, [1, 2, 4, 5, 5]);
        assert_eq!(longest_pause(&patience, u32::MAX).as_secs(), 5);
    }

    #[test]
    fn what_is_refused_is_not_asked_again() {
        for (status, again) in
            [(200, false), (401, false), (404, false), (416, false), (429, true), (503, true)]
        {
            assert_eq!(may_recover(StatusCode::from_u16(status).unwrap()), again, "{status}");
        }
    }
}
