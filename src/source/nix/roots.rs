//! What Nix remembers of garbage collector roots that lie in other folders than its own.

use std::fs;
use std::path::Path;

/// The links by which Nix finds such roots; their names are hashes.
const INDIRECT_ROOTS: &str = "/nix/var/nix/gcroots/auto";

/// Makes Nix forget the roots in `folder`, which are no longer needed.
///
/// Removing the roots themselves is enough to let go of what they hold. Their links in Nix' folder
/// would stay until the next garbage collection, and one job leaves several. Where they belong to
/// the daemon they do stay until then, so nothing here is an error.
pub fn forget_roots(folder: &Path) {
    let links = fs::read_dir(INDIRECT_ROOTS).into_iter().flatten().flatten().map(|link| link.path());
    for link in links.filter(|link| fs::read_link(link).is_ok_and(|root| root.starts_with(folder))) {
        let _ = fs::remove_file(link);
    }
}
