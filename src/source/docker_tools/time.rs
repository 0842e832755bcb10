//! Times as `dockerTools` takes and writes them: ISO 8601, or the word `now`.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::ConfError;

/// A time that an expression says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// When the image is made.
    Now,
    /// At this time.
    At(Timestamp),
}

impl Time {
    /// Reads the value of `key`. A time without an offset is taken as UTC.
    pub(super) fn parse(key: &'static str, text: &str) -> Result<Self, ConfError> {
        if text == "now" {
            return Ok(Self::Now);
        }
        let in_utc = || TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok();
        let time = text.parse().ok().or_else(in_utc);
        time.map(Self::At)
            .ok_or_else(|| ConfError::new(key, text, "it is neither `now` nor an ISO 8601 time"))
    }

    /// In seconds since 1970; none of `now`.
    pub(super) fn seconds(self, key: &'static str) -> Result<Option<u64>, ConfError> {
        let Self::At(time) = self else { return Ok(None) };
        let seconds = u64::try_from(time.as_second());
        seconds.map(Some).map_err(|_| ConfError::new(key, &time.to_string(), "it is before 1970"))
    }

    /// As upstream writes it into an image: `2024-02-29T12:00:00+00:00`, with six digits of a second that is not
    /// whole.
    pub fn to_text(self, now: Timestamp) -> String {
        let time = match self {
            Self::Now => now,
            Self::At(time) => time,
        };
        let digits =
            if time.subsec_microsecond() == 0 && time.subsec_millisecond() == 0 { "" } else { "%.6f" };
        time.strftime(&format!("%Y-%m-%dT%H:%M:%S{digits}+00:00")).to_string()
    }
}
