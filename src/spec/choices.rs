//! The keys of a spec that choose one of a few things.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::yaml::{Error, Value};

/// A ready-made part that most images need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preset {
    /// `/tmp` and `/var/tmp`, writable by everybody.
    Tmp,
    /// `/usr/bin/env`.
    UsrBinEnv,
    /// `/bin/sh`.
    BinSh,
    /// The bundle of certificate authorities where programs look for it.
    CaCertificates,
    /// `/etc/passwd`, `/etc/group` and `/etc/nsswitch.conf` with `root` and `nobody`.
    Nss,
}

/// The time that an image says it was created at. It changes no layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Created {
    /// The time of the build.
    Now,
    /// The time of the commit that is built, so that building it again gives the same image.
    #[default]
    Commit,
    /// 1970-01-01, as `dockerTools` sets it unless told otherwise.
    Epoch,
    /// A fixed time.
    At(Timestamp),
}

/// How layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// With gzip, which everything reads.
    Gzip {
        /// From 1 (fastest) to 12 (smallest).
        level: u8,
    },
    /// With Zstandard: smaller in less time, but not everything reads it.
    Zstd {
        /// From 1 (fastest) to 19 (smallest).
        level: u8,
    },
}

const PRESETS: &[(&str, Preset)] = &[
    ("tmp", Preset::Tmp),
    ("usr-bin-env", Preset::UsrBinEnv),
    ("bin-sh", Preset::BinSh),
    ("ca-certificates", Preset::CaCertificates),
    ("nss", Preset::Nss),
];

pub(super) fn presets(value: &Value<'_>) -> Result<BTreeSet<Preset>, Error> {
    value.list()?.iter().map(|preset| preset.word(PRESETS)).collect()
}

impl Created {
    /// The time itself, for a build that started `now`, of a commit made at `commit`; a commit of which
    /// that is not known counts as made in 1970.
    pub fn resolve(self, now: Timestamp, commit: Option<Timestamp>) -> Timestamp {
        match self {
            Self::Now => now,
            Self::Commit => commit.unwrap_or(Timestamp::UNIX_EPOCH),
            Self::Epoch => Timestamp::UNIX_EPOCH,
            Self::At(time) => time,
        }
    }

    pub(super) fn read(value: &Value<'_>) -> Result<Self, Error> {
        let text = value.text()?;
        match text {
            "now" => Ok(Self::Now),
            "commit" => Ok(Self::Commit),
            "epoch" => Ok(Self::Epoch),
            _ => text.parse().map(Self::At).map_err(|_| {
                value.error(
                    format!("`{text}` is not a time with its zone"),
                    "write `now`, `commit`, `epoch` or a time such as `2026-01-31T12:00:00Z`",
                )
            }),
        }
    }
}

impl Compression {
    /// What `fast` stands for.
    const FAST: Self = Self::Gzip { level: 1 };

    /// Level 2: the fastest that is smaller than what skopeo makes, in half of its time.
    const GZIP: Self = Self::Gzip { level: 2 };

    /// Level 3: zstd's own default.
    const ZSTD: Self = Self::Zstd { level: 3 };

    pub(super) fn read(value: &Value<'_>) -> Result<Self, Error> {
        if value.is_integer() {
            return Self::gzip(value);
        }
        if value.is_mapping() {
            let fields = value.fields(&["gzip", "zstd"])?;
            return match (fields.get("gzip"), fields.get("zstd")) {
                (Some(level), None) => Self::gzip(level),
                (None, Some(level)) => Ok(Self::Zstd { level: level.integer(1..=19)? }),
                (Some(_), Some(_)) => {
                    Err(value.error("both `gzip` and `zstd` are given", "remove one of the two"))
                }
                (None, None) => {
                    Err(value.error("the mapping is empty", "write `{ zstd: 3 }`, or leave the key out"))
                }
            };
        }
        let words =
            [("gzip", Self::GZIP), ("zstd", Self::ZSTD), ("fast", Self::FAST), ("default", Self::default())];
        value.word(&words).map_err(|_| {
            let text = value.text().unwrap_or("this");
            value.error(
                format!("`{text}` is not a compression"),
                "write `gzip`, `zstd`, either with a level as in `{ zstd: 3 }`, `fast` or `default`",
            )
        })
    }

    fn gzip(level: &Value<'_>) -> Result<Self, Error> {
        Ok(Self::Gzip { level: level.integer(1..=12)? })
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::GZIP
    }
}
