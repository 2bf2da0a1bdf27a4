//! OCI image layouts ([specification](https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md)), in a
//! directory or in an archive.
//!
//! Manifests, indexes and BuildKit's attestation manifests among them, are handed over byte for byte. An `index.json` of
//! several images needs a reference. One that is itself the only index of a multi-platform image (some tools write the
//! platforms straight into it, without names) is not pushed unasked, since it cannot be told from a collection of images:
//! the reference `index.json` says that it is one image.

use std::io::Read;

use serde::Deserialize;

use super::graph::{blob_name, load_graph, load_graph_of};
use super::selection::{Choice, Selected};
use super::store::{MAX_MANIFEST, Store, read};
use super::{ManifestGraph, Source, SourceError, SourceImage, docker_archive};
use crate::oci::{Digest, Manifest, media_type};

/// The file that makes a directory a layout.
pub(super) const MARKER: &str = "oci-layout";
/// The file that lists the images.
pub(super) const INDEX: &str = "index.json";
const VERSION: &str = "1.0.0";
/// The most bytes of the `oci-layout` file.
const MAX_MARKER: u64 = 64 << 10;

/// An image of an OCI layout.
pub(super) struct Layout {
    store: Box<dyn Store>,
    image: SourceImage,
}

impl Layout {
    /// Reads the image that `reference` names, or the only one. `prefix` is what the source is written with.
    pub(super) fn open(store: Box<dyn Store>, prefix: &str, reference: Option<&str>) -> Result<Self, SourceError> {
        let index = read_index(&*store)?;
        let choice = Choice { index: as_index(&*store, &index)?, path: store.path(), prefix };
        let graph = match choice.select(reference)? {
            Selected::Entry(entry) => load_graph(&*store, entry)?,
            Selected::Whole => load_graph_of(&*store, index.clone())?,
        };
        Ok(Self::of(store, graph))
    }

    /// Takes a graph that was loaded already.
    pub(super) fn of(store: Box<dyn Store>, graph: ManifestGraph) -> Self {
        Self { store, image: SourceImage::Manifests(graph) }
    }
}

impl Source for Layout {
    fn image(&self) -> &SourceImage {
        &self.image
    }

    fn open(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        self.store.open(&blob_name(digest))?.ok_or_else(|| SourceError::Unknown { digest: digest.clone() })
    }
}

/// Checks the version of a layout and reads its `index.json`.
pub(super) fn read_index(store: &dyn Store) -> Result<Manifest, SourceError> {
    let absent = |missing| match store.size(docker_archive::LIST) {
        Ok(Some(_)) => SourceError::IsADockerArchive { path: store.path().to_owned() },
        _ => SourceError::NotALayout { path: store.path().to_owned(), missing },
    };
    let marker = read(store, MARKER, MAX_MARKER)?.ok_or_else(|| absent(MARKER))?;
    let marker: Marker =
        serde_json::from_slice(&marker).map_err(|source| SourceError::Json { path: store.describe(MARKER), source })?;
    if marker.image_layout_version != VERSION {
        let version = super::error::clean(&marker.image_layout_version);
        return Err(SourceError::LayoutVersion { path: store.path().to_owned(), version });
    }
    let bytes = read(store, INDEX, MAX_MANIFEST)?.ok_or_else(|| absent(INDEX))?;
    Manifest::parse(bytes, Some(media_type::OCI_INDEX))
        .map_err(|source| SourceError::Manifest { path: store.describe(INDEX), source })
}

/// Returns what an `index.json` lists.
pub(super) fn as_index<'a>(store: &dyn Store, index: &'a Manifest) -> Result<&'a crate::oci::Index, SourceError> {
    index.as_index().ok_or_else(|| SourceError::NotALayout { path: store.path().to_owned(), missing: INDEX })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::super::fixture::{
        Files, annotated, blob_path, content, directory, graph, index, named, on, refusal, root, shown,
    };
    use super::super::store::Directory;
    use super::*;
    use crate::oci::Descriptor;

    fn open(path: &Path, reference: Option<&str>) -> Result<Layout, SourceError> {
        Layout::open(Box::new(Directory::open(path)?), "oci", reference)
    }

    fn open_files(files: &Files, reference: Option<&str>) -> Result<Layout, SourceError> {
        let parent = directory();
        open(&files.write_to(parent.path()), reference)
    }

    #[test]
    fn the_only_image_needs_no_reference() {
        let mut files = Files::layout();
        let image = files.image("one");
        let parent = directory();
        let path = files.list(&[named(&image, "v1"), named(&image, "latest")]).write_to(parent.path());

        let layout = open(&path, None).unwrap();

        assert_eq!(root(&layout), image.digest);
        let blobs = &graph(&layout).blobs;
        assert_eq!(blobs.len(), 2);
        assert!(blobs.iter().all(|blob| Digest::of(&content(&layout, &blob.digest)) == blob.digest));
    }

    #[test]
    fn a_reference_selects_by_name_full_name_or_digest() {
        let mut files = Files::layout();
        let (one, two) = (files.image("one"), files.image("two"));
        let full = annotated(&named(&two, "1"), "io.containerd.image.name", "docker.io/acme/app:1");
        let files = files.list(&[named(&one, "v1"), full]);

        for (reference, expected) in
            [("v1", &one), ("1", &two), ("docker.io/acme/app:1", &two), (&one.digest.to_string(), &one)]
        {
            assert_eq!(root(&open_files(&files, Some(reference)).unwrap()), expected.digest, "{reference}");
        }
    }

    #[test]
    fn several_images_without_a_reference_are_listed() {
        let mut files = Files::layout();
        let (one, two) = (files.image("one"), files.image("two"));
        let parent = directory();
        let path = files.list(&[named(&one, "v1"), two]).write_to(parent.path());

        let none = refusal(open(&path, None));
        let wrong = refusal(open(&path, Some("v3\u{1b}[31m")));

        insta::assert_snapshot!(shown(&none, parent.path()), @r"
        `TMP/image` holds 2 images: which one?
        hint: write one of these as `source`: `oci:TMP/image:v1` or `oci:TMP/image:sha256:23d2568b1aef768a3121f4f43bffe9c8d6b059d4bbb11c4473d5ac669784db8c`
        ");
        insta::assert_snapshot!(shown(&wrong, parent.path()), @r"
        `TMP/image` holds no image `v3[31m`
        hint: write one of these as `source`: `oci:TMP/image:v1` or `oci:TMP/image:sha256:23d2568b1aef768a3121f4f43bffe9c8d6b059d4bbb11c4473d5ac669784db8c`
        ");
    }

    #[test]
    fn platforms_without_names_are_an_image_only_when_asked() {
        let mut files = Files::layout();
        let (amd64, arm64) = (files.image("amd64"), files.image("arm64"));
        let entries = [on(&amd64, "amd64"), on(&arm64, "arm64")];
        let parent = directory();
        let path = files.list(&entries).write_to(parent.path());

        let unasked = refusal(open(&path, None));
        let asked = open(&path, Some("index.json")).unwrap();

        insta::assert_snapshot!(shown(&unasked, parent.path()), @r"
        `TMP/image` holds 2 images: which one?
        hint: write one of these as `source`: `oci:TMP/image:index.json` (all of them, as one image) or `oci:TMP/image:sha256:9ca81f62803356267e3a95885f839ca21bcd16784db5d94b16436dc419250a99` (linux/amd64) or `oci:TMP/image:sha256:b5d3c3c6d01773329c41e5aa12cf715ac700f61dcf631047321dbecac3525e52` (linux/arm64)
        ");
        assert_eq!(root(&asked), Digest::of(index(&entries).as_bytes()));
        assert_eq!(graph(&asked).manifests.len(), 3);
    }

    #[test]
    fn an_index_is_read_children_first_with_its_attestations() {
        let mut files = Files::layout();
        let (amd64, attestation) = (files.image("amd64"), files.image("statement"));
        let attestation = annotated(&on(&attestation, "unknown"), "vnd.docker.reference.type", "attestation-manifest");
        let inner = files.index(&[on(&amd64, "amd64"), attestation.clone()]);
        let outer = files.index(&[inner.clone(), on(&amd64, "amd64")]);

        let layout = open_files(&files.list(std::slice::from_ref(&outer)), None).unwrap();

        let digests: Vec<_> = graph(&layout).manifests.iter().map(|manifest| manifest.digest().clone()).collect();
        assert_eq!(digests, [amd64.digest, attestation.digest, inner.digest, outer.digest]);
        assert_eq!(graph(&layout).blobs.len(), 4);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut files = Files::layout();
        let (amd64, arm64) = (files.image("amd64"), files.image("arm64"));
        let outer = files.index(&[on(&amd64, "amd64"), on(&arm64, "arm64")]);
        let files = files.list(&[outer]);
        let without = |digest: &Digest| {
            let mut files = files.clone();
            files.remove(&blob_path(digest));
            refusal(open_files(&files, None))
        };
        let blob = graph(&open_files(&files, None).unwrap()).blobs[0].digest.clone();

        assert!(matches!(without(&blob), SourceError::MissingBlob { path } if path.ends_with(blob.hex())));
        assert!(
            matches!(without(&arm64.digest), SourceError::MissingPlatform { platform, .. } if platform == "linux/arm64")
        );
    }

    #[test]
    fn content_that_is_not_what_its_descriptor_says_is_refused() {
        let mut files = Files::layout();
        let image = files.image("one");
        let files = files.list(std::slice::from_ref(&image));
        let manifest = files.0.iter().find(|(name, _)| *name == blob_path(&image.digest)).unwrap().1.clone();
        let layout = open_files(&files, None).unwrap();
        let layer = graph(&layout).blobs[1].digest.clone();
        let with = |digest: &Digest, content: &[u8]| {
            let mut files = files.clone();
            files.replace(&blob_path(digest), content);
            refusal(open_files(&files, None))
        };
        let mut changed = manifest.clone();
        changed[manifest.len() - 2] ^= 1;

        assert!(matches!(with(&image.digest, &changed), SourceError::Content { .. }));
        assert!(matches!(with(&image.digest, &[&manifest[..], b" "].concat()), SourceError::Size { .. }));
        assert!(matches!(with(&layer, b"short"), SourceError::Size { actual: 5, .. }));
    }

    #[test]
    fn links_in_a_layout_are_refused() {
        let mut files = Files::layout();
        let image = files.image("one");
        let files = files.list(&[image]);
        let parent = directory();
        let path = files.write_to(parent.path());
        let layout = open(&path, None).unwrap();
        let blob = path.join(blob_path(&graph(&layout).blobs[0].digest));
        let elsewhere = parent.path().join("elsewhere");
        std::fs::rename(&blob, &elsewhere).unwrap();
        symlink(&elsewhere, &blob).unwrap();

        let linked_blob = refusal(open(&path, None));
        std::fs::rename(&elsewhere, &blob).unwrap();
        std::fs::rename(path.join("blobs"), &elsewhere).unwrap();
        symlink(&elsewhere, path.join("blobs")).unwrap();
        let linked_directory = refusal(open(&path, None));

        assert!(matches!(linked_blob, SourceError::LinkInLayout { .. }), "{linked_blob}");
        assert!(matches!(linked_directory, SourceError::LinkInLayout { .. }), "{linked_directory}");
    }

    #[test]
    fn limits_hold() {
        let mut files = Files::layout();
        let mut nested = files.image("one");
        for depth in 0..5 {
            nested = files.index(&[nested]);
            let opened = open_files(&files.clone().list(std::slice::from_ref(&nested)), None);
            assert_eq!(opened.is_ok(), depth < 4, "depth {depth}");
        }
        let other = Descriptor { media_type: "text/plain".to_owned(), ..nested.clone() };
        let unhashed = Descriptor { digest: format!("sha512:{}", "0".repeat(128)).parse().unwrap(), ..nested.clone() };
        let huge = Descriptor { size: u64::MAX, ..nested };

        assert!(matches!(refusal(open_files(&files.clone().list(&[other]), None)), SourceError::Child { .. }));
        assert!(matches!(refusal(open_files(&files.clone().list(&[unhashed]), None)), SourceError::Child { .. }));
        assert!(matches!(refusal(open_files(&files.list(&[huge]), None)), SourceError::Size { .. }));
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        let parent = directory();
        let with_marker = |marker: &[u8]| {
            let mut files = Files::layout().list(&[]);
            files.replace("oci-layout", marker);
            refusal(open_files(&files, None))
        };

        assert!(matches!(refusal(open(&parent.path().join("absent"), None)), SourceError::Absent { .. }));
        assert!(matches!(refusal(open(parent.path(), None)), SourceError::NotALayout { missing: MARKER, .. }));
        let mut docker = Files::default();
        docker.add("manifest.json", b"[]");
        assert!(matches!(refusal(open_files(&docker, None)), SourceError::IsADockerArchive { .. }));
        assert!(matches!(with_marker(br#"{"imageLayoutVersion":"2.0.0"}"#), SourceError::LayoutVersion { .. }));
        assert!(matches!(with_marker(b"{"), SourceError::Json { .. }));
        assert!(matches!(with_marker(br#"{"imageLayoutVersion":"1.0.0"}"#), SourceError::NoImage { .. }));
    }
}
