//! How layers are compressed.

use super::blocks::Encoder;
use super::gzip::{self, GzipEncoder, GzipLevel};
use super::zstd::{self, ZstdEncoder, ZstdLevel};
use crate::oci::media_type;

/// How the tar of a layer becomes a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// gzip (RFC 1952): every registry and every container runtime reads it.
    Gzip(GzipLevel),
    /// Zstandard (RFC 8878): smaller in less time, for registries and runtimes that read it.
    Zstd(ZstdLevel),
}

impl Compression {
    /// A text that differs whenever the blob of the same tar may differ, such as
    /// `gzip-libdeflate-1.26.1-2-524288`: format, compressor, its version, level, bytes per block.
    pub fn id(self) -> String {
        let block = self.block_size();
        match self {
            Self::Gzip(level) => format!("gzip-libdeflate-{}-{}-{block}", gzip::LIBDEFLATE, level.number()),
            Self::Zstd(level) => format!("zstd-libzstd-{}-{}-{block}", zstd::version(), level.number()),
        }
    }

    /// The media type of a layer that is compressed so (image specification, "Media Types").
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip(_) => media_type::LAYER_GZIP,
            Self::Zstd(_) => media_type::LAYER_ZSTD,
        }
    }

    /// How many bytes of a tar are compressed at once.
    pub(super) fn block_size(self) -> usize {
        match self {
            Self::Gzip(_) => gzip::BLOCK,
            Self::Zstd(_) => zstd::BLOCK,
        }
    }

    pub(super) fn encoder(self) -> Box<dyn Encoder> {
        match self {
            Self::Gzip(level) => Box::new(GzipEncoder::new(level)),
            Self::Zstd(level) => Box::new(ZstdEncoder::new(level)),
        }
    }
}

impl Default for Compression {
    /// gzip at its default level.
    fn default() -> Self {
        Self::Gzip(GzipLevel::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    fn locked_version(package: &str) -> String {
        let lock: toml::Table = fs::read_to_string("Cargo.lock").unwrap().parse().unwrap();
        let mut packages = lock["package"].as_array().unwrap().iter();
        let found = packages.find(|entry| entry["name"].as_str() == Some(package)).unwrap();
        found["version"].as_str().unwrap().to_owned()
    }

    #[test]
    fn an_id_names_the_version_that_is_linked() {
        let gzip = format!("gzip-libdeflate-{}-2-524288", locked_version("libdeflate-sys"));
        let zstd_sys = locked_version("zstd-sys");
        let (_, libzstd) = zstd_sys.split_once("+zstd.").unwrap();

        assert_eq!(Compression::default().id(), gzip);
        assert_eq!(
            Compression::Zstd(ZstdLevel::DEFAULT).id(),
            format!("zstd-libzstd-{libzstd}-3-{}", zstd::BLOCK)
        );
    }

    #[test]
    fn every_level_has_an_id_of_its_own() {
        let gzip = (1..=12).map(|level| Compression::Gzip(GzipLevel::new(level).unwrap()));
        let zstd = (1..=19).map(|level| Compression::Zstd(ZstdLevel::new(level).unwrap()));

        let ids: BTreeSet<String> = gzip.chain(zstd).map(Compression::id).collect();

        assert_eq!(ids.len(), 12 + 19);
    }

    /// Image specification, "Media Types".
    #[test]
    fn media_types_are_those_of_the_specification() {
        let media_types =
            [Compression::default(), Compression::Zstd(ZstdLevel::DEFAULT)].map(Compression::media_type);

        let expected =
            ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd"];
        assert_eq!(media_types, expected);
    }
}
