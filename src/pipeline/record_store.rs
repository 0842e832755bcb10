//! The records of layers that this host has made itself: a folder with a file for each, named by its key.
//!
//! A file counts if it says what it should about the key in its name and has the digest of its own text, so
//! what a crash or a full disk left of one is as good as none. Files are put in place whole, and two jobs that
//! write the same one write the same text.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::folder::{self, NewFile};
use crate::layer::LayerKey;
use crate::oci::Digest;
use crate::record::Record;

/// Records in one of the 256 folders; older ones make room for new ones. In all, these are the layers of more
/// than 600 images that share none.
const MOST_IN_FOLDER: usize = 256;

/// Records of layers, as files of this user.
#[derive(Clone, Debug)]
pub struct RecordStore {
    folder: PathBuf,
}

impl RecordStore {
    /// The records in `folder`, which is made where it is missing. Fails if others can write to it.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        folder::make_private(&folder)?;
        Ok(Self { folder })
    }

    /// The record of `key`, if there is a good one.
    pub(super) fn get(&self, key: &LayerKey) -> Option<Record> {
        let text = fs::read_to_string(self.file(key)).ok()?;
        let (line, digest) = text.strip_suffix('\n')?.split_once('\n')?;
        if digest != Digest::of(line.as_bytes()).to_string() {
            return None;
        }
        line.parse().ok().filter(|record: &Record| record.key == *key)
    }

    /// Keeps a record, in the place of an older one.
    pub(super) fn put(&self, record: &Record) -> io::Result<()> {
        let file = self.file(&record.key);
        let folder = file.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        let line = record.to_string();
        let mut new = NewFile::create_in(folder)?;
        writeln!(new, "{line}\n{}", Digest::of(line.as_bytes()))?;
        new.keep(&file)?;
        make_room(folder)
    }

    fn file(&self, key: &LayerKey) -> PathBuf {
        let key = key.to_string();
        let hex = key.trim_start_matches("sha256:");
        let (folder, file) = hex.split_at(2);
        self.folder.join(folder).join(file)
    }
}

/// Removes the oldest of too many files. Another job may have been faster.
fn make_room(folder: &Path) -> io::Result<()> {
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    if paths.len() <= MOST_IN_FOLDER {
        return Ok(());
    }
    let age = |path: PathBuf| Some((fs::metadata(&path).ok()?.modified().ok()?, path));
    let mut files: Vec<_> = paths.into_iter().filter_map(age).collect();
    files.sort();
    for (_, path) in files.iter().rev().skip(MOST_IN_FOLDER) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::layer::LayerDigests;

    fn record(text: &str) -> Record {
        let digest = Digest::of(text.as_bytes());
        let diff_id = digest.to_string().parse().unwrap();
        let layer = LayerDigests { diff_id, digest, size: 7, uncompressed_size: 10_240 };
        Record { key: LayerKey::of_root("gzip", text.as_bytes()), layer }
    }

    fn store() -> (tempfile::TempDir, RecordStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = RecordStore::open(folder.path().join("records")).unwrap();
        (folder, store)
    }

    #[test]
    fn a_record_is_found_again_by_another_process() {
        let (folder, store) = store();
        store.put(&record("a")).unwrap();

        let again = RecordStore::open(folder.path().join("records")).unwrap();

        assert_eq!(again.get(&record("a").key), Some(record("a")));
        assert_eq!(again.get(&record("b").key), None);
    }

    #[test]
    fn the_newest_record_of_a_key_counts() {
        let (_folder, store) = store();
        let new = Record { layer: record("other").layer, ..record("a") };
        store.put(&record("a")).unwrap();

        store.put(&new).unwrap();

        assert_eq!(store.get(&new.key), Some(new));
    }

    /// As a crash, a bad disk or a curious admin may leave it.
    #[test]
    fn a_file_that_is_not_whole_counts_as_none() {
        let (_folder, store) = store();
        let good = record("a");
        store.put(&good).unwrap();
        let file = store.file(&good.key);
        let text = fs::read(&file).unwrap();
        for length in 0..text.len() {
            fs::write(&file, &text[..length]).unwrap();
            assert_eq!(store.get(&good.key), None, "{length} bytes");
        }
        for place in 0..text.len() {
            let mut changed = text.clone();
            changed[place] ^= 1;
            fs::write(&file, changed).unwrap();
            assert_eq!(store.get(&good.key), None, "byte {place}");
        }
        fs::write(&file, text).unwrap();
        let other = store.file(&record("b").key);
        fs::create_dir_all(other.parent().unwrap()).unwrap();
        fs::rename(&file, other).unwrap();
        assert_eq!(store.get(&record("b").key), None);
    }

    #[test]
    fn old_records_make_room() {
        let (_folder, store) = store();
        let first = record("a");
        store.put(&first).unwrap();
        let folder = store.file(&first.key).parent().unwrap().to_owned();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        File::open(store.file(&first.key)).unwrap().set_modified(now).unwrap();
        for number in 1..=300u64 {
            let file = File::create(folder.join(format!("{number}"))).unwrap();
            file.set_modified(now + Duration::from_secs(number)).unwrap();
        }

        make_room(&folder).unwrap();

        assert_eq!(store.get(&first.key), None);
        let mut left: Vec<u64> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().parse().unwrap())
            .collect();
        left.sort_unstable();
        assert_eq!(left, (45..=300).collect::<Vec<_>>());
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();

        assert!(RecordStore::open(folder.path().to_owned()).is_err());
    }

    #[test]
    fn jobs_at_the_same_time_do_not_disturb_each_other() {
        let (_folder, store) = store();
        let records: Vec<Record> = (0..20).map(|number| record(&number.to_string())).collect();

        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for record in &records {
                        store.put(record).unwrap();
                        assert_eq!(store.get(&record.key), Some(*record));
                    }
                });
            }
        });

        assert!(records.iter().all(|record| store.get(&record.key) == Some(*record)));
    }
}
