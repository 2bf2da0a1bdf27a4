//! Reproducible gzip on all cores: the same bytes come out whatever the machine and the number of threads.
//!
//! The input is cut into blocks of one size, each is deflated by itself and ends on a byte boundary, and the pieces are
//! joined into one gzip member. Which thread does which block cannot be seen in the result. What decides the bytes: the
//! constants below and the version of `zlib-rs`, which uses SIMD to compare and to copy but not to choose matches, so
//! that processors do not differ; a change of either changes the digests of compressed layers.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use flate2::{Compress, Compression, Crc, FlushCompress};

/// The bytes of input that are deflated by themselves. 1 MiB costs four times the memory and gains 0.1 %.
const BLOCK: usize = 256 << 10;
/// The level. Of 300 MiB of `/usr/lib`, 1 leaves 43.8 % in 1.3 s of CPU, 2 leaves 36.4 % in 2.1 s, 3 leaves 35.0 % in 2.4 s,
/// 6 leaves 33.6 % in 5 s. An image is compressed once, then stored and pulled many times.
const LEVEL: u32 = 2;
/// The most bytes of one stored (uncompressed) deflate block.
const STORED: usize = 65_535;
/// How much of a block is tried to find out whether it can be compressed at all, in pieces of this size.
const SAMPLE: usize = 4 << 10;
/// How many pieces are tried.
const SAMPLES: usize = 4;
/// More threads than this do not pay: reading and hashing the input is one thread's work.
const MAX_THREADS: usize = 32;
/// Magic, deflate, no flags, no time, no extra flags, unknown operating system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// A final, empty deflate block.
const END: [u8; 2] = [3, 0];

/// Returns a reader of `reader`'s content as one gzip member, compressed on `threads` threads.
///
/// The bytes do not depend on `threads`. Threads start with the first read and end when the result is dropped; an input of
/// one block is compressed without any. Memory is bounded: less than 1 MiB for each thread, and 2 MiB beside.
pub fn compress(reader: Box<dyn Read + Send>, threads: usize) -> GzipReader {
    let pieces = Pieces { current: HEADER.to_vec(), position: 0, crc: Crc::new(), state: State::Start(reader) };
    GzipReader { pieces, threads: threads.clamp(1, MAX_THREADS) }
}

/// The compressed stream that [`compress`] returns.
#[expect(missing_debug_implementations, reason = "it holds a reader, which has nothing to show")]
pub struct GzipReader {
    pieces: Pieces,
    threads: usize,
}

impl Read for GzipReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.pieces.position == self.pieces.current.len() {
            if !self.pieces.advance(self.threads)? {
                return Ok(0);
            }
        }
        let rest = &self.pieces.current[self.pieces.position..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.pieces.position += count;
        Ok(count)
    }
}

/// The pieces of the result, one after the other.
struct Pieces {
    current: Vec<u8>,
    position: usize,
    crc: Crc,
    state: State,
}

enum State {
    Start(Box<dyn Read + Send>),
    Blocks(Receiver<PendingBlock>),
    Finished,
}

/// A block that some thread is deflating: what it becomes can be waited for.
type PendingBlock = Receiver<io::Result<DeflatedBlock>>;

/// A block to deflate, and where the result goes.
type Task = (Vec<u8>, SyncSender<io::Result<DeflatedBlock>>);

struct DeflatedBlock {
    bytes: Vec<u8>,
    crc: Crc,
}

impl Pieces {
    /// Makes the next piece current; returns `false` after the last. Once it failed it stays at its end.
    fn advance(&mut self, threads: usize) -> io::Result<bool> {
        self.position = 0;
        self.current.clear();
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Start(mut reader) => {
                let block = read_block(&mut *reader)?;
                if block.len() < BLOCK {
                    if !block.is_empty() {
                        self.take(Deflater::new().deflate(&block)?);
                    }
                    self.finish();
                } else {
                    self.state = State::Blocks(start_threads(block, reader, threads)?);
                }
                Ok(true)
            }
            State::Blocks(blocks) => {
                match blocks.recv() {
                    Ok(block) => {
                        let block = block.recv().map_err(|_| io::Error::other("a compression thread died"))?;
                        self.take(block?);
                        self.state = State::Blocks(blocks);
                    }
                    Err(_) => self.finish(),
                }
                Ok(true)
            }
            State::Finished => Ok(false),
        }
    }

    fn take(&mut self, block: DeflatedBlock) {
        self.crc.combine(&block.crc);
        self.current = block.bytes;
    }

    fn finish(&mut self) {
        self.current.extend_from_slice(&END);
        self.current.extend_from_slice(&self.crc.sum().to_le_bytes());
        self.current.extend_from_slice(&self.crc.amount().to_le_bytes());
    }
}

/// Starts one thread that reads blocks and `threads` that deflate them; the result yields the blocks in order.
///
/// Every queue is bounded, so a slow consumer stops the reading. When the consumer is dropped, the reading thread fails to
/// hand over its next block and ends, and with it the queue that the others wait on.
fn start_threads(first: Vec<u8>, reader: Box<dyn Read + Send>, threads: usize) -> io::Result<Receiver<PendingBlock>> {
    let (ordered, blocks) = sync_channel(threads);
    let (tasks, queue) = sync_channel::<Task>(1);
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..threads {
        let queue = Arc::clone(&queue);
        thread::Builder::new().name("gzip".to_owned()).spawn(move || deflate_tasks(&queue))?;
    }
    thread::Builder::new().name("gzip-read".to_owned()).spawn(move || read_blocks(first, reader, &ordered, &tasks))?;
    Ok(blocks)
}

fn read_blocks(
    first: Vec<u8>,
    mut reader: Box<dyn Read + Send>,
    ordered: &SyncSender<PendingBlock>,
    tasks: &SyncSender<Task>,
) {
    let mut block = Ok(first);
    loop {
        let (result, pending) = sync_channel(1);
        if ordered.send(pending).is_err() {
            return;
        }
        match block {
            Ok(bytes) if bytes.is_empty() => {
                // The last block was full: an empty one ends the stream without a piece.
                drop(result.send(Ok(DeflatedBlock { bytes: Vec::new(), crc: Crc::new() })));
                return;
            }
            Ok(bytes) => {
                let last = bytes.len() < BLOCK;
                if tasks.send((bytes, result)).is_err() || last {
                    return;
                }
            }
            Err(error) => {
                drop(result.send(Err(error)));
                return;
            }
        }
        block = read_block(&mut *reader);
    }
}

fn deflate_tasks(queue: &Mutex<Receiver<Task>>) {
    let mut deflater = Deflater::new();
    loop {
        let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((block, result)) = task else { return };
        drop(result.send(deflater.deflate(&block)));
    }
}

/// Reads a whole block, or what is left. `Interrupted` is not an error.
fn read_block(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut block = Vec::with_capacity(BLOCK);
    reader.take(BLOCK as u64).read_to_end(&mut block)?;
    Ok(block)
}

/// Deflates block after block, none of which refers to another.
struct Deflater {
    compress: Compress,
    trial: Vec<u8>,
}

impl Deflater {
    fn new() -> Self {
        Self { compress: Compress::new(Compression::new(LEVEL), false), trial: Vec::with_capacity(2 * SAMPLE) }
    }

    fn deflate(&mut self, block: &[u8]) -> io::Result<DeflatedBlock> {
        let mut crc = Crc::new();
        crc.update(block);
        let bytes = if self.is_compressible(block)? { self.compressed(block)? } else { stored(block) };
        Ok(DeflatedBlock { bytes, crc })
    }

    /// Returns whether deflating a few pieces of `block` gains anything: random and compressed content does not, and costs
    /// the most time.
    fn is_compressible(&mut self, block: &[u8]) -> io::Result<bool> {
        if block.len() < SAMPLES * SAMPLE {
            return Ok(true);
        }
        let step = (block.len() - SAMPLE) / (SAMPLES - 1);
        for sample in 0..SAMPLES {
            let piece = &block[sample * step..sample * step + SAMPLE];
            self.trial.clear();
            self.compress.reset();
            self.compress.compress_vec(piece, &mut self.trial, FlushCompress::Finish)?;
            if self.trial.len() < SAMPLE - SAMPLE / 32 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn compressed(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let limit = stored_size(block.len());
        let mut output = Vec::with_capacity(limit);
        self.compress.reset();
        self.compress.compress_vec(block, &mut output, FlushCompress::Full)?;
        // Output that fills all of its space may lack its end, and is no shorter than storing.
        Ok(if output.len() < limit { output } else { stored(block) })
    }
}

fn stored_size(length: usize) -> usize {
    length + 5 * length.div_ceil(STORED)
}

/// Returns `block` as deflate blocks that are not compressed.
fn stored(block: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(stored_size(block.len()));
    for piece in block.chunks(STORED) {
        #[expect(clippy::cast_possible_truncation, reason = "a piece has at most 65,535 bytes")]
        let length = piece.len() as u16;
        output.push(0);
        output.extend_from_slice(&length.to_le_bytes());
        output.extend_from_slice(&(!length).to_le_bytes());
        output.extend_from_slice(piece);
    }
    output
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use flate2::bufread::GzDecoder;

    use super::*;
    use crate::oci::Digest;

    fn compressed(content: &[u8], threads: usize) -> Vec<u8> {
        let mut output = Vec::new();
        compress(Box::new(io::Cursor::new(content.to_vec())), threads).read_to_end(&mut output).unwrap();
        output
    }

    fn decompressed(bytes: &[u8]) -> Vec<u8> {
        let mut decoder = GzDecoder::new(bytes);
        let mut output = Vec::new();
        decoder.read_to_end(&mut output).unwrap();
        assert!(decoder.into_inner().is_empty(), "bytes follow the one member");
        output
    }

    /// Bytes that no compressor shortens, the same on every machine.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut output = Vec::with_capacity(length + 8);
        while output.len() < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            output.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        output.truncate(length);
        output
    }

    fn text(length: usize) -> Vec<u8> {
        let mut output = Vec::with_capacity(length + 64);
        for line in 0_u32.. {
            if output.len() >= length {
                break;
            }
            writeln!(output, "line {line} of a file that compresses well").unwrap();
        }
        output.truncate(length);
        output
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let lengths = [0, 1, 100, STORED, SAMPLE * SAMPLES, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 17];

        for length in lengths {
            for content in [text(length), noise(length), vec![0; length]] {
                assert!(decompressed(&compressed(&content, 3)) == content, "{length} bytes came back different");
            }
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        let content = [text(3 * BLOCK), noise(2 * BLOCK), text(BLOCK / 3)].concat();

        let one = compressed(&content, 1);

        assert!([2, 3, 8, 1000].iter().all(|threads| compressed(&content, *threads) == one));
    }

    #[test]
    fn the_bytes_are_the_same_in_every_release() {
        let content = [text(2 * BLOCK + 1000), noise(BLOCK), vec![7; BLOCK / 2]].concat();

        let digest = Digest::of(&compressed(&content, 2));

        // A change here changes the digest of every image that is published from uncompressed layers: say so in the
        // changelog.
        insta::assert_snapshot!(digest, @"sha256:50cddd34e94d42d4cefa52c238ed56e6acbf6d1f2aed760a882075a89994be3a");
    }

    #[test]
    fn noise_is_stored_and_text_is_not() {
        let content = noise(4 * BLOCK);

        assert!(compressed(&content, 2).len() < content.len() + content.len() / 1000);
        assert!(compressed(&text(4 * BLOCK), 2).len() < BLOCK);
    }

    #[test]
    fn an_error_of_the_input_is_passed_on() {
        struct Failing(usize);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.0.min(buffer.len());
                self.0 -= count;
                if count == 0 { Err(io::Error::other("disk on fire")) } else { Ok(count) }
            }
        }

        for length in [0, 10, BLOCK, 3 * BLOCK + 5] {
            let error = compress(Box::new(Failing(length)), 2).read_to_end(&mut Vec::new()).unwrap_err();

            assert_eq!(error.to_string(), "disk on fire");
        }
    }

    #[test]
    fn a_dropped_reader_stops_the_reading() {
        struct Endless {
            count: Arc<AtomicUsize>,
            _alive: SyncSender<()>,
        }
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.count.fetch_add(buffer.len(), Ordering::Relaxed);
                Ok(buffer.len())
            }
        }
        let count = Arc::new(AtomicUsize::new(0));
        let (alive, gone) = sync_channel(0);
        let mut reader = compress(Box::new(Endless { count: Arc::clone(&count), _alive: alive }), 2);
        reader.read_exact(&mut [0; 4096]).unwrap();

        drop(reader);

        // The input is dropped with its thread: the channel closes.
        assert!(gone.recv().is_err());
        assert!(count.load(Ordering::Relaxed) < 32 * BLOCK, "the queue is not bounded");
    }
}
