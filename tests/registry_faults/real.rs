//! The real registry, which the integration tests start as well.

#[path = "../integration/support/docker_registry.rs"]
#[expect(dead_code, reason = "here, everyone may use it")]
mod docker_registry;
#[path = "../integration/support/process.rs"]
#[expect(dead_code, reason = "the other programs are for the integration tests")]
mod process;
#[path = "../integration/support/token_issuer.rs"]
#[expect(dead_code, reason = "here, everyone may use it")]
mod token_issuer;

use std::path::Path;

use docker_registry::{Auth, DockerRegistry};
use tempfile::TempDir;

/// A registry that everyone may use. It waits for the disk after each chunk, so it gets none where it can.
pub(crate) fn real_registry() -> DockerRegistry {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    DockerRegistry::start_in(folder.unwrap(), Auth::None)
}
