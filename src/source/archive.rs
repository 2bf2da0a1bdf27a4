//! Tar archives, read in place: an index of names is made once, content is read where it lies.
//!
//! Nothing is ever unpacked. Entries with absolute names or `..` are left out, links are followed inside the archive only,
//! devices do not exist.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tar::EntryType;

use super::SourceError;
use super::error::clean;
use super::store::{Store, is_absent};

/// The most entries that an archive may have: `docker save` writes three for each of at most 127 layers of an image.
const MAX_ENTRIES: usize = 100_000;
/// The most bytes that one entry's headers, long names and extensions may have.
const MAX_HEADERS: u64 = 1 << 20;
/// The most links that are followed to a file.
const MAX_LINKS: usize = 8;

/// The index of a tar archive.
pub(super) struct Archive {
    path: PathBuf,
    file: Arc<File>,
    entries: HashMap<String, Named>,
}

/// What has a name in the archive.
struct Named {
    /// The last entry of this name, as for every reader of tar.
    entry: Entry,
    /// How many entries have this name.
    count: usize,
}

enum Entry {
    /// Content, where it lies.
    File { offset: u64, size: u64 },
    /// A link to another name of the archive.
    Link(String),
    /// A directory, a device, a link out of the archive.
    Other,
}

impl Archive {
    /// Reads the headers of the archive at `path`, and none of its content.
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        let failed = |source| SourceError::Read { path: path.display().to_string(), source };
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Self::of(File::open(path).map_err(failed)?, path),
            Ok(_) => Err(SourceError::NotAFile { path: path.display().to_string() }),
            Err(error) if is_absent(&error) => Err(SourceError::Absent { path: path.to_owned() }),
            Err(error) => Err(failed(error)),
        }
    }

    /// Reads the headers of an open archive; `path` is what errors call it.
    pub(super) fn of(file: File, path: &Path) -> Result<Self, SourceError> {
        let mut archive = Self { path: path.to_owned(), file: Arc::new(file), entries: HashMap::new() };
        let failed = |source| SourceError::Read { path: path.display().to_string(), source };
        let length = archive.file.metadata().map_err(failed)?.len();
        archive.check_plain()?;
        let budget = Arc::new(AtomicU64::new(MAX_HEADERS));
        let whole = Slice { file: Arc::clone(&archive.file), start: 0, position: 0, end: length };
        let mut tar = tar::Archive::new(Headers { slice: whole, budget: Arc::clone(&budget) });
        let broken = |source| SourceError::Archive { path: path.to_owned(), source };
        for entry in tar.entries_with_seek().map_err(broken)? {
            archive.add(&entry.map_err(broken)?, length)?;
            budget.store(MAX_HEADERS, Ordering::Relaxed);
            if archive.entries.len() > MAX_ENTRIES {
                return Err(SourceError::TooComplex { what: "archive entries", limit: MAX_ENTRIES });
            }
        }
        if archive.entries.is_empty() {
            return Err(SourceError::NoImage { path: path.to_owned() });
        }
        Ok(archive)
    }

    /// Returns whether the archive has a file of this name.
    pub(super) fn holds(&self, name: &str) -> bool {
        matches!(self.entries.get(name), Some(Named { entry: Entry::File { .. }, .. }))
    }

    /// Returns the name of the file that `name` is, following links; `None` if there is no such name.
    pub(super) fn resolve(&self, name: &str) -> Result<Option<String>, SourceError> {
        let mut current = normalized("", name).ok_or_else(|| SourceError::Link { path: self.describe(name) })?;
        for step in 0..=MAX_LINKS {
            match self.entries.get(&current).map(|named| &named.entry) {
                None if step == 0 => return Ok(None),
                Some(Entry::File { .. }) => return Ok(Some(current)),
                Some(Entry::Link(target)) => current.clone_from(target),
                Some(Entry::Other) if step == 0 => return Err(SourceError::NotAFile { path: self.describe(name) }),
                None | Some(Entry::Other) => break,
            }
        }
        Err(SourceError::Link { path: self.describe(name) })
    }

    fn add(&mut self, entry: &tar::Entry<'_, Headers>, length: u64) -> Result<(), SourceError> {
        let Some(name) = std::str::from_utf8(&entry.path_bytes()).ok().and_then(|name| normalized("", name)) else {
            tracing::debug!(name = ?entry.path_bytes(), "left out an archive entry whose name leads out of it");
            return Ok(());
        };
        let target = |directory: &str| {
            let target = entry.link_name_bytes()?;
            normalized(directory, std::str::from_utf8(&target).ok()?)
        };
        let new = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                if offset.checked_add(size).is_none_or(|end| end > length) {
                    return Err(SourceError::Truncated { path: self.path.clone(), entry: clean(&name) });
                }
                Entry::File { offset, size }
            }
            EntryType::Symlink => target(parent(&name)).map_or(Entry::Other, Entry::Link),
            EntryType::Link => target("").map_or(Entry::Other, Entry::Link),
            _ => Entry::Other,
        };
        // A link to itself, as some writers leave for a file that they saw twice, keeps the file.
        if !matches!(&new, Entry::Link(target) if *target == name) {
            let count = self.entries.get(&name).map_or(1, |before| before.count + 1);
            self.entries.insert(name, Named { entry: new, count });
        }
        Ok(())
    }

    /// Tells a compressed file, or one that is no tar archive at all, by its first bytes.
    fn check_plain(&self) -> Result<(), SourceError> {
        let mut magic = [0; 6];
        let compressed = |format, command| SourceError::Compressed { path: self.path.clone(), format, command };
        match self.file.read_exact_at(&mut magic, 0) {
            Ok(()) => match magic {
                [0x1f, 0x8b, ..] => Err(compressed("gzip", "gunzip")),
                [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(compressed("zstd", "zstd -d")),
                [0xfd, b'7', b'z', b'X', b'Z', 0] => Err(compressed("xz", "unxz")),
                [b'B', b'Z', b'h', ..] => Err(compressed("bzip2", "bunzip2")),
                _ => Ok(()),
            },
            Err(source) => Err(SourceError::Archive { path: self.path.clone(), source }),
        }
    }

    /// Returns where the content of a file lies, and its size.
    fn file(&self, name: &str) -> Result<Option<(u64, u64)>, SourceError> {
        let Some(name) = self.resolve(name)? else { return Ok(None) };
        match self.entries.get(&name) {
            Some(Named { entry: Entry::File { offset, size }, .. }) => Ok(Some((*offset, *size))),
            _ => Ok(None),
        }
    }
}

impl Store for Archive {
    fn path(&self) -> &Path {
        &self.path
    }

    fn describe(&self, name: &str) -> String {
        format!("{}: {}", self.path.display(), clean(name))
    }

    fn check_single(&self, name: &str) -> Result<(), SourceError> {
        let twice = |name: &str| self.entries.get(name).is_some_and(|named| named.count > 1);
        match self.resolve(name)? {
            Some(file) if twice(&file) || twice(name) => Err(SourceError::Duplicate { path: self.describe(name) }),
            _ => Ok(()),
        }
    }

    fn size(&self, name: &str) -> Result<Option<u64>, SourceError> {
        Ok(self.file(name)?.map(|(_, size)| size))
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>, SourceError> {
        let Some((start, size)) = self.file(name)? else { return Ok(None) };
        Ok(Some(Box::new(Slice { file: Arc::clone(&self.file), start, position: 0, end: size })))
    }
}

/// Returns the directory part of a normalized name.
fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Returns `name`, which is relative to `directory`, as a plain path inside the archive; `None` if it leads out.
fn normalized(directory: &str, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// A part of a file, read without moving the file's position: several can be read at once.
struct Slice {
    file: Arc<File>,
    start: u64,
    position: u64,
    /// The length of the slice.
    end: u64,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let length = rest.min(buffer.len());
        if length == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut buffer[..length], self.start.saturating_add(self.position))?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut off meanwhile"));
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Slice {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
            SeekFrom::End(delta) => self.end.checked_add_signed(delta),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

/// Reads headers and nothing but headers: fails when an entry's take more than its budget, which a long name of a gigabyte
/// would.
struct Headers {
    slice: Slice,
    budget: Arc<AtomicU64>,
}

impl Read for Headers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.slice.read(buffer)?;
        let left = self.budget.load(Ordering::Relaxed).checked_sub(count as u64);
        let left = left.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an entry's headers are too long"))?;
        self.budget.store(left, Ordering::Relaxed);
        Ok(count)
    }
}

impl Seek for Headers {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.slice.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Files, directory, refusal, shown, write};
    use super::*;

    fn read_from(archive: &Archive, name: &str) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        Store::open(archive, name).unwrap()?.read_to_end(&mut content).unwrap();
        Some(content)
    }

    #[test]
    fn content_is_found_where_it_lies() {
        let long = format!("{}file", "directory/".repeat(30));
        let mut files = Files::default();
        files.add("./a", b"first");
        files.add(&long, b"");
        files.add("b", &[7; 1000]);
        let parent = directory();

        let archive = Archive::open(&files.tar_to(parent.path())).unwrap();

        assert_eq!(read_from(&archive, "a").unwrap(), b"first");
        assert_eq!(read_from(&archive, &long).unwrap(), b"");
        assert_eq!(archive.size("b").unwrap(), Some(1000));
        assert_eq!(archive.size("c").unwrap(), None);
    }

    #[test]
    fn names_that_lead_out_are_left_out() {
        let parent = directory();
        let mut builder = tar::Builder::new(Vec::new());
        for name in ["../out", "/etc/passwd", "a/../../out", "in/../kept"] {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(1);
            header.set_cksum();
            builder.append(&header, &b"x"[..]).unwrap();
        }

        let archive = Archive::open(&write(parent.path(), &builder.into_inner().unwrap())).unwrap();

        assert_eq!(archive.entries.keys().collect::<Vec<_>>(), ["kept"]);
        assert!(matches!(archive.size("../out"), Err(SourceError::Link { .. })));
        assert!(matches!(archive.size("/etc/passwd"), Err(SourceError::Link { .. })));
    }

    #[test]
    fn a_size_in_a_pax_header_counts() {
        let parent = directory();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_pax_extensions([("size", &b"3"[..])]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_path("a").unwrap();
        header.set_size(0);
        header.set_cksum();
        builder.append(&header, &b"abc"[..]).unwrap();

        let archive = Archive::open(&write(parent.path(), &builder.into_inner().unwrap())).unwrap();

        assert_eq!(read_from(&archive, "a").unwrap(), b"abc");
    }

    #[test]
    fn headers_do_not_fill_memory() {
        let parent = directory();
        let with_name_of = |length: u64| {
            let path = parent.path().join("image.tar");
            let mut header = tar::Header::new_gnu();
            header.set_path("././@LongLink").unwrap();
            header.set_entry_type(EntryType::GNULongName);
            header.set_size(length);
            header.set_cksum();
            let file = File::create(&path).unwrap();
            file.write_all_at(header.as_bytes(), 0).unwrap();
            file.set_len(length + 4096).unwrap();
            Archive::open(&path)
        };

        let error = refusal(with_name_of(1 << 34));

        assert!(matches!(&error, SourceError::Archive { source, .. } if source.to_string().contains("too long")));
    }

    #[test]
    fn what_is_no_whole_plain_archive_is_refused() {
        let parent = directory();
        let mut files = Files::default();
        files.add("a", &[7; 10_000]);
        let whole = files.tar();
        let open = |content: &[u8]| Archive::open(&write(parent.path(), content));

        assert!(open(&whole).is_ok());
        assert!(matches!(refusal(open(&whole[..5000])), SourceError::Truncated { .. }));
        assert!(matches!(refusal(open(&[b'x'; 2000])), SourceError::Archive { .. }));
        assert!(matches!(refusal(open(b"")), SourceError::Archive { .. }));
        assert!(matches!(refusal(open(&[0; 1024])), SourceError::NoImage { .. }));
        assert!(matches!(refusal(Archive::open(parent.path())), SourceError::NotAFile { .. }));
        insta::assert_snapshot!(shown(&refusal(open(b"\x1f\x8b\x08\0\0\0\0\0")), parent.path()), @r"
        `TMP/image.tar` is compressed with gzip: only plain tar archives can be read in place
        hint: decompress it first: `gunzip TMP/image.tar`
        ");
    }
}
