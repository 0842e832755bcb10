//! What becomes of a store path on its way into a layer: it may move, and its files may change hands.

use super::pattern::Pattern;
use crate::source::json::{Item, KeyError};

/// Expressions that one path may have; all of them are in memory while it is read.
const MOST_PERMISSIONS: usize = 256;

/// The longest path that Linux opens.
pub(super) const LONGEST_PATH: usize = 4096;

/// What a layer says of one of its paths beside its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) rewrite: Option<Rewrite>,
    pub(super) permissions: Vec<Permissions>,
}

/// Every match of the expression in the absolute path of a file gives way to the replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rewrite {
    pub(super) pattern: Pattern,
    pub(super) replacement: String,
}

/// Owner and mode of the files whose absolute paths in the store match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permissions {
    pub(super) pattern: Pattern,
    /// Permission bits, if they are others than in the store.
    pub(super) mode: Option<u32>,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The name of the owner, if it is not root's.
    pub(super) uname: Option<String>,
    /// The name of the group, likewise.
    pub(super) gname: Option<String>,
}

impl Options {
    pub(super) fn parse(options: &Item<'_>) -> Result<Self, KeyError> {
        options.knows(&["rewrite", "perms"])?;
        let rewrite = options.get("rewrite")?.map(|item| Rewrite::parse(&item)).transpose()?.flatten();
        let mut permissions = Vec::new();
        if let Some(perms) = options.get("perms")? {
            let list = perms.list()?;
            if list.len() > MOST_PERMISSIONS {
                return Err(perms.error(format_args!("has more than {MOST_PERMISSIONS} entries")));
            }
            permissions = list.iter().map(Permissions::parse).collect::<Result<_, _>>()?;
        }
        Ok(Self { rewrite, permissions })
    }

    /// How many regular expressions there are.
    pub(super) fn patterns(&self) -> usize {
        usize::from(self.rewrite.is_some()) + self.permissions.len()
    }
}

impl Rewrite {
    /// nix2container writes an empty expression where it has none.
    fn parse(rewrite: &Item<'_>) -> Result<Option<Self>, KeyError> {
        rewrite.knows(&["regex", "repl"])?;
        let Some(regex) = rewrite.get("regex")? else { return Ok(None) };
        if regex.text()?.is_empty() {
            return Ok(None);
        }
        let replacement = rewrite.text_at("repl")?;
        if replacement.len() > LONGEST_PATH {
            return Err(rewrite.error("has a replacement that is longer than any path"));
        }
        Ok(Some(Self { pattern: pattern(&regex)?, replacement: replacement.to_owned() }))
    }
}

impl Permissions {
    fn parse(entry: &Item<'_>) -> Result<Self, KeyError> {
        entry.knows(&["regex", "mode", "uid", "gid", "uname", "gname"])?;
        let id = |key| {
            let id = entry.get(key)?.map_or(Ok(0), |item| item.number(u32::MAX.into()))?;
            Ok(u32::try_from(id).unwrap_or_default())
        };
        let name = |key| Ok(Some(entry.text_at(key)?.to_owned()).filter(|name| !name.is_empty()));
        // No expression is the empty one, which matches everything.
        let pattern = entry.get("regex")?.map_or(Ok(Pattern::default()), |item| pattern(&item))?;
        Ok(Self {
            pattern,
            mode: entry.get("mode")?.map_or(Ok(None), |item| mode(&item))?,
            uid: id("uid")?,
            gid: id("gid")?,
            uname: name("uname")?,
            gname: name("gname")?,
        })
    }
}

fn pattern(item: &Item<'_>) -> Result<Pattern, KeyError> {
    Pattern::new(item.text()?).ok_or_else(|| item.error("is no regular expression that can be used here"))
}

fn mode(item: &Item<'_>) -> Result<Option<u32>, KeyError> {
    let text = item.text()?;
    if text.is_empty() {
        return Ok(None);
    }
    let octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o7777);
    mode.map(Some).ok_or_else(|| item.error("is no octal number up to 7777"))
}
