//! Named files: a directory on disk. Archives have the same shape.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::SourceError;

/// The most bytes of a file that is read as a whole: the limit of registries for manifests.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;

/// A set of files by name, with `/` between the parts of a name.
///
/// A name never leads out of the set: not by `..`, not through a link.
pub(super) trait Store: Send + Sync {
    /// Returns the directory or archive.
    fn path(&self) -> &Path;

    /// Returns what to call a file in an error.
    fn describe(&self, name: &str) -> String;

    /// Refuses a name that stands for two files: which one is meant depends on the reader.
    fn check_single(&self, name: &str) -> Result<(), SourceError>;

    /// Returns the size of a file, or `None` if it is absent.
    fn size(&self, name: &str) -> Result<Option<u64>, SourceError>;

    /// Opens a file, or returns `None` if it is absent.
    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>, SourceError>;
}

/// Reads a whole file of at most `limit` bytes, or returns `None` if it is absent.
pub(super) fn read(store: &dyn Store, name: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
    let Some(size) = store.size(name)? else { return Ok(None) };
    store.check_single(name)?;
    if size > limit {
        return Err(SourceError::TooLarge { path: store.describe(name), size, limit });
    }
    let Some(reader) = store.open(name)? else { return Ok(None) };
    let mut bytes = Vec::new();
    // A file that grows meanwhile does not grow memory.
    match reader.take(size + 1).read_to_end(&mut bytes) {
        Ok(_) => Ok(Some(bytes)),
        Err(source) => Err(SourceError::Read { path: store.describe(name), source }),
    }
}

/// A directory whose files are what it holds itself: links in it are refused.
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Takes `path`, which must be a directory or a link to one.
    pub(super) fn open(path: &Path) -> Result<Self, SourceError> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(Self { path: path.to_owned() }),
            Ok(_) => Err(SourceError::NotALayout { path: path.to_owned(), missing: "oci-layout" }),
            Err(error) if is_absent(&error) => Err(SourceError::Absent { path: path.to_owned() }),
            Err(source) => Err(SourceError::Read { path: path.display().to_string(), source }),
        }
    }

    /// Returns the metadata of a regular file that is reached through directories only.
    fn metadata(&self, name: &str) -> Result<Option<Metadata>, SourceError> {
        let mut path = self.path.clone();
        let mut metadata = None;
        for component in Path::new(name).components() {
            let Component::Normal(part) = component else {
                return Err(SourceError::NotAFile { path: self.describe(name) });
            };
            if metadata.as_ref().is_some_and(|parent: &Metadata| !parent.is_dir()) {
                return Err(SourceError::NotAFile { path: path.display().to_string() });
            }
            path.push(part);
            metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_symlink() => {
                    return Err(SourceError::LinkInLayout { path: path.display().to_string() });
                }
                Ok(metadata) => Some(metadata),
                Err(error) if is_absent(&error) => return Ok(None),
                Err(source) => return Err(SourceError::Read { path: path.display().to_string(), source }),
            };
        }
        match metadata {
            Some(metadata) if metadata.is_file() => Ok(Some(metadata)),
            _ => Err(SourceError::NotAFile { path: self.describe(name) }),
        }
    }
}

impl Store for Directory {
    fn path(&self) -> &Path {
        &self.path
    }

    fn describe(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn check_single(&self, _name: &str) -> Result<(), SourceError> {
        Ok(())
    }

    fn size(&self, name: &str) -> Result<Option<u64>, SourceError> {
        Ok(self.metadata(name)?.map(|metadata| metadata.len()))
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>, SourceError> {
        let Some(seen) = self.metadata(name)? else { return Ok(None) };
        let failed = |source| SourceError::Read { path: self.describe(name), source };
        let file = File::open(self.path.join(name)).map_err(failed)?;
        let opened = file.metadata().map_err(failed)?;
        if (opened.dev(), opened.ino()) != (seen.dev(), seen.ino()) {
            // It was replaced between the two looks.
            return Err(SourceError::NotAFile { path: self.describe(name) });
        }
        Ok(Some(Box::new(file)))
    }
}

pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
