//! Content on its way out: read and hashed on a thread, a few chunks ahead of the socket, the last chunk held back until
//! everything is known to be right.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::error::RegistryError;
use super::progress::Progress;
use crate::http::IDLE_TIMEOUT;
use crate::oci::{Descriptor, Digest, DigestAlgorithm, Digester};
use crate::source::Source;

/// The bytes of one chunk. With four chunks queued in each upload's channel and connection, that is what bounds memory.
const CHUNK: usize = 128 << 10;
/// How many chunks are read ahead.
const AHEAD: usize = 2;
/// How long a registry may think after the last byte: those that store on S3 copy the blob then.
pub(super) const FINISH_TIMEOUT: Duration = Duration::from_secs(600);

/// Content that can be read again whenever an upload has to start anew.
#[derive(Clone)]
pub(super) enum Content {
    /// A few bytes.
    Bytes(Bytes),
    /// A blob of the source image.
    Blob(Arc<dyn Source>),
    /// A layer of the source image, compressed on the way. It comes out the same each time.
    Compressed { source: Arc<dyn Source>, diff_id: Digest, threads: usize },
}

impl Content {
    /// Opens the content. `digest` is that of what comes out.
    fn open(&self, digest: Option<&Digest>) -> Result<Box<dyn Read + Send>, RegistryError> {
        let open = |source: &Arc<dyn Source>, digest: &Digest| {
            source
                .open(digest)
                .map_err(|source| RegistryError::Source { digest: digest.clone(), source: Box::new(source) })
        };
        match (self, digest) {
            (Self::Bytes(bytes), _) => Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
            (Self::Blob(source), Some(digest)) => open(source, digest),
            (Self::Blob(_), None) => Ok(Box::new(std::io::empty())),
            (Self::Compressed { source, diff_id, threads }, _) => {
                let checked = DiffIdReader::new(open(source, diff_id)?, diff_id);
                Ok(Box::new(crate::source::gzip::compress(Box::new(checked), *threads)))
            }
        }
    }

    /// Returns the digest to name when reading fails.
    fn name<'a>(&'a self, expected: Option<&'a Descriptor>) -> Option<&'a Digest> {
        match self {
            Self::Compressed { diff_id, .. } => Some(diff_id),
            _ => expected.map(|descriptor| &descriptor.digest),
        }
    }
}

/// What came out of a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Content that is being read.
pub(super) struct Outgoing {
    first: Option<Bytes>,
    chunks: mpsc::Receiver<std::io::Result<Bytes>>,
    reader: JoinHandle<Result<Measured, Fault>>,
    pub(super) pace: Arc<Pace>,
}

/// Why reading ended early.
enum Fault {
    /// The source is at fault.
    Source(RegistryError),
    /// Nobody wants the bytes any more.
    Abandoned,
}

impl Outgoing {
    /// Starts to read `content`, and waits for its first chunk, so that what cannot be read is never announced.
    ///
    /// With `expected`, the body ends in an error instead of its last chunk when size or digest are not as expected.
    pub(super) async fn start(
        content: &Content,
        expected: Option<&Descriptor>,
        progress: &Arc<Progress>,
    ) -> Result<Self, RegistryError> {
        let (sender, mut chunks) = mpsc::channel(AHEAD);
        let (content, expected) = (content.clone(), expected.cloned());
        let reader = tokio::task::spawn_blocking(move || {
            let outcome = pump(&content, expected.as_ref(), &sender);
            if matches!(outcome, Err(Fault::Source(_))) {
                // Without this error the end of the channel would look like the end of the content.
                let _gone = sender.blocking_send(Err(std::io::Error::other("the source image cannot be read")));
            }
            outcome
        });
        let first = chunks.recv().await;
        let pace = Arc::new(Pace::new(Arc::clone(progress)));
        let mut outgoing = Self { first: None, chunks, reader, pace };
        match first {
            Some(Ok(chunk)) => outgoing.first = Some(chunk),
            Some(Err(_)) => drop(outgoing.finish().await?),
            None => {}
        }
        Ok(outgoing)
    }

    /// Returns the content as a stream. Call [`Outgoing::finish`] when it was sent.
    pub(super) fn stream(&mut self) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
        // What remains here is a channel that is closed already.
        let (_, closed) = mpsc::channel(1);
        let chunks = std::mem::replace(&mut self.chunks, closed);
        stream::unfold((self.first.take(), chunks, Arc::clone(&self.pace)), async |(first, mut chunks, pace)| {
            pace.wait_for_source();
            let chunk = match first {
                Some(chunk) => Some(Ok(chunk)),
                None => chunks.recv().await,
            };
            pace.deliver(chunk.as_ref().and_then(|chunk| chunk.as_ref().ok()));
            chunk.map(|chunk| (chunk, (None, chunks, pace)))
        })
    }

    /// Returns the next chunk, or `None` at the end.
    pub(super) async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        match self.first.take() {
            Some(chunk) => Some(Ok(chunk)),
            None => self.chunks.recv().await,
        }
    }

    /// Stops reading and returns what was read, or why it is not what it should be. `None`: nobody wanted all of it.
    pub(super) async fn finish(&mut self) -> Result<Option<Measured>, RegistryError> {
        self.chunks.close();
        match (&mut self.reader).await {
            Ok(Ok(measured)) => Ok(Some(measured)),
            Ok(Err(Fault::Source(error))) => Err(error),
            Ok(Err(Fault::Abandoned)) | Err(_) => Ok(None),
        }
    }
}

/// Reads `content` to its end, a chunk ahead of what it sends.
fn pump(
    content: &Content,
    expected: Option<&Descriptor>,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) -> Result<Measured, Fault> {
    let mut reader = content.open(expected.map(|descriptor| &descriptor.digest)).map_err(Fault::Source)?;
    let algorithm = expected.map_or(DigestAlgorithm::Sha256, |descriptor| descriptor.digest.algorithm());
    let mut digester = Digester::new(algorithm);
    let mut size = 0;
    let mut held: Option<Bytes> = None;
    loop {
        let chunk = read_chunk(&mut reader).map_err(|error| read_fault(content, expected, error))?;
        if chunk.is_empty() {
            break;
        }
        digester.update(&chunk);
        size += chunk.len() as u64;
        if let Some(descriptor) = expected.filter(|descriptor| size > descriptor.size) {
            let reason = format!("it is longer than {} bytes", descriptor.size);
            return Err(wrong_content(&descriptor.digest, reason));
        }
        if let Some(previous) = held.replace(chunk) {
            sender.blocking_send(Ok(previous)).map_err(|_| Fault::Abandoned)?;
        }
    }
    let measured = Measured { digest: digester.finish(), size };
    if let Some(descriptor) = expected {
        if measured.size != descriptor.size {
            let reason = format!("it has {} bytes instead of {}", measured.size, descriptor.size);
            return Err(wrong_content(&descriptor.digest, reason));
        }
        if measured.digest != descriptor.digest {
            let reason = format!("its content has digest `{}`", measured.digest);
            return Err(wrong_content(&descriptor.digest, reason));
        }
    }
    if let Some(last) = held {
        sender.blocking_send(Ok(last)).map_err(|_| Fault::Abandoned)?;
    }
    Ok(measured)
}

/// Reads a whole chunk, or what is left.
fn read_chunk(reader: &mut dyn Read) -> std::io::Result<Bytes> {
    let mut chunk = CHUNKS.take();
    let mut filled = 0;
    while filled < CHUNK {
        match reader.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Bytes::from_owner(Chunk { bytes: chunk, filled }))
}

fn read_fault(content: &Content, expected: Option<&Descriptor>, error: std::io::Error) -> Fault {
    let digest = content.name(expected).cloned().unwrap_or_else(|| Digest::of(&[]));
    match error.downcast::<WrongDiffId>() {
        Ok(wrong) => wrong_content(&digest, wrong.to_string()),
        Err(source) => Fault::Source(RegistryError::SourceRead { digest, source }),
    }
}

fn wrong_content(digest: &Digest, reason: String) -> Fault {
    Fault::Source(RegistryError::SourceContent { digest: digest.clone(), reason })
}

/// Checks the uncompressed bytes of a layer as they pass by. A wrong layer ends in an error, not in its end.
struct DiffIdReader {
    reader: Box<dyn Read + Send>,
    digester: Option<Digester>,
    diff_id: Digest,
}

impl DiffIdReader {
    fn new(reader: Box<dyn Read + Send>, diff_id: &Digest) -> Self {
        Self { reader, digester: Some(Digester::new(diff_id.algorithm())), diff_id: diff_id.clone() }
    }
}

impl Read for DiffIdReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            if let Some(digester) = &mut self.digester {
                digester.update(&buffer[..count]);
            }
            return Ok(count);
        }
        match self.digester.take().map(Digester::finish) {
            Some(actual) if actual != self.diff_id => Err(std::io::Error::other(WrongDiffId { actual })),
            _ => Ok(0),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("its content has digest `{actual}`")]
struct WrongDiffId {
    actual: Digest,
}

/// Chunks that are used again and again: fresh ones would each be a system call and a page fault per 4 KiB.
static CHUNKS: ChunkPool = ChunkPool(Mutex::new(Vec::new()));

struct ChunkPool(Mutex<Vec<Vec<u8>>>);

impl ChunkPool {
    /// The most chunks that are kept.
    const KEPT: usize = 64;

    fn take(&self) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; CHUNK])
    }

    fn give_back(&self, chunk: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < Self::KEPT {
            kept.push(chunk);
        }
    }
}

/// A chunk that returns to the pool once the socket has taken it.
struct Chunk {
    bytes: Vec<u8>,
    filled: usize,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        CHUNKS.give_back(std::mem::take(&mut self.bytes));
    }
}

/// How an upload is getting on: what a timeout is measured by, and what the progress display shows.
#[derive(Debug)]
pub(super) struct Pace {
    progress: Arc<Progress>,
    started: Instant,
    /// Milliseconds after the start at which something moved last.
    moved: AtomicU64,
    sent: AtomicU64,
    waits_for_source: AtomicBool,
    all_sent: AtomicBool,
}

impl Pace {
    fn new(progress: Arc<Progress>) -> Self {
        Self {
            progress,
            started: Instant::now(),
            moved: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            waits_for_source: AtomicBool::new(false),
            all_sent: AtomicBool::new(false),
        }
    }

    /// Returns when the server is to be taken for dead, unless something moves until then.
    pub(super) fn deadline(&self) -> Instant {
        let moved = self.started + Duration::from_millis(self.moved.load(Ordering::Relaxed));
        if self.waits_for_source.load(Ordering::Relaxed) {
            // The server is not to blame.
            return Instant::now() + IDLE_TIMEOUT;
        }
        moved + if self.all_sent.load(Ordering::Relaxed) { FINISH_TIMEOUT } else { IDLE_TIMEOUT }
    }

    /// Takes back what was shown as sent: it has to be sent again.
    pub(super) fn take_back(&self) {
        self.progress.take_back(self.sent.swap(0, Ordering::Relaxed));
    }

    /// Records bytes that were sent.
    pub(super) fn send(&self, count: usize) {
        self.sent.fetch_add(count as u64, Ordering::Relaxed);
        self.progress.send(count as u64);
    }

    fn wait_for_source(&self) {
        self.waits_for_source.store(true, Ordering::Relaxed);
    }

    fn deliver(&self, chunk: Option<&Bytes>) {
        match chunk {
            Some(chunk) => self.send(chunk.len()),
            None => self.all_sent.store(true, Ordering::Relaxed),
        }
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(elapsed, Ordering::Relaxed);
        self.waits_for_source.store(false, Ordering::Relaxed);
    }
}
