//! Images that nix2container has planned: the file `image.json` that its `buildImage` makes.
//!
//! The file lists the layers of an image with their digests, and of each what it is made of: store paths,
//! possibly moved and with other permissions, or an archive that lies in the store. nix2container has
//! computed the digests when the file was built, so [`Layer::write`] must give the very bytes that it would:
//! Go's dialect of tar (see [`Dialect`](crate::layer::Dialect)), and these members:
//!
//! 1. All paths of a layer go into one tree, at their own place or where a regular expression moves them.
//! 2. The tree is written parents first, siblings by the bytes of their names. What no path has put there,
//!    `/` and `/nix/store` for example, is a folder with mode 0755.
//! 3. All is root's and has the mtime 1, unless the permissions of its path say otherwise.
//!
//! ```
//! use nixlayer::source::nix2container::Image;
//!
//! let json = br#"{
//!     "version": 1,
//!     "arch": "amd64",
//!     "created": "0001-01-01T00:00:00Z",
//!     "image-config": { "entrypoint": ["/bin/hello"] },
//!     "layers": []
//! }"#;
//! let image = Image::parse("image.json", json)?;
//!
//! assert_eq!(image.config["Entrypoint"][0], "/bin/hello");
//! # Ok::<(), nixlayer::source::nix2container::ImageJsonError>(())
//! ```

mod error;
mod image;
mod layer;
mod options;
mod pattern;
mod place;
#[cfg(test)]
mod test_host;
mod tree;

pub use error::{ImageJsonError, LayerError};
pub use image::Image;
pub use layer::Layer;
