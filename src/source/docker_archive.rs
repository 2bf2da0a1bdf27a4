//! Docker archives: what `docker save`, `podman save`, kaniko, jib, ko, Bazel and Nix write.
//!
//! Three cases, in this order:
//!
//! 1. The archive is an OCI layout too (Docker 25 and later) and holds the selected image in full: its manifests are taken
//!    byte for byte, so that the digest is the one the engine shows. A platform image that is complete in an index that is
//!    not (the containerd store lists platforms that were never pulled) is taken byte for byte by itself.
//! 2. `manifest.json` lists uncompressed layers, and so does the OCI manifest if there is one: layers to be compressed on
//!    the way.
//! 3. `manifest.json` lists compressed layers: they are kept, and an OCI manifest is made for them. Uncompressed ones among
//!    them are compressed here, reproducibly.

use std::collections::HashSet;

use serde::Deserialize;

use super::archive::Archive;
use super::error::clean;
use super::graph::{MAX_DEPTH, MAX_MANIFESTS, blob_name, load_graph, load_manifest};
use super::layers::Layer;
use super::layout::{INDEX, Layout, MARKER, as_index, read_index};
use super::store::{Store as _, read};
use super::{ManifestGraph, Source, SourceError};
use crate::oci::{Descriptor, Digest, Manifest, media_type};

/// The file that lists the images.
pub(super) const LIST: &str = "manifest.json";
/// The most bytes of `manifest.json` and of an image's config.
const MAX_JSON: u64 = 8 << 20;
/// The most layers of an image: Docker allows 127.
const MAX_LAYERS: usize = 1000;
/// The most choices that an error lists.
const MAX_CHOICES: usize = 10;
/// An uncompressed Docker layer.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Reads the image that `reference` (an entry of `RepoTags`) names, or the only one. `prefix` and a name are what the
/// source is written with.
pub(super) fn open(archive: Archive, prefix: &str, reference: Option<&str>) -> Result<Box<dyn Source>, SourceError> {
    let list = read_list(&archive)?;
    let image = select(&archive, &list, prefix, reference)?;
    if let Some(graph) = find_graph(&archive, image)? {
        return Ok(Box::new(Layout::of(Box::new(archive), graph)));
    }
    let config = read_config(&archive, &image.config)?;
    let diff_ids = config.parsed.rootfs.diff_ids;
    if diff_ids.len() != image.layers.len() || diff_ids.len() > MAX_LAYERS {
        return Err(SourceError::Layers { layers: image.layers.len(), diff_ids: diff_ids.len() });
    }
    let mut layers = Vec::with_capacity(diff_ids.len());
    for (path, diff_id) in image.layers.iter().zip(diff_ids) {
        layers.push(Layer::find(&archive, path, diff_id)?);
    }
    super::layers::open(archive, config.bytes, layers)
}

/// An image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default, deserialize_with = "null_as_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    layers: Vec<String>,
}

fn null_as_default<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn read_list(archive: &Archive) -> Result<Vec<Listed>, SourceError> {
    let absent = || SourceError::NotADockerArchive { path: archive.path().to_owned() };
    let bytes = read(archive, LIST, MAX_JSON)?.ok_or_else(absent)?;
    serde_json::from_slice(&bytes).map_err(|source| SourceError::Json { path: archive.describe(LIST), source })
}

fn select<'a>(
    archive: &Archive,
    list: &'a [Listed],
    prefix: &str,
    reference: Option<&str>,
) -> Result<&'a Listed, SourceError> {
    let matching: Vec<&Listed> =
        list.iter().filter(|image| reference.is_none_or(|name| is_named(image, name))).collect();
    let path = archive.path().to_owned();
    let choices = || {
        let names = list.iter().filter_map(|image| image.repo_tags.iter().find(|tag| clean(tag) == **tag));
        names.take(MAX_CHOICES).map(|tag| format!("`{prefix}{tag}`")).collect()
    };
    match (matching.as_slice(), reference) {
        ([image], _) => Ok(image),
        ([], None) => Err(SourceError::NoImage { path }),
        ([], Some(name)) => Err(SourceError::NoSuchImage { path, reference: clean(name), choices: choices() }),
        (several, _) => Err(SourceError::Ambiguous { path, count: several.len(), choices: choices() }),
    }
}

/// Returns whether an image has a name, which may leave out what Docker adds: `docker.io/library/`, `:latest`.
fn is_named(image: &Listed, name: &str) -> bool {
    image.repo_tags.iter().any(|tag| familiar(tag) == familiar(name))
}

/// Returns a name the way Docker shows it to people, with its tag.
fn familiar(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if tagged { name.to_owned() } else { format!("{name}:latest") }
}

/// Returns the graph of the OCI image that is the same as `image`, if the archive holds all of it and it needs no
/// compressing.
fn find_graph(archive: &Archive, image: &Listed) -> Result<Option<ManifestGraph>, SourceError> {
    if !archive.holds(MARKER) || !archive.holds(INDEX) {
        return Ok(None);
    }
    let Some(config) = archive.resolve(&image.config)? else { return Ok(None) };
    let index = read_index(archive)?;
    let mut search = Search { archive, config: &config, seen: HashSet::new() };
    for entry in &as_index(archive, &index)?.manifests {
        let Some(platform) = search.find(entry, 0)? else { continue };
        let graph = match load_graph(archive, entry) {
            Err(SourceError::MissingPlatform { .. } | SourceError::MissingBlob { .. }) => {
                load_graph(archive, &platform)
            }
            graph => graph,
        };
        return match graph {
            Ok(graph) => Ok(Some(graph).filter(|graph| !needs_compressing(graph))),
            Err(SourceError::MissingBlob { .. }) => Ok(None),
            Err(error) => Err(error),
        };
    }
    Ok(None)
}

/// The search for the image manifest whose config is the file that `manifest.json` lists.
struct Search<'a> {
    archive: &'a Archive,
    config: &'a str,
    seen: HashSet<Digest>,
}

impl Search<'_> {
    fn find(&mut self, entry: &Descriptor, depth: usize) -> Result<Option<Descriptor>, SourceError> {
        if depth > MAX_DEPTH || self.seen.len() > MAX_MANIFESTS || !self.seen.insert(entry.digest.clone()) {
            return Ok(None);
        }
        let manifest = match load_manifest(self.archive, entry) {
            Ok(Some(manifest)) => manifest,
            Ok(None) | Err(SourceError::Child { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(image) = manifest.as_image() {
            return Ok((blob_name(&image.config.digest) == self.config).then(|| entry.clone()));
        }
        for child in manifest.as_index().into_iter().flat_map(|index| &index.manifests) {
            if let Some(found) = self.find(child, depth + 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Returns whether this is one image with uncompressed layers, as Docker's classic store exports it. An index is left as it
/// is: it cannot be compressed without making all of it anew.
fn needs_compressing(graph: &ManifestGraph) -> bool {
    let image = graph.manifests.last().and_then(Manifest::as_image);
    image.is_some_and(|image| {
        image.layers.iter().any(|layer| matches!(layer.media_type.as_str(), media_type::OCI_LAYER | DOCKER_LAYER))
    })
}

/// A config, and what is needed of it.
struct Config {
    bytes: Vec<u8>,
    parsed: ParsedConfig,
}

#[derive(Deserialize)]
struct ParsedConfig {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// Reads a config, and holds it to the digest that its name states, if it states one.
fn read_config(archive: &Archive, name: &str) -> Result<Config, SourceError> {
    let path = archive.describe(name);
    let bytes = read(archive, name, MAX_JSON)?.ok_or_else(|| SourceError::MissingFile { path: path.clone() })?;
    let stem = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".json");
    let stated = if stem.starts_with("sha256:") { stem.parse() } else { format!("sha256:{stem}").parse() };
    match stated {
        Ok(expected) if expected != Digest::of(&bytes) => {
            return Err(SourceError::Content { path, expected, actual: Digest::of(&bytes) });
        }
        _ => {}
    }
    let parsed = serde_json::from_slice(&bytes).map_err(|source| SourceError::Json { path, source })?;
    Ok(Config { bytes, parsed })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use flate2::{Compression as Level, write::GzEncoder};
    use serde_json::json;

    use super::super::fixture::{
        Files, blob_path, config, content, directory, graph, named, on, refusal, root, shown, write,
    };
    use super::super::layout::Layout;
    use super::super::{LayeredImage, SourceImage};
    use super::*;

    fn open_file(path: &Path, reference: Option<&str>) -> Result<Box<dyn Source>, SourceError> {
        open(Archive::open(path)?, &format!("docker-archive:{}:", path.display()), reference)
    }

    fn open_files(files: &Files, reference: Option<&str>) -> Result<Box<dyn Source>, SourceError> {
        let parent = directory();
        open_file(&files.tar_to(parent.path()), reference)
    }

    fn layered(source: &dyn Source) -> &LayeredImage {
        match source.image() {
            SourceImage::Layers(image) => image,
            SourceImage::Manifests(_) => panic!("the image has manifests"),
        }
    }

    fn gzipped(content: &[u8]) -> Vec<u8> {
        use std::io::Write as _;
        let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// The layout of `docker save` before 25: a directory for each layer, `manifest.json` last.
    fn old(layers: &[(&str, &[u8])], diff_ids: &[&[u8]]) -> Files {
        let mut files = Files::default();
        for (name, content) in layers {
            files.add(name, content);
        }
        let config = config(diff_ids);
        let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
        files.add(&name, config.as_bytes());
        let names: Vec<_> = layers.iter().map(|(name, _)| *name).collect();
        let list = json!([{"Config": name, "RepoTags": ["acme/app:1"], "Layers": names}]);
        files.add("manifest.json", list.to_string().as_bytes());
        files
    }

    #[test]
    fn uncompressed_layers_are_handed_over_as_they_are() {
        let files = old(&[("a/layer.tar", b"lower"), ("b/layer.tar", b"")], &[b"lower", b""]);

        let source = open_files(&files, None).unwrap();

        let image = layered(&*source);
        assert_eq!(image.config, config(&[b"lower", b""]).as_bytes());
        assert_eq!(image.layers.iter().map(|layer| layer.size).collect::<Vec<_>>(), [5, 0]);
        assert_eq!(content(&*source, &image.layers[0].diff_id), b"lower");
        assert_eq!(content(&*source, &image.layers[1].diff_id), b"");
    }

    #[test]
    fn a_layer_that_is_a_link_to_another_is_followed() {
        let parent = directory();
        let mut builder = tar::Builder::new(Vec::new());
        let append_link = |builder: &mut tar::Builder<Vec<u8>>, kind, name: &str, target: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
        };
        append_link(&mut builder, tar::EntryType::Symlink, "b/layer.tar", "../a/layer.tar");
        append_link(&mut builder, tar::EntryType::Link, "c/layer.tar", "a/layer.tar");
        append_link(&mut builder, tar::EntryType::Symlink, "d/layer.tar", "../../etc/passwd");
        append_link(&mut builder, tar::EntryType::Symlink, "e/layer.tar", "/etc/passwd");
        append_link(&mut builder, tar::EntryType::Symlink, "f/layer.tar", "../g/layer.tar");
        append_link(&mut builder, tar::EntryType::Symlink, "g/layer.tar", "../f/layer.tar");
        let links = builder.into_inner().unwrap();
        let with = |name: &str| {
            let files = old(&[("a/layer.tar", b"lower")], &[b"lower", b"lower"]);
            let list = String::from_utf8(files.0[2].1.clone()).unwrap();
            let mut files = files;
            files.replace("manifest.json", list.replace("[\"a/", &format!("[\"{name}/layer.tar\",\"a/")).as_bytes());
            let end = links.len() - 1024;
            open_file(&write(parent.path(), &[&links[..end], &files.tar()].concat()), None)
        };

        for name in ["b", "c"] {
            let source = with(name).unwrap();
            let layers = &layered(&*source).layers;
            assert_eq!(layers[0].size, 5);
            assert_eq!(content(&*source, &layers[0].diff_id), b"lower");
        }
        for name in ["d", "e"] {
            assert!(matches!(refusal(with(name)), SourceError::NotAFile { .. }));
        }
        assert!(matches!(refusal(with("f")), SourceError::Link { .. }));
    }

    #[test]
    fn compressed_layers_are_kept_and_get_a_manifest() {
        let (lower, upper) = (gzipped(b"lower"), gzipped(b"upper"));
        let files = old(&[("a.tar.gz", &lower), ("b.tar.gz", &upper)], &[b"lower", b"upper"]);

        let source = open_files(&files, None).unwrap();

        let image = graph(&*source).manifests[0].as_image().unwrap();
        assert_eq!(image.layers[0].media_type, media_type::OCI_LAYER_GZIP);
        assert_eq!(content(&*source, &image.layers[1].digest), upper);
        assert_eq!(content(&*source, &image.config.digest), config(&[b"lower", b"upper"]).as_bytes());
        assert_eq!(root(&*source), root(&*open_files(&files, None).unwrap()));
    }

    #[test]
    fn uncompressed_layers_among_compressed_ones_are_compressed() {
        let upper = gzipped(b"upper");
        let files = old(&[("a.tar", b"lower"), ("b.tar.gz", &upper)], &[b"lower", b"upper"]);

        let source = open_files(&files, None).unwrap();
        let wrong = open_files(&old(&[("a.tar", b"other"), ("b.tar.gz", &upper)], &[b"lower", b"upper"]), None);

        let layer = &graph(&*source).manifests[0].as_image().unwrap().layers[0];
        let compressed = content(&*source, &layer.digest);
        assert_eq!((compressed.len() as u64, Digest::of(&compressed)), (layer.size, layer.digest.clone()));
        assert!(matches!(refusal(wrong), SourceError::Content { .. }));
    }

    /// What `docker save` 25 and later writes beside the layout.
    fn with_list(mut files: Files, image: &Descriptor) -> Files {
        let bytes = &files.0.iter().find(|(name, _)| *name == blob_path(&image.digest)).unwrap().1;
        let manifest = Manifest::parse(bytes.clone(), None).unwrap();
        let manifest = manifest.as_image().unwrap();
        let layers: Vec<_> = manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect();
        let list =
            json!([{"Config": blob_path(&manifest.config.digest), "RepoTags": ["acme/app:1"], "Layers": layers}]);
        files.add("manifest.json", list.to_string().as_bytes());
        files
    }

    #[test]
    fn a_complete_layout_inside_keeps_its_digests() {
        let mut files = Files::layout();
        let (amd64, arm64) = (files.image("amd64"), files.image("arm64"));
        let outer = files.index(&[on(&amd64, "amd64"), on(&arm64, "arm64")]);
        let files = with_list(files.list(&[named(&outer, "1")]), &amd64);

        let source = open_files(&files, Some("docker.io/acme/app:1")).unwrap();

        assert_eq!(root(&*source), outer.digest);
    }

    #[test]
    fn the_platform_that_is_there_is_taken_from_an_index_that_is_not_all_there() {
        let mut files = Files::layout();
        let (amd64, arm64) = (files.image("amd64"), files.image("arm64"));
        let outer = files.index(&[on(&arm64, "arm64"), on(&amd64, "amd64")]);
        let mut files = with_list(files.list(&[outer]), &amd64);
        files.remove(&blob_path(&arm64.digest));

        let source = open_files(&files, None).unwrap();

        assert_eq!(root(&*source), amd64.digest);
    }

    #[test]
    fn a_layout_of_uncompressed_layers_is_compressed_on_the_way() {
        let mut files = Files::layout();
        let config = files.blob(media_type::OCI_CONFIG, config(&[b"lower"]).as_bytes());
        let layer = files.blob(media_type::OCI_LAYER, b"lower");
        let image = files.manifest(&config, &[layer]);
        let files = with_list(files.list(std::slice::from_ref(&image)), &image);

        let source = open_files(&files, None).unwrap();

        assert_eq!(layered(&*source).layers.len(), 1);
    }

    #[test]
    fn several_images_are_told_apart_by_name() {
        let mut files = old(&[("a/layer.tar", b"lower")], &[b"lower"]);
        let config = files.0[1].0.clone();
        let image = |tags: &[&str]| json!({"Config": config, "RepoTags": tags, "Layers": ["a/layer.tar"]});
        let list = json!([image(&["acme/app:1"]), image(&["app:latest", "acme/app:2"])]);
        files.replace("manifest.json", list.to_string().as_bytes());
        let parent = directory();
        let path = files.tar_to(parent.path());

        assert!(
            ["acme/app:1", "app", "docker.io/library/app:latest"]
                .iter()
                .all(|name| open_file(&path, Some(name)).is_ok())
        );
        insta::assert_snapshot!(shown(&refusal(open_file(&path, None)), parent.path()), @r"
        `TMP/image.tar` holds 2 images: which one?
        hint: write one of these as `source`: `docker-archive:TMP/image.tar:acme/app:1` or `docker-archive:TMP/image.tar:app:latest`
        ");
        insta::assert_snapshot!(shown(&refusal(open_file(&path, Some("acme/app:3"))), parent.path()), @r"
        `TMP/image.tar` holds no image `acme/app:3`
        hint: write one of these as `source`: `docker-archive:TMP/image.tar:acme/app:1` or `docker-archive:TMP/image.tar:app:latest`
        ");
    }

    #[test]
    fn archives_that_contradict_themselves_are_refused() {
        let good = old(&[("a/layer.tar", b"lower")], &[b"lower"]);
        let changed = |change: &dyn Fn(&mut Files)| {
            let mut files = good.clone();
            change(&mut files);
            open_files(&files, None)
        };
        let config = good.0[1].0.clone();

        assert!(changed(&|_| {}).is_ok());
        let doubled = changed(&|files| files.add("manifest.json", b"[]"));
        assert!(matches!(refusal(doubled), SourceError::Duplicate { .. }));
        let misnamed = changed(&|files| files.replace(&config, b"{}"));
        assert!(matches!(refusal(misnamed), SourceError::Content { .. }));
        let incomplete = changed(&|files| files.remove("a/layer.tar"));
        assert!(matches!(refusal(incomplete), SourceError::MissingFile { .. }));
        let nameless = changed(&|files| files.remove("manifest.json"));
        assert!(matches!(refusal(nameless), SourceError::NotADockerArchive { .. }));
        let fewer = open_files(&old(&[("a/layer.tar", b"lower")], &[b"lower", b"upper"]), None);
        assert!(matches!(refusal(fewer), SourceError::Layers { layers: 1, diff_ids: 2 }));
    }

    #[test]
    fn no_damage_to_an_archive_panics() {
        let parent = directory();
        let mut layout = Files::layout();
        let image = layout.image("one");
        let layout = with_list(layout.list(std::slice::from_ref(&image)), &image);
        let long = "directory/".repeat(20);
        let mixed =
            old(&[(&format!("{long}a.tar"), b"lower"), ("b.tar.gz", &gzipped(b"upper"))], &[b"lower", b"upper"]);
        for whole in [layout.tar(), mixed.tar()] {
            assert!(open_file(&write(parent.path(), &whole), None).is_ok());
            let mut refused = 0;

            for position in (0..whole.len()).step_by(97) {
                for flip in [0x01, 0x80, 0xff] {
                    let mut damaged = whole.clone();
                    damaged[position] ^= flip;
                    refused += usize::from(read_all(&write(parent.path(), &damaged)).is_none());
                }
                refused += usize::from(read_all(&write(parent.path(), &whole[..position])).is_none());
            }

            assert!(refused > 100, "only {refused} were refused");
        }
    }

    /// Opens and reads all of an image; `None` if any of it fails.
    fn read_all(path: &Path) -> Option<()> {
        drop(Layout::open(Box::new(Archive::open(path).ok()?), "oci-archive", None).ok());
        let source = open_file(path, None).ok()?;
        let digests: Vec<Digest> = match source.image() {
            SourceImage::Manifests(graph) => graph.blobs.iter().map(|blob| blob.digest.clone()).collect(),
            SourceImage::Layers(image) => image.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        };
        for digest in digests {
            std::io::copy(&mut source.open(&digest).ok()?, &mut std::io::sink()).ok()?;
        }
        Some(())
    }
}
