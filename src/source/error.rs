//! What can be wrong with a source, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::oci::{Digest, ParseManifestError};

/// The source cannot be read, or is not what it says it is.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A path without a prefix, and nothing there that is known.
    #[error("`{}` is neither an OCI layout nor an archive of an image", path.display())]
    Unrecognised {
        /// The path.
        path: PathBuf,
    },
    /// The file or directory that the `source` input names does not exist.
    #[error("there is no `{path}`")]
    Absent {
        /// The path, as it was given.
        path: PathBuf,
    },
    /// A file or directory cannot be read: permissions, most often.
    #[error("cannot read `{path}`")]
    Read {
        /// The file, inside a layout or archive where it is one.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The directory has no `oci-layout` file or no `index.json`.
    #[error("`{path}` is not an OCI image layout: it has no `{missing}`")]
    NotALayout {
        /// The directory or archive.
        path: PathBuf,
        /// The file that is absent.
        missing: &'static str,
    },
    /// The archive is one that `docker save` wrote, not an OCI layout.
    #[error("`{path}` is a docker archive, not an OCI image layout")]
    IsADockerArchive {
        /// The archive.
        path: PathBuf,
    },
    /// The `oci-layout` file names a version that we do not know.
    #[error("the OCI image layout `{path}` has version `{version}`: only 1.0.0 is supported")]
    LayoutVersion {
        /// The directory or archive.
        path: PathBuf,
        /// The version it names.
        version: String,
    },
    /// A JSON file of the layout or archive does not parse.
    #[error("`{path}` is not what it should be")]
    Json {
        /// The file.
        path: String,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// A manifest or index does not parse.
    #[error("`{path}` is not a manifest that can be pushed")]
    Manifest {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: ParseManifestError,
    },
    /// There is nothing to push.
    #[error("`{path}` holds no image")]
    NoImage {
        /// The layout or archive.
        path: PathBuf,
    },
    /// There are several images and none was selected.
    #[error("`{path}` holds {count} images: which one?")]
    Ambiguous {
        /// The layout or archive.
        path: PathBuf,
        /// How many images there are to choose from.
        count: usize,
        /// What can be written as `source`.
        choices: Vec<String>,
    },
    /// The image that was selected is not there.
    #[error("`{path}` holds no image `{reference}`")]
    NoSuchImage {
        /// The layout or archive.
        path: PathBuf,
        /// What was asked for.
        reference: String,
        /// What can be written as `source`.
        choices: Vec<String>,
    },
    /// A manifest refers to a config or layer that is not there.
    #[error("the blob `{path}` is missing")]
    MissingBlob {
        /// The file that should be there.
        path: String,
    },
    /// An index lists a manifest that is not there, as `docker save` writes for platforms that were never pulled.
    #[error("the image for {platform} is missing: there is no `{path}`")]
    MissingPlatform {
        /// The platform, or the digest where the index names none.
        platform: String,
        /// The file that should be there.
        path: String,
    },
    /// The content does not have the size that its descriptor states.
    #[error("`{path}` has {actual} bytes, its descriptor says {expected}")]
    Size {
        /// The file.
        path: String,
        /// What the descriptor says.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// The content does not have the digest that it is referred to by.
    #[error("`{path}` has the digest {actual}, not {expected}")]
    Content {
        /// The file.
        path: String,
        /// The digest it is referred to by.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// A layout holds a link, which could lead anywhere.
    #[error("`{path}` is a link: a layout must hold its files itself")]
    LinkInLayout {
        /// The link.
        path: String,
    },
    /// A device or directory stands where a file should.
    #[error("`{path}` is not a regular file")]
    NotAFile {
        /// The file.
        path: String,
    },
    /// Larger than any real file of its kind.
    #[error("`{path}` has {size} bytes, over the limit of {limit}")]
    TooLarge {
        /// The file.
        path: String,
        /// Its size.
        size: u64,
        /// The most it may have.
        limit: u64,
    },
    /// More manifests, or indexes nested deeper, than any real image has.
    #[error("the index has more than {limit} {what}")]
    TooComplex {
        /// What there is too much of.
        what: &'static str,
        /// The most there may be.
        limit: usize,
    },
    /// An index lists something that is neither an image manifest nor an index, or refers to it by another hash.
    #[error("the index lists `{media_type}` {digest}, which cannot be pushed as a manifest")]
    Child {
        /// The media type that the index states.
        media_type: String,
        /// The digest that the index states.
        digest: Digest,
    },
    /// The archive is compressed.
    #[error("`{path}` is compressed with {format}: only plain tar archives can be read in place")]
    Compressed {
        /// The archive.
        path: PathBuf,
        /// `gzip`, for example.
        format: &'static str,
        /// The command that decompresses it.
        command: &'static str,
    },
    /// The file is not a tar archive, or a broken one.
    #[error("`{path}` is not a sound tar archive")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Where it goes wrong.
        source: io::Error,
    },
    /// The archive ends before the content that it lists.
    #[error("the archive `{path}` is cut off inside `{entry}`")]
    Truncated {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: String,
    },
    /// The archive holds the same file twice, so that two readers could see two images.
    #[error("`{path}` is in the archive more than once")]
    Duplicate {
        /// The file.
        path: String,
    },
    /// A link in the archive leads nowhere, out of it, or in a circle.
    #[error("the link `{path}` does not lead to a file of the archive")]
    Link {
        /// The link.
        path: String,
    },
    /// The archive has no `manifest.json`.
    #[error("`{path}` is not a docker archive: it has no `manifest.json`")]
    NotADockerArchive {
        /// The archive.
        path: PathBuf,
    },
    /// `manifest.json` refers to a file that the archive does not hold.
    #[error("`{path}` is missing, which the archive's manifest.json refers to")]
    MissingFile {
        /// The file.
        path: String,
    },
    /// The configuration and `manifest.json` disagree about the layers.
    #[error("the archive has {layers} layers, the image's config lists {diff_ids}")]
    Layers {
        /// How many layers `manifest.json` lists.
        layers: usize,
        /// How many the configuration lists.
        diff_ids: usize,
    },
    /// No socket of a Docker or Podman Engine is there.
    #[error("there is no engine socket `{socket}`")]
    NoSocket {
        /// The socket.
        socket: PathBuf,
    },
    /// The engine's socket may not be used by this user.
    #[error("the engine socket `{socket}` may not be used")]
    SocketDenied {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The engine does not answer.
    #[error("the engine at `{socket}` does not answer")]
    EngineSilent {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The connection to the engine broke.
    #[error("the engine broke off")]
    Engine {
        /// What the client says.
        #[from]
        source: reqwest::Error,
    },
    /// The engine refuses.
    #[error("the engine answers {status}: {message}")]
    EngineStatus {
        /// The HTTP status.
        status: u16,
        /// The engine's words, cut to length.
        message: String,
    },
    /// The engine has no such image.
    #[error("the engine has no image `{name}`")]
    ImageNotInEngine {
        /// The name.
        name: String,
    },
    /// What follows `docker-daemon:` is not an image name.
    #[error("`{name}` is not the name of an image in an engine")]
    EngineName {
        /// The name.
        name: String,
    },
    /// There is no directory for the temporary file that the engine's answer is kept in.
    #[error("no directory can take a temporary file (tried {tried})")]
    NoSpool {
        /// The directories.
        tried: String,
        /// Why the last one cannot.
        source: io::Error,
    },
    /// The disk is full.
    #[error("no space is left for the engine's image in any of {tried}")]
    NoSpace {
        /// The directories.
        tried: String,
    },
    /// Content was asked for that the image does not consist of: a bug of the caller.
    #[error("the image has no content {digest}")]
    Unknown {
        /// The digest.
        digest: Digest,
    },
}

impl SourceError {
    /// Returns what to do, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Absent { .. } => Some(
                "name an existing path; in a container it must be mounted, for example `-v \"$PWD:$PWD\" -w \"$PWD\"`"
                    .to_owned(),
            ),
            Self::Unrecognised { .. } => {
                Some("write what it is: `oci:DIR`, `oci-archive:FILE` or `docker-archive:FILE`".to_owned())
            }
            Self::NotALayout { path, .. } => Some(format!(
                "write one with `docker buildx build --output type=oci,tar=false,dest={} .`",
                path.display()
            )),
            Self::IsADockerArchive { path } => Some(format!("use `docker-archive:{}`", path.display())),
            Self::Ambiguous { choices, .. } | Self::NoSuchImage { choices, .. } if !choices.is_empty() => {
                Some(format!("write one of these as `source`: {}", choices.join(" or ")))
            }
            Self::MissingPlatform { .. } => Some(
                "save one platform with `docker save --platform linux/amd64 ...`, or build all of them with \
                 `docker buildx build --output type=oci,dest=image.tar .` and use `oci-archive:image.tar`"
                    .to_owned(),
            ),
            Self::LinkInLayout { .. } => Some("copy the layout with `cp -RL`, which turns links into files".to_owned()),
            Self::Compressed { path, command, .. } => {
                Some(format!("decompress it first: `{command} {}`", path.display()))
            }
            Self::NotADockerArchive { path } => Some(format!(
                "if `docker buildx build --output type=oci` wrote it, use `oci-archive:{}`",
                path.display()
            )),
            Self::Truncated { .. } => Some("write the archive again: whatever wrote it did not finish".to_owned()),
            Self::NoSocket { socket } => Some(format!(
                "mount the engine's socket: `docker run -v /var/run/docker.sock:{} ...`, or name it in `DOCKER_HOST`",
                socket.display()
            )),
            Self::SocketDenied { socket, .. } => Some(format!(
                "run as a member of the socket's group: `docker run --group-add $(stat -c %g {}) ...`",
                socket.display()
            )),
            Self::ImageNotInEngine { .. } => Some(
                "`docker images` lists what the engine has; the image must be loaded: `docker build --load`".to_owned(),
            ),
            Self::NoSpool { .. } | Self::NoSpace { .. } => {
                Some("set `TMPDIR` to a writable directory with room for the uncompressed image".to_owned())
            }
            _ => None,
        }
    }
}

/// Cuts text from a file or server to a length that fits a line, and takes control characters out.
pub(super) fn clean(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(300).collect()
}
