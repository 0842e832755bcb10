//! The text of `nix-store --dump-db PATHS…`: the one description of a closure that every Nix from
//! 2.3 on and Lix print alike, without an experimental feature.
//!
//! Per path, one line each: the path, its NAR hash in hex, its NAR size, its deriver (or an empty
//! line), the number of references, and the references.

use std::collections::BTreeSet;
use std::str::{FromStr, Lines};

use super::{NarHash, PathInfo, StorePath};

/// Where and why a text is no dump.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {entry} of `nix-store --dump-db` has no {what}")]
pub struct DumpError {
    entry: usize,
    what: &'static str,
}

/// The paths that `text` describes, in its order.
pub fn parse(text: &str) -> Result<Vec<PathInfo>, DumpError> {
    let mut lines = text.lines();
    let mut infos = Vec::new();
    while let Some(path) = lines.next() {
        let missing = |what| DumpError { entry: infos.len() + 1, what };
        let path: StorePath = path.parse().map_err(|_| missing("store path"))?;
        let nar_hash: NarHash = field(&mut lines).ok_or(missing("NAR hash"))?;
        let nar_size: u64 = field(&mut lines).ok_or(missing("NAR size"))?;
        lines.next().ok_or(missing("deriver line"))?;
        let count: usize = field(&mut lines).ok_or(missing("number of references"))?;
        let references: Option<BTreeSet<StorePath>> = (0..count).map(|_| field(&mut lines)).collect();
        let references = references.ok_or(missing("reference where one is announced"))?;
        infos.push(PathInfo { path, nar_hash, nar_size, references });
    }
    Ok(infos)
}

fn field<T: FromStr>(lines: &mut Lines<'_>) -> Option<T> {
    lines.next()?.parse().ok()
}
