//! Why bytes are no Nix archive.

use std::io;

/// Why reading an archive came to no good end.
#[derive(Debug, thiserror::Error)]
pub enum NarError {
    /// The bytes are no archive.
    #[error("byte {offset} of the NAR is wrong")]
    Malformed {
        /// How many bytes had been read.
        offset: u64,
        /// What is wrong.
        #[source]
        fault: NarFault,
    },
    /// The bytes could not be had.
    #[error("the NAR cannot be read")]
    Read(#[source] io::Error),
    /// Whoever was shown the entries could not go on.
    #[error("an entry of the NAR cannot be used")]
    Visit(#[source] io::Error),
}

/// What is wrong with the bytes of an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NarFault {
    /// They end too early.
    #[error("it ends here")]
    End,
    /// They go on after the tree's end.
    #[error("there is more after its end")]
    Trailing,
    /// The grammar wants another word here.
    #[error("`{found}` stands where {expected} belongs")]
    Word {
        /// What stands there, as far as it can be shown.
        found: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A string is longer than one of its kind can be, or has no bytes.
    #[error("a {kind} of {length} bytes cannot be; it has 1 to {most}")]
    Length {
        /// What the string is.
        kind: &'static str,
        /// The length that is announced.
        length: u64,
        /// The most that can be.
        most: u64,
    },
    /// The bytes after a string are not zero.
    #[error("the padding of a string is not zero")]
    Padding,
    /// A name that no file can have.
    #[error("`{0}` is no name of a file")]
    Name(String),
    /// A link's target has a NUL.
    #[error("`{0}` is no target of a link")]
    Target(String),
    /// A name does not come after the one before it.
    #[error("`{name}` comes after `{previous}`, against the order of names")]
    Order {
        /// The name.
        name: String,
        /// The one before it.
        previous: String,
    },
    /// The folders are nested deeper than a path can say.
    #[error("a path of {0} bytes is longer than a path can be")]
    Depth(u64),
}
