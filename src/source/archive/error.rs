//! What is wrong with an archive.

use std::{fmt, io};

use super::{Listed, MemberName};
use crate::nix::shown;
use crate::oci::{DiffId, Digest};

/// Why an archive of images cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{archive}` cannot be used")]
pub struct ArchiveError {
    /// What the archive is called: its file or folder, or where it comes from.
    pub archive: String,
    /// Why.
    #[source]
    pub fault: Box<ArchiveFault>,
}

/// What is wrong with an archive, or with what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveFault {
    /// The system does not let us read it, or the program that makes it failed.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// Nobody takes what is read.
    #[error("what is read of it cannot be passed on")]
    Sink(#[source] io::Error),
    /// Nothing has come.
    #[error("it is empty")]
    Empty,
    /// It is no archive.
    #[error("it is neither a tar, nor one that is compressed with gzip, zstd, xz or bzip2")]
    NoTar,
    /// A compressed part of it is damaged.
    #[error("{what} cannot be decompressed")]
    Compressed {
        /// `it`, or a member.
        what: String,
        /// What the library says.
        #[source]
        source: io::Error,
    },
    /// It ends too early.
    #[error("it ends within {0}")]
    Truncated(String),
    /// It goes on when it should have ended.
    #[error("it goes on after its end")]
    Surplus,
    /// A header of it cannot be understood.
    #[error("a header after {after} is damaged: {reason}")]
    Header {
        /// The member before it.
        after: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A member is said to have two sizes.
    #[error("`{member}` has {header} bytes by one header, and {extended} by another")]
    Sizes {
        /// The member.
        member: MemberName,
        /// What the header of ustar says.
        header: u64,
        /// What the extended header of pax says.
        extended: u64,
    },
    /// A member leaves out parts of a file.
    #[error("`{0}` is a sparse file")]
    Sparse(MemberName),
    /// There are too many members.
    #[error("it has more than {0} members")]
    TooMany(usize),
    /// There is too much in it, or in a layer once it is decompressed.
    #[error("{what} has more than {most} bytes")]
    TooLarge {
        /// `it`, or a member.
        what: String,
        /// How many are possible.
        most: u64,
    },
    /// A member has a name that is none, or leads out of the archive.
    #[error("`{0}` is no name of a member: names stay in the archive, and are UTF-8")]
    Name(String),
    /// Links lead in circles.
    #[error("the link `{0}` leads nowhere but to other links")]
    Circle(MemberName),
    /// Two members have one name and are not equal.
    #[error("it has two members `{0}`")]
    Duplicate(MemberName),
    /// A JSON file is none, or has another shape.
    #[error("`{member}` cannot be understood")]
    Json {
        /// The member.
        member: MemberName,
        /// Where it is wrong.
        #[source]
        source: JsonError,
    },
    /// It is a layout as nobody knows it yet.
    #[error("it is an image layout of version `{}`", shown(.0))]
    LayoutVersion(String),
    /// There is no image in it.
    #[error("it holds no image: there is no {0}")]
    NoImages(&'static str),
    /// It names a member that it does not have.
    #[error("`{by}` names `{member}`, which is not there")]
    Missing {
        /// The member.
        member: MemberName,
        /// What names it.
        by: MemberName,
    },
    /// A member is not what it was a moment ago.
    #[error("`{0}` has changed while the archive was read")]
    Changed(MemberName),
    /// A member that should be a layer is none.
    #[error("`{0}` is no layer: neither a tar, nor one that is compressed with gzip, zstd, xz or bzip2")]
    NoLayer(MemberName),
    /// A digest is none.
    #[error("`{by}` says `{text}` in the place of a digest")]
    NoDigest {
        /// What says so.
        by: MemberName,
        /// What it says.
        text: String,
    },
    /// A digest is not of sha256.
    #[error("`{by}` names a blob by `{text}`")]
    OtherDigest {
        /// What says so.
        by: MemberName,
        /// The digest.
        text: String,
    },
    /// A configuration is not that of an image of layers.
    #[error("`{0}` is no configuration of an image: it says no `rootfs.diff_ids`")]
    NoConfig(MemberName),
    /// There are more or fewer layers than the configuration says.
    #[error("the image has {layers} layers, and its configuration says {diff_ids}")]
    Count {
        /// How many layers the manifest names.
        layers: usize,
        /// How many the configuration does.
        diff_ids: usize,
    },
    /// A layer is not what the configuration says.
    #[error("the layer `{member}` has the diff_id `{found}`, and the image's configuration says `{said}`")]
    DiffId {
        /// The layer.
        member: MemberName,
        /// That of its bytes.
        found: DiffId,
        /// What the configuration says.
        said: DiffId,
    },
    /// A layer is not what its name says.
    #[error("the layer `{member}` has the diff_id `{found}`, and is called `{name}`")]
    OtherName {
        /// The layer.
        member: MemberName,
        /// That of its bytes.
        found: DiffId,
        /// That in its name.
        name: DiffId,
    },
    /// A blob is not what its descriptor says.
    #[error("`{member}` is `{found}`, of {found_size} bytes, and should be `{said}`, of {said_size}")]
    Blob {
        /// The blob.
        member: MemberName,
        /// The digest of its bytes.
        found: Digest,
        /// How many these are.
        found_size: u64,
        /// The digest in the descriptor.
        said: Digest,
        /// The size in the descriptor.
        said_size: u64,
    },
    /// A manifest is of a kind that is not the image specification's.
    #[error("`{member}` has the media type `{}`", shown(.media_type))]
    MediaType {
        /// The manifest.
        member: MemberName,
        /// Its media type.
        media_type: String,
    },
    /// No image is called so.
    #[error("no image in it is called `{}`, only {}", shown(.wanted), listed(.images))]
    NoSuch {
        /// What was asked for.
        wanted: String,
        /// What there is.
        images: Vec<Listed>,
    },
    /// What was asked for are several.
    #[error("it holds several images: {}", listed(.0))]
    Several(Vec<Listed>),
    /// An image is there for other machines.
    #[error("the image is not there for `{wanted}`, only for {}", platforms_of(.platforms))]
    Platform {
        /// The platform of this host.
        wanted: String,
        /// What there is.
        platforms: Vec<String>,
    },
    /// Layers passed by before it was known that they were to stay as they are.
    #[error("`{0}` is a layer of an image layout that is not compressed, which came before anything said so")]
    LateLayout(MemberName),
    /// It would have to be read again, and cannot be.
    #[error("a layer has to be sent from its start once more, and what it is read from is gone")]
    Gone,
    /// Nothing says which tag the image is to have.
    #[error("the image has no tag of its own")]
    NoTag,
}

/// Where JSON is wrong, and how, as far as an error has room for what it says.
#[derive(Debug)]
pub struct JsonError(serde_json::Error);

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self(error)
    }
}

impl std::error::Error for JsonError {}

impl fmt::Display for JsonError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.0.to_string();
        let place = format!(" at line {} column {}", self.0.line(), self.0.column());
        match said.strip_suffix(&place) {
            Some(said) => write!(formatter, "{}{place}", shown(said)),
            None => formatter.write_str(&shown(&said)),
        }
    }
}

impl ArchiveFault {
    /// Whether it could be decompressed with more memory than any archive gets.
    pub fn wants_memory(&self) -> bool {
        // The libraries of zstd and xz have no kinds of errors for it.
        let is_so = |said: &str| said.contains("requires too much memory") || said.contains("memory limit");
        matches!(self, Self::Compressed { source, .. } if is_so(&source.to_string()))
    }
}

/// So many are listed.
const MOST: usize = 20;

/// So many names of one of several images.
const MOST_NAMES: usize = 3;

fn listed(images: &[Listed]) -> String {
    let more = if images.len() > MOST { " and more" } else { "" };
    let images: Vec<String> = images.iter().take(MOST).map(Listed::to_string).collect();
    images.join(", ") + more
}

impl fmt::Display for Listed {
    /// Its names, its place, and what it is for.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names.as_slice() {
            [] => formatter.write_str("one without a name")?,
            names => {
                let names = names.iter().take(MOST_NAMES).map(|name| format!("`{}`", shown(name)));
                let more = (self.names.len() > MOST_NAMES).then(|| "more".to_owned());
                formatter.write_str(&names.chain(more).collect::<Vec<_>>().join(" and "))?;
            }
        }
        write!(formatter, " (`@{}`", self.place())?;
        let platform = self.platform.as_ref().map(|platform| shown(&platform.to_string()));
        platform.iter().try_for_each(|platform| write!(formatter, ", for {platform}"))?;
        formatter.write_str(")")
    }
}

fn platforms_of(list: &[String]) -> String {
    if list.is_empty() { "machines that its list does not tell".to_owned() } else { quoted(list) }
}

/// What somebody else wrote, as far as there is room for it.
pub(super) fn quoted(texts: &[impl AsRef<str>]) -> String {
    let more = if texts.len() > MOST { " and more" } else { "" };
    let texts: Vec<String> = texts.iter().take(MOST).map(|text| shown(text.as_ref())).collect();
    format!("`{}`{more}", texts.join("`, `"))
}
