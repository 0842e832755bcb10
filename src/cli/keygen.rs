//! `nixlayer keygen`: makes the key that signs layer records.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::nix::SecretKey;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What the key is called, such as `runner-1`
    name: String,
    /// The file to be made; only its owner will be able to read it
    file: PathBuf,
}

/// Makes a key that nobody else has, and prints what others need to believe it.
pub(super) fn keygen(arguments: &Arguments, output: &mut dyn io::Write) -> Result<(), Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(seed.as_mut_slice())
        .map_err(|_| Failure::system("the system gives no random bytes"))?;
    let key = SecretKey::from_seed(&arguments.name, &seed)
        .map_err(|error| Failure::build(error, "write a name without spaces and `:`"))?;
    let file = arguments.file.display();
    let failed = |error: io::Error| {
        let fix = match error.kind() {
            io::ErrorKind::AlreadyExists => "name a file that does not exist: a key is never overwritten",
            _ => "name a file in a folder that you can write to",
        };
        Failure::cannot::<io::Error>(format!("make `{file}`"))(error).fix(fix)
    };
    let mut opened =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&arguments.file).map_err(failed)?;
    writeln!(opened, "{}", *key.to_text()).and_then(|()| opened.sync_all()).map_err(failed)?;
    let public = key.public_key();
    writeln!(output, "{public}").map_err(Failure::cannot("print the public key"))
}
