//! How a layer leaves its archive: into a blob, and into another one where a registry has given that up.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::reading::{Arrival, Reading, Travel};
use crate::oci::Digest;
use crate::pipeline::BuildError;
use crate::publish::{Blob, BlobWriter, Destination, OpenUpload, PublishError, Stored};
use crate::source::archive::{ArchiveError, ArchiveFault, MemberName};

/// Who is told why a layer cannot be read again.
pub(super) type Failed = Box<dyn FnOnce(ArchiveError) + Send>;

/// Sends a blob; if there is none, or when it has to be sent again, what `again` makes.
pub(super) async fn send(
    destination: &Destination,
    open: Option<OpenUpload>,
    blob: Option<Blob>,
    again: impl Fn(Failed) -> Blob + Send + Sync,
) -> Result<Stored, BuildError> {
    let first = Mutex::new(blob);
    let failure = Arc::new(Mutex::new(None));
    let make = || {
        let taken = first.lock().ok().and_then(|mut first| first.take());
        taken.unwrap_or_else(|| {
            let failure = Arc::clone(&failure);
            again(Box::new(move |error| {
                if let Ok(mut failure) = failure.lock() {
                    *failure = Some(error);
                }
            }))
        })
    };
    let stored = destination.put_blob_into(open, &make).await;
    let why = failure.lock().ok().and_then(|mut failure| failure.take());
    match (stored, why) {
        (Err(PublishError::ProducerGone), Some(why)) => Err(why.into()),
        (stored, _) => Ok(stored?),
    }
}

impl Reading {
    /// A blob that comes from a thread of its own, which reads the layer once more. What it fails with is told to
    /// `failed`.
    pub(super) fn blob_again(
        &self,
        member: &MemberName,
        travel: Travel,
        arrivals: &mpsc::Sender<Arrival>,
        chunk: usize,
        failed: impl FnOnce(ArchiveError) + Send + 'static,
    ) -> Blob {
        let (writer, blob) = Blob::channel(chunk);
        if !self.source.is_lasting() {
            failed(self.source.error(ArchiveFault::Gone));
            return blob;
        }
        let (reading, member, arrivals) = (self.clone(), member.clone(), arrivals.clone());
        tokio::task::spawn_blocking(move || {
            // It keeps the writer until the reason is told: whoever finds the blob broken asks for that.
            let mut leaving = Leaving::into(writer, &arrivals);
            let source = &reading.source;
            let read =
                source.visit_layer(&member, |layer| reading.read(layer, travel, &mut leaving).map(drop));
            if let Err(error) = read {
                failed(error);
            }
        });
        blob
    }
}

/// Where a layer goes, for as long as somebody takes it. It fails when nobody waits for the archive any more.
pub(super) struct Leaving<'a> {
    pub(super) writer: Option<BlobWriter>,
    arrivals: &'a mpsc::Sender<Arrival>,
}

impl<'a> Leaving<'a> {
    pub(super) fn into(writer: BlobWriter, arrivals: &'a mpsc::Sender<Arrival>) -> Self {
        Self { writer: Some(writer), arrivals }
    }

    pub(super) fn nowhere(arrivals: &'a mpsc::Sender<Arrival>) -> Self {
        Self { writer: None, arrivals }
    }

    pub(super) fn finish(&mut self, digest: Digest) {
        if let Some(writer) = self.writer.take() {
            // Whoever took the bytes knows whether they all arrived.
            let _ = writer.finish(digest);
        }
    }
}

impl Write for Leaving<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.arrivals.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(writer) = &mut self.writer {
            match writer.write(bytes) {
                Ok(taken) => return Ok(taken),
                Err(_) => self.writer = None,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::layer::{Compression, Workers};
    use crate::publish::OciLayout;
    use crate::source::archive::{ArchiveSource, Form};

    #[tokio::test]
    async fn why_a_layer_cannot_be_read_again_is_told_before_its_blob_breaks() {
        let folder = TempDir::new().unwrap();
        let place = folder.path().join("a.tar");
        let mut tar = tar::Builder::new(File::create(&place).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(1024);
        // An empty tar is a layer, too.
        tar.append_data(&mut header, "l.tar", [0; 1024].as_slice()).unwrap();
        drop(tar);
        let source = ArchiveSource::file("a.tar", Form::Docker, File::open(&place).unwrap()).unwrap();
        let mut member = None;
        let seen = source.pass(&mut |layer| {
            member = Some(layer.member().clone());
            Ok(())
        });
        File::create(&place).unwrap();
        let (source, member) = (seen.map(|_| Arc::new(source)).unwrap(), member.unwrap());
        let reading =
            Reading { source, wanted: None, compression: Compression::default(), workers: Workers::new(1) };
        let (arrivals, _arrived) = mpsc::channel(1);
        let told = Arc::new(AtomicBool::new(false));
        let layout = Destination::OciLayout(Arc::new(OciLayout::open(folder.path().join("layout")).unwrap()));

        let make = || {
            let told = Arc::clone(&told);
            reading.blob_again(&member, Travel::Compressed { diff_id: None }, &arrivals, 1, move |_| {
                std::thread::sleep(Duration::from_millis(200));
                told.store(true, Ordering::SeqCst);
            })
        };
        let stored = layout.put_blob(&make).await;

        assert!(matches!(stored, Err(PublishError::ProducerGone)));
        assert!(told.load(Ordering::SeqCst));
    }
}
