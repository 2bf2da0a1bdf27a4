//! Reads the `source` input.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::SourceSpec;
use super::archive::Archive;
use super::layout::MARKER;

/// The forms that the `source` input may have, with an example each.
const FORMS: &str = "`oci:DIR[:REF]` (`oci:image/`), `oci-archive:FILE[:REF]` (`oci-archive:image.tar`), \
                     `docker-archive:FILE[:NAME]` (`docker-archive:image.tar`), `docker-daemon:NAME` \
                     (`docker-daemon:app:latest`), `registry:REF` (`registry:ghcr.io/acme/app:1`)";

impl SourceSpec {
    /// Reads `oci:`, `oci-archive:`, `docker-archive:` and `docker-daemon:` sources. `registry:REF` is not a source that is
    /// read from, and is told by [`ParseSourceError::Registry`].
    ///
    /// The path ends at its first colon, as it does for skopeo; what follows selects the image.
    pub fn parse(text: &str, default_socket: &Path) -> Result<Self, ParseSourceError> {
        let unknown = || ParseSourceError::Unknown { text: text.to_owned() };
        let (kind, rest) = text.split_once(':').ok_or_else(unknown)?;
        if rest.is_empty() && matches!(kind, "oci" | "oci-archive" | "docker-archive" | "docker-daemon" | "registry") {
            return Err(ParseSourceError::Empty { text: text.to_owned() });
        }
        let located = || -> Result<(PathBuf, Option<String>), ParseSourceError> {
            let (path, reference) = rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name)));
            if path.is_empty() || reference.is_some_and(str::is_empty) {
                return Err(ParseSourceError::Empty { text: text.to_owned() });
            }
            Ok((PathBuf::from(path), reference.map(ToOwned::to_owned)))
        };
        match kind {
            "oci" => located().map(|(path, reference)| Self::OciLayout { path, reference }),
            "oci-archive" => located().map(|(path, reference)| Self::OciArchive { path, reference }),
            "docker-archive" => located().map(|(path, reference)| Self::DockerArchive { path, reference }),
            "docker-daemon" => Ok(Self::DockerDaemon { name: rest.to_owned(), socket: default_socket.to_owned() }),
            "registry" => Err(ParseSourceError::Registry { reference: rest.to_owned() }),
            _ => Err(unknown()),
        }
    }

    /// Returns the source that a path without a prefix is, if it looks like one: a directory with an `oci-layout` file, or
    /// a tar archive whose entries say what it is. Of a file, only the names in it are read.
    pub fn detect(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let (located, reference) = (path.to_owned(), None);
        if metadata.is_dir() {
            return path.join(MARKER).is_file().then_some(Self::OciLayout { path: located, reference });
        }
        if !metadata.is_file() || !is_tar(path) {
            return None;
        }
        let archive = Archive::open(path).ok()?;
        // A `docker save` of today is both: its docker half names the image, and lets a sparse index be.
        if archive.holds("manifest.json") {
            return Some(Self::DockerArchive { path: located, reference });
        }
        archive.holds(MARKER).then_some(Self::OciArchive { path: located, reference })
    }
}

/// Returns whether a file starts with a tar header (POSIX or GNU).
fn is_tar(path: &Path) -> bool {
    let mut header = [0; 512];
    File::open(path).is_ok_and(|mut file| file.read_exact(&mut header).is_ok()) && &header[257..262] == b"ustar"
}

/// The text names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseSourceError {
    /// No known prefix.
    #[error("`{text}` is not a source")]
    Unknown {
        /// What was given.
        text: String,
    },
    /// A prefix, and nothing behind it.
    #[error("`{text}` names nothing")]
    Empty {
        /// What was given.
        text: String,
    },
    /// The image is in a registry already: there is nothing to push.
    #[error("`registry:{reference}` is in a registry already")]
    Registry {
        /// What follows the prefix.
        reference: String,
    },
}

impl ParseSourceError {
    /// Returns what to write instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } | Self::Empty { .. } => Some(format!("a source is one of {FORMS}")),
            Self::Registry { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Files, directory};
    use super::*;

    fn parse(text: &str) -> Result<SourceSpec, ParseSourceError> {
        SourceSpec::parse(text, Path::new("/var/run/docker.sock"))
    }

    fn located(path: &str, reference: Option<&str>) -> (PathBuf, Option<String>) {
        (PathBuf::from(path), reference.map(ToOwned::to_owned))
    }

    #[test]
    fn every_form_is_read() {
        let digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let oci = |(path, reference)| Ok(SourceSpec::OciLayout { path, reference });
        let oci_archive = |(path, reference)| Ok(SourceSpec::OciArchive { path, reference });
        let docker_archive = |(path, reference)| Ok(SourceSpec::DockerArchive { path, reference });

        assert_eq!(parse("oci:image/"), oci(located("image/", None)));
        assert_eq!(parse("oci:image:v1"), oci(located("image", Some("v1"))));
        assert_eq!(parse(&format!("oci:image:{digest}")), oci(located("image", Some(digest))));
        assert_eq!(parse("oci-archive:a.tar:v1"), oci_archive(located("a.tar", Some("v1"))));
        assert_eq!(parse("docker-archive:a.tar:app:1"), docker_archive(located("a.tar", Some("app:1"))));
        assert_eq!(
            parse("docker-daemon:app:1"),
            Ok(SourceSpec::DockerDaemon { name: "app:1".to_owned(), socket: "/var/run/docker.sock".into() })
        );
        assert_eq!(
            parse("registry:ghcr.io/acme/app:1"),
            Err(ParseSourceError::Registry { reference: "ghcr.io/acme/app:1".to_owned() })
        );
    }

    #[test]
    fn what_is_no_source_gets_all_forms_to_choose_from() {
        let error = parse("image.tar").unwrap_err();

        insta::assert_snapshot!(format!("{error}\nhint: {}", error.hint().unwrap()), @r"
        `image.tar` is not a source
        hint: a source is one of `oci:DIR[:REF]` (`oci:image/`), `oci-archive:FILE[:REF]` (`oci-archive:image.tar`), `docker-archive:FILE[:NAME]` (`docker-archive:image.tar`), `docker-daemon:NAME` (`docker-daemon:app:latest`), `registry:REF` (`registry:ghcr.io/acme/app:1`)
        ");
        assert!(matches!(parse("dir:image"), Err(ParseSourceError::Unknown { .. })));
        assert!(
            ["oci:", "oci::v1", "oci:image:", "docker-daemon:", "registry:"]
                .iter()
                .all(|text| matches!(parse(text), Err(ParseSourceError::Empty { .. })))
        );
    }

    #[test]
    fn a_path_tells_what_it_is() {
        let parent = directory();
        let mut files = Files::layout();
        let image = files.image("one");
        let mut files = files.list(&[image]);
        let detect = |path: PathBuf| SourceSpec::detect(&path);

        assert!(matches!(detect(files.write_to(parent.path())), Some(SourceSpec::OciLayout { .. })));
        assert!(matches!(detect(files.tar_to(parent.path())), Some(SourceSpec::OciArchive { .. })));
        files.add("manifest.json", b"[]");
        assert!(matches!(detect(files.tar_to(parent.path())), Some(SourceSpec::DockerArchive { .. })));
        assert_eq!(detect(parent.path().to_owned()), None);
        assert_eq!(detect(parent.path().join("image/index.json")), None);
        assert_eq!(detect(parent.path().join("absent")), None);
    }
}
