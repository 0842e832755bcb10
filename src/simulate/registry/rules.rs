//! What registries do differently, though all of them say they follow the distribution specification.

/// How upload sessions behave. The default is what the specification says.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) chunk_min_length: Option<usize>,
    pub(super) resume: Resume,
    pub(super) cut_body: CutBody,
    pub(super) locations: Locations,
    /// Before which manifest blobs are lost, counted from 1.
    pub(super) loses_blobs_at: Option<usize>,
    /// A media type that no layer of a manifest may have.
    pub(super) foreign_layers: Option<String>,
}

/// How a session goes on after a request of it was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// Where the session says it stands.
    #[default]
    Offered,
    /// Not at all: the session is gone, `BLOB_UPLOAD_UNKNOWN`.
    Unknown,
    /// Not at all: `BLOB_UPLOAD_INVALID`, as distribution 2.8 says it, and then the session is gone.
    Invalid,
    /// Not at all, for the session says for ever that it stands after its first chunk.
    Stale,
}

/// What becomes of the bytes of a chunk whose body broke off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CutBody {
    /// What arrived counts.
    #[default]
    Kept,
    /// The chunk counts as a whole or not at all.
    Dropped,
}

/// The form of a `Location`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locations {
    /// A path.
    #[default]
    Relative,
    /// A URL of the host that the client asked.
    Absolute,
}
