//! An image layout: a folder that holds images as files (image specification, "OCI Image Layout").
//!
//! Every file gets its name when it is complete, blobs before the index, so that whoever reads the
//! folder, or finds it after a crash, sees whole images only.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::blob::BlobEnd;
use super::{Blob, PublishError, Stored};
use crate::folder::NewFile;
use crate::oci::image::canonical_json;
use crate::oci::{Descriptor, Digest, Image, REF_NAME, Tag, media_type};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde_json::{Map, Value, json};

/// How long, and how often, a lock is waited for that others hold for as long as an index takes to write.
const LOCKED: Duration = Duration::from_millis(20);
const MOST_LOCKED: u32 = 500;

/// An image layout in a folder.
#[derive(Debug)]
pub struct OciLayout {
    folder: PathBuf,
}

impl OciLayout {
    /// The layout in `folder`, which is made where it is missing.
    pub fn open(folder: PathBuf) -> Result<Self, PublishError> {
        fs::create_dir_all(&folder).map_err(trouble(&folder))?;
        let layout = Self { folder };
        let _alone = layout.lock()?;
        let mark = layout.folder.join("oci-layout");
        if !mark.exists() {
            let mut files = fs::read_dir(&layout.folder).map_err(trouble(&layout.folder))?;
            // What somebody who was killed has left is nobody's.
            let is_left = |file: &fs::DirEntry| file.file_name().to_string_lossy().starts_with(".tmp");
            if !files.all(|file| file.is_ok_and(|file| is_left(&file))) {
                let other = io::Error::other("it holds something else than an image layout");
                return Err(trouble(&layout.folder)(other));
            }
            write_file(&mark, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        let said: Value =
            serde_json::from_slice(&fs::read(&mark).map_err(trouble(&mark))?).unwrap_or_default();
        if !said["imageLayoutVersion"].as_str().is_some_and(|version| version.starts_with("1.")) {
            return Err(trouble(&mark)(io::Error::other(
                "it says no version of image layouts that is known here",
            )));
        }
        let blobs = layout.folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(trouble(&blobs))?;
        // What is no list of images is told before a blob is written for it.
        read_index(&layout.folder.join("index.json"))?;
        Ok(layout)
    }

    /// Keeps other processes, and other threads, from changing what the layout lists, as long as the file is there.
    /// NFS locks no folders: there, as anywhere, one process that writes needs no lock.
    fn lock(&self) -> Result<File, PublishError> {
        let folder = File::open(&self.folder).map_err(trouble(&self.folder))?;
        for _ in 0..MOST_LOCKED {
            match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(LOCKED),
                Ok(()) | Err(_) => return Ok(folder),
            }
        }
        Err(trouble(&self.folder)(io::Error::other(
            "another process holds a lock on it, and does not let go",
        )))
    }

    /// Writes a blob, on a thread that may block, as long as it is `wanted`. It counts once it is complete.
    pub(super) fn put_blob(&self, mut blob: Blob, wanted: &dyn Fn() -> bool) -> Result<Stored, PublishError> {
        let folder = self.folder.join("blobs/sha256");
        let mut file = NewFile::create_in(&folder).map_err(trouble(&folder))?;
        while let Some(chunk) = blob.blocking_next() {
            if !wanted() {
                return Err(trouble(&folder)(io::ErrorKind::Interrupted.into()));
            }
            file.write_all(&chunk).map_err(trouble(&folder))?;
        }
        let BlobEnd { digest, size } = blob.blocking_end()?;
        let path = folder.join(digest.hex());
        if fs::metadata(&path).is_ok_and(|found| found.len() == size) {
            return Ok(Stored { digest, size, reused: true, sent: 0 });
        }
        keep(file, &path)?;
        Ok(Stored { digest, size, reused: false, sent: size })
    }

    /// Whether a blob of `size` bytes is there; one that is has been written whole.
    pub(super) fn has_blob(&self, digest: &Digest, size: u64) -> bool {
        let file = fs::metadata(self.folder.join("blobs/sha256").join(digest.hex()));
        file.is_ok_and(|file| file.is_file() && file.len() == size)
    }

    /// Writes an image whose layers are there, and lists it.
    pub(super) fn put_image(&self, image: &Image, tags: &[Tag]) -> Result<(), PublishError> {
        let config = self.folder.join("blobs/sha256").join(image.config().digest.hex());
        write_file(&config, image.config_bytes())?;
        self.put_manifest(image.manifest_bytes(), tags)
    }

    /// Lists an image all of whose blobs are there: once per tag, in the place of what the tag named
    /// before.
    pub fn put_manifest(&self, manifest: &[u8], tags: &[Tag]) -> Result<(), PublishError> {
        let manifest_descriptor = Descriptor::of(media_type::of_manifest(manifest), manifest);
        write_file(&self.folder.join("blobs/sha256").join(manifest_descriptor.digest.hex()), manifest)?;
        let _alone = self.lock()?;
        let path = self.folder.join("index.json");
        let (mut index, mut manifests) = read_index(&path)?;
        let names: Vec<_> = tags.iter().map(|tag| Some(tag.as_str())).collect();
        for name in if names.is_empty() { vec![None] } else { names } {
            let entry = entry(&manifest_descriptor, name);
            manifests.retain(|other| match name {
                Some(name) => other["annotations"][REF_NAME] != name,
                None => *other != entry,
            });
            manifests.push(entry);
        }
        index.insert("manifests".to_owned(), manifests.into());
        write_file(&path, &canonical_json(&index.into()))
    }
}

fn entry(manifest: &Descriptor, name: Option<&str>) -> Value {
    let mut descriptor = manifest.clone();
    descriptor.annotations.extend(name.map(|name| (REF_NAME.to_owned(), name.to_owned())));
    descriptor.to_json()
}

/// An index, and the manifests that it lists.
fn read_index(path: &Path) -> Result<(Map<String, Value>, Vec<Value>), PublishError> {
    let unreadable = |reason| PublishError::LayoutIndex { path: path.to_owned(), reason };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let new = json!({ "schemaVersion": 2, "mediaType": media_type::INDEX });
            return Ok((new.as_object().cloned().unwrap_or_default(), Vec::new()));
        }
        Err(error) => return Err(trouble(path)(error)),
    };
    let index: Value = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    let Value::Object(index) = index else { return Err(unreadable("it is no JSON object".to_owned())) };
    let Some(Value::Array(manifests)) = index.get("manifests").cloned() else {
        return Err(unreadable("`manifests` is no list".to_owned()));
    };
    Ok((index, manifests))
}

/// Puts a file in place of another, whole.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), PublishError> {
    let folder = path.parent().unwrap_or(path);
    let mut file = NewFile::create_in(folder).map_err(trouble(folder))?;
    file.write_all(bytes).map_err(trouble(path))?;
    keep(file, path)
}

fn keep(file: NewFile, path: &Path) -> Result<(), PublishError> {
    use std::os::unix::fs::PermissionsExt;
    // A new file is for its owner alone; a layout is for whoever may read the folder.
    let shared = file.as_file().set_permissions(fs::Permissions::from_mode(0o644));
    shared.and_then(|()| file.as_file().sync_all()).map_err(trouble(path))?;
    file.keep(path).map_err(trouble(path))
}

fn trouble(path: &Path) -> impl Fn(io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::Layout { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use tokio::sync::Notify;

    use super::*;
    use crate::oci::{Digest, ImageSource, Platform};
    use crate::publish::Destination;

    fn image(created: &str) -> Image {
        Image::assemble(ImageSource {
            platform: Platform { architecture: "amd64".to_owned(), variant: None },
            created: created.to_owned(),
            config: serde_json::Map::new(),
            layers: Vec::new(),
            annotations: Default::default(),
        })
    }

    fn tags(names: &[&str]) -> Vec<Tag> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn listed(folder: &Path) -> Vec<(Option<String>, String)> {
        let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
        let manifests = index["manifests"].as_array().unwrap().iter();
        let listed = manifests.map(|entry| {
            let name = entry["annotations"][REF_NAME].as_str().map(str::to_owned);
            (name, entry["digest"].as_str().unwrap().to_owned())
        });
        listed.collect()
    }

    #[test]
    fn a_tag_moves_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let layout = OciLayout::open(folder.path().to_owned()).unwrap();
        let (old, new) = (image("2020-01-01T00:00:00Z"), image("2021-01-01T00:00:00Z"));

        layout.put_image(&old, &tags(&["1", "latest"])).unwrap();
        layout.put_image(&new, &tags(&["2", "latest"])).unwrap();
        layout.put_image(&new, &[]).unwrap();
        layout.put_image(&new, &[]).unwrap();

        let (old, new) = (old.digest().to_string(), new.digest().to_string());
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(
            listed(folder.path()),
            [(named("1"), old), (named("2"), new.clone()), (named("latest"), new.clone()), (None, new)]
        );
    }

    #[test]
    fn a_blob_is_stored_once_under_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let layout = OciLayout::open(folder.path().to_owned()).unwrap();

        let first = layout.put_blob(Blob::of(Bytes::from_static(b"abc")), &|| true).unwrap();
        let second = layout.put_blob(Blob::of(Bytes::from_static(b"abc")), &|| true).unwrap();

        assert_eq!((first.reused, second.reused), (false, true));
        let blobs = folder.path().join("blobs/sha256");
        assert_eq!(fs::read(blobs.join(Digest::of(b"abc").hex())).unwrap(), b"abc");
        assert_eq!(fs::read_dir(blobs).unwrap().count(), 1);
    }

    #[test]
    fn a_blob_whose_producer_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let layout = OciLayout::open(folder.path().to_owned()).unwrap();
        let (mut writer, blob) = Blob::channel(2);
        let thread = std::thread::spawn(move || {
            writer.write_all(b"abcd").unwrap();
        });

        let error = layout.put_blob(blob, &|| true).unwrap_err();

        thread.join().unwrap();
        assert!(matches!(error, PublishError::ProducerGone));
        assert_eq!(fs::read_dir(folder.path().join("blobs/sha256")).unwrap().count(), 0);
    }

    #[test]
    fn a_foreign_index_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let layout = OciLayout::open(folder.path().to_owned()).unwrap();
        for text in ["[]", "{", r#"{"manifests":{}}"#] {
            fs::write(folder.path().join("index.json"), text).unwrap();

            let error = layout.put_image(&image("2020-01-01T00:00:00Z"), &[]).unwrap_err();
            let at_once = OciLayout::open(folder.path().to_owned()).unwrap_err();

            assert!(matches!(error, PublishError::LayoutIndex { .. }), "{text}");
            assert!(matches!(at_once, PublishError::LayoutIndex { .. }), "{text}");
            assert_eq!(fs::read_to_string(folder.path().join("index.json")).unwrap(), text);
        }
    }

    /// Each lock is of a file of its own, as that of another process is.
    #[test]
    fn whoever_adds_to_a_layout_at_the_same_time_is_listed() {
        for _ in 0..8 {
            let parent = tempfile::tempdir().unwrap();
            let folder = parent.path().join("layout");
            let add = |number: usize| {
                let layout = OciLayout::open(folder.clone()).unwrap();
                layout.put_image(&image("2020-01-01T00:00:00Z"), &tags(&[&format!("t{number}")])).unwrap();
            };
            std::thread::scope(|scope| (0..8).for_each(|number| drop(scope.spawn(move || add(number)))));

            assert_eq!(listed(&folder).len(), 8);
        }
    }

    #[test]
    fn a_folder_of_something_else_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("notes.txt"), "").unwrap();

        let refused = OciLayout::open(folder.path().to_owned()).unwrap_err();

        assert!(matches!(refused, PublishError::Layout { .. }), "{refused:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
        let newer = OciLayout::open(folder.path().to_owned()).unwrap_err();

        assert!(matches!(newer, PublishError::Layout { .. }), "{newer:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn a_blob_that_nobody_waits_for_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Arc::new(OciLayout::open(folder.path().to_owned()).unwrap());
        let files = || fs::read_dir(folder.path().join("blobs/sha256")).unwrap().count();
        let (mut writer, blob) = Blob::channel(4);
        let blob = Mutex::new(Some(blob));
        let begun = Arc::new(Notify::new());
        let begins = Arc::clone(&begun);
        let put = tokio::spawn(async move {
            let make = move || {
                begins.notify_one();
                blob.lock().unwrap().take().unwrap()
            };
            Destination::OciLayout(layout).put_blob(&make).await
        });
        let started = Instant::now();
        let long = move || started.elapsed() > Duration::from_secs(300);
        let producer = tokio::task::spawn_blocking(move || {
            while !long() {
                writer.write_all(b"abcd")?;
            }
            io::Result::Ok(())
        });
        begun.notified().await;

        put.abort();

        producer.await.unwrap().unwrap_err();
        assert_eq!(files(), 0);
    }
}
