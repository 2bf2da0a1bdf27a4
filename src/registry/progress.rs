//! How far a push has come, for whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a push has come. Read it as often as need be, from any thread; nothing here prints.
#[derive(Debug, Default)]
pub struct Progress {
    total_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    total_blobs: AtomicU64,
    finished_blobs: AtomicU64,
}

impl Progress {
    /// Returns the size of everything that has to be sent, as far as it is known. For a layer that is being compressed
    /// it is the uncompressed size until its end.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// Returns how much was sent. It shrinks when an upload has to start anew.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Returns how many blobs the image has.
    pub fn total_blobs(&self) -> u64 {
        self.total_blobs.load(Ordering::Relaxed)
    }

    /// Returns how many blobs the registry has.
    pub fn finished_blobs(&self) -> u64 {
        self.finished_blobs.load(Ordering::Relaxed)
    }

    pub(super) fn expect_blobs(&self, count: usize) {
        self.total_blobs.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn expect_bytes(&self, count: u64) {
        self.total_bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// Replaces a size that was a guess.
    pub(super) fn revise_bytes(&self, guess: u64, count: u64) {
        self.total_bytes.fetch_add(count, Ordering::Relaxed);
        self.total_bytes.fetch_sub(guess, Ordering::Relaxed);
    }

    pub(super) fn send(&self, count: u64) {
        self.sent_bytes.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn take_back(&self, count: u64) {
        self.sent_bytes.fetch_sub(count, Ordering::Relaxed);
    }

    pub(super) fn finish_blob(&self) {
        self.finished_blobs.fetch_add(1, Ordering::Relaxed);
    }
}
