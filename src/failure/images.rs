//! Who can fix what is wrong with images that somebody else has made or planned.

use std::io;

use super::Failure;
use super::classify::is_of_host;
use crate::source::KeyError;
use crate::source::archive::{ArchiveError, ArchiveFault};
use crate::source::nix2container::{ImageJsonError, LayerError};

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let fix = match &*error.fault {
            ArchiveFault::Read(source) if is_of_host(source) => return Self::system(error),
            ArchiveFault::Sink(_) => return Self::system(error),
            ArchiveFault::Read(_) => "let it be read, with no link that leads out of it",
            ArchiveFault::NoImages("`manifest.json`") => {
                "if it is an image layout, name it `oci-archive:FILE`, or `oci-archive:-` what a program writes; else name \
                 an archive of `docker save`, `skopeo copy` or `dockerTools`"
            }
            ArchiveFault::NoImages("`index.json`") => {
                "if `docker save`, `skopeo copy` or `dockerTools` has written it, name it `docker-archive:FILE`; else name an \
                 image layout"
            }
            ArchiveFault::Empty => "look at what writes it: not a byte has come from there",
            ArchiveFault::NoTar | ArchiveFault::NoImages(_) => {
                "name an archive that `docker save`, `skopeo copy` or a script of `dockerTools` has written, or an image \
                 layout"
            }
            fault if fault.wants_memory() => {
                "compress it with a smaller window: `zstd` without `--long` and `--ultra`, `xz` with `-9` at the most"
            }
            ArchiveFault::Sparse(_) => "make the archive without sparse members: `tar` without `--sparse`",
            ArchiveFault::OtherDigest { .. } => {
                "make it anew, with digests of sha256: no others are known here"
            }
            ArchiveFault::LayoutVersion(_) => {
                "let `skopeo copy` make the layout anew: version 1 alone is known here"
            }
            ArchiveFault::Compressed { .. }
            | ArchiveFault::Truncated(_)
            | ArchiveFault::Surplus
            | ArchiveFault::Header { .. }
            | ArchiveFault::Sizes { .. }
            | ArchiveFault::Name(_)
            | ArchiveFault::Circle(_)
            | ArchiveFault::Duplicate(_)
            | ArchiveFault::Json { .. }
            | ArchiveFault::Missing { .. }
            | ArchiveFault::NoLayer(_)
            | ArchiveFault::NoDigest { .. }
            | ArchiveFault::NoConfig(_)
            | ArchiveFault::Count { .. }
            | ArchiveFault::DiffId { .. }
            | ArchiveFault::OtherName { .. }
            | ArchiveFault::Blob { .. } => "make the archive anew: it is damaged, or somebody has changed it",
            ArchiveFault::Changed(_) => "let nobody write to it while it is pushed",
            ArchiveFault::TooMany(_) | ArchiveFault::TooLarge { .. } => {
                "leave out what is no part of the image; no image has so much"
            }
            ArchiveFault::MediaType { .. } => "let `skopeo copy --format oci` write the layout",
            ArchiveFault::NoSuch { .. } | ArchiveFault::Several(_) => {
                "name one image: for `nixlayer push` behind the file or folder, as in `docker-archive:FILE:NAME`, \
                 `oci-archive:FILE:NAME` or `oci:FOLDER:NAME`, or by its place, from `@0` on; in a Nix file, make an archive of one image"
            }
            ArchiveFault::Platform { .. } => "let the archive have one image alone, or one for this platform",
            ArchiveFault::LateLayout(_) => {
                "say what it is, `oci-archive:-` for `nixlayer push`, or let it be a file"
            }
            ArchiveFault::Gone => "write the archive into a file first, and push that",
            ArchiveFault::NoTag => {
                "name a tag: `HOST/REPOSITORY:TAG` for `nixlayer push`, `NIXLAYER_TAGS` for a job"
            }
        };
        Self::build(error, fix)
    }
}

impl From<ImageJsonError> for Failure {
    fn from(error: ImageJsonError) -> Self {
        match error {
            ImageJsonError::TooLarge { .. } => {
                Self::build(error, "name the file that `buildImage` makes, or make several images of it")
            }
            ImageJsonError::Version { .. } => Self::build(error, "use nix2container 1.0"),
            ImageJsonError::Key(KeyError::Unknown { .. }) => {
                Self::build(error, "leave out of the Nix file what nix2container 1.0 does not know")
            }
            ImageJsonError::Json { .. } => {
                Self::build(error, "name the file that nix2container's `buildImage` makes")
            }
            ImageJsonError::Key(KeyError::Value { .. }) => {
                Self::build(error, "correct what `buildImage` or `buildLayer` is given in the Nix file")
            }
        }
    }
}

impl From<LayerError> for Failure {
    fn from(error: LayerError) -> Self {
        match error {
            // Nix lets everybody read what is in the store.
            LayerError::Read { .. } | LayerError::Write(_) => Self::system(error),
            LayerError::Archive { ref source, .. }
                if is_of_host(source) || source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Self::system(error)
            }
            LayerError::Archive { .. } => Self::build(
                error,
                "let it be a file of the store, with no link that leads out of it: a tar, compressed as its `mediatype` says",
            ),
            LayerError::TooLarge { .. } => {
                Self::build(error, "leave out what is no part of the image; no image has so much")
            }
            LayerError::Kind(_) => Self::build(error, "put files, folders and links alone into the image"),
            LayerError::Pattern(_) => Self::build(error, "write a shorter or simpler `regex` in `perms`"),
            LayerError::Place { .. } | LayerError::TooLong { .. } => {
                Self::build(error, "let paths be moved to places below `/`, as `copyToRoot` does")
            }
            LayerError::Conflict { .. } => Self::build(
                error,
                "leave one of the two out of the layer, or merge them in one derivation, with `buildEnv` for example",
            ),
            LayerError::Below { .. } => {
                Self::build(error, "leave one of the two out of the layer, or move it elsewhere")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn a_store_path_that_cannot_be_read_is_nothing_that_the_job_says() {
        let path = "/nix/store/00000000000000000000000000000000-app/secret".to_owned();
        let source = io::ErrorKind::PermissionDenied.into();

        let read = Failure::from(LayerError::Read { path: path.clone(), source });
        let archive = io::ErrorKind::PermissionDenied.into();
        let archive = Failure::from(LayerError::Archive { path, source: archive });

        for failure in [read, archive] {
            assert_eq!(failure.kind(), Kind::System);
            assert!(!failure.to_string().contains("mediatype"), "{failure}");
        }
    }

    #[test]
    fn a_layer_that_is_too_large_is_not_said_to_be_no_file() {
        let path = "/nix/store/00000000000000000000000000000000-layer.tar".to_owned();

        let failure = Failure::from(LayerError::TooLarge { path, most: 1 << 40 });

        assert_eq!(failure.kind(), Kind::Build);
        assert!(failure.to_string().contains("leave out what is no part of the image"), "{failure}");
    }
}
