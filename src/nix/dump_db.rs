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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Printed by Nix 2.8.0 for a path that refers to itself and one with a deriver; Nix 2.3 to 2.36 and
    /// Lix print the same lines.
    const DUMP: &str = "/nix/store/00000000000000000000000000000000-a
72a97830a3aa205ad777f8d8c4095f8eea3dc06c0f54ca7cd94395c35206fc5f
2568

2
/nix/store/00000000000000000000000000000000-a
/nix/store/11111111111111111111111111111111-b
/nix/store/11111111111111111111111111111111-b
e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
120
/nix/store/22222222222222222222222222222222-b.drv
0
";

    #[test]
    fn a_dump_says_hash_size_and_references_of_each_path() {
        let infos = parse(DUMP).unwrap();

        let [a, b] = &infos[..] else { panic!("{infos:?}") };
        assert_eq!(a.nar_hash.to_string(), "sha256:0pzw0r9c75a3v5yclm0gdk03vslfbw4w9n7qfzbml85alcq7iabj");
        assert_eq!((a.nar_size, b.nar_size), (2568, 120));
        assert_eq!(a.references, BTreeSet::from([a.path.clone(), b.path.clone()]));
        assert_eq!(b.references, BTreeSet::new());
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn a_dump_that_is_cut_anywhere_says_what_it_lacks() {
        let lines: Vec<&str> = DUMP.lines().collect();
        for (kept, error) in [
            (1, "entry 1 of `nix-store --dump-db` has no NAR hash"),
            (2, "entry 1 of `nix-store --dump-db` has no NAR size"),
            (3, "entry 1 of `nix-store --dump-db` has no deriver line"),
            (4, "entry 1 of `nix-store --dump-db` has no number of references"),
            (6, "entry 1 of `nix-store --dump-db` has no reference where one is announced"),
            (8, "entry 2 of `nix-store --dump-db` has no NAR hash"),
        ] {
            assert_eq!(parse(&(lines[..kept].join("\n") + "\n")).unwrap_err().to_string(), error);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(/nix/store/[0-9a-z]{32}-a|[0-9a-f]{64}|[0-9]{0,20}|\n){0,12}") {
            let _ = parse(&text);
        }
    }
}
