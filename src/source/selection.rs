//! Which image of an `index.json` is meant.

use std::collections::BTreeSet;
use std::path::Path;

use super::SourceError;
use super::error::clean;
use crate::oci::{Descriptor, Digest, Index};

/// Selects `index.json` itself: all of its entries, as one multi-platform image.
const WHOLE: &str = "index.json";
/// The annotation that names an entry: a tag, or whatever the writer liked.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation by which containerd and Docker give the full name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The most choices that an error lists.
const MAX_CHOICES: usize = 10;

/// What was selected.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selected<'a> {
    /// An entry.
    Entry(&'a Descriptor),
    /// `index.json` itself.
    Whole,
}

/// An `index.json` and what is needed to tell the user how to choose from it.
pub(super) struct Choice<'a> {
    /// The index.
    pub index: &'a Index,
    /// The layout or archive.
    pub path: &'a Path,
    /// `oci` or `oci-archive`: what the source is written with.
    pub prefix: &'a str,
}

impl<'a> Choice<'a> {
    /// Returns the one entry that `reference` names: by annotation, by containerd's full name, or by digest.
    ///
    /// Entries of the same digest, which are tags of one image, count as one. Without `reference` there must be one image.
    pub(super) fn select(&self, reference: Option<&str>) -> Result<Selected<'a>, SourceError> {
        let matching: Vec<&Descriptor> =
            self.index.manifests.iter().filter(|entry| reference.is_none_or(|name| is_named(entry, name))).collect();
        let digests: BTreeSet<&Digest> = matching.iter().map(|entry| &entry.digest).collect();
        let path = self.path.to_owned();
        match (matching.first(), digests.len(), reference) {
            (Some(entry), 1, _) => Ok(Selected::Entry(entry)),
            (None, _, Some(WHOLE)) if !self.index.manifests.is_empty() => Ok(Selected::Whole),
            (None, _, None) => Err(SourceError::NoImage { path }),
            (None, _, Some(name)) => {
                Err(SourceError::NoSuchImage { path, reference: clean(name), choices: self.choices() })
            }
            (Some(_), count, _) => Err(SourceError::Ambiguous { path, count, choices: self.choices() }),
        }
    }

    /// Returns what can be written as source, for people to copy.
    fn choices(&self) -> Vec<String> {
        let source = |name: &str| format!("`{}:{}:{name}`", self.prefix, self.path.display());
        let mut choices = Vec::new();
        let nameless = self.index.manifests.iter().all(|entry| names(entry).next().is_none());
        if nameless && self.index.manifests.len() > 1 {
            choices.push(format!("{} (all of them, as one image)", source(WHOLE)));
        }
        let mut listed = BTreeSet::new();
        for entry in self.index.manifests.iter().filter(|entry| !entry.is_attestation_manifest()) {
            if choices.len() == MAX_CHOICES {
                break;
            }
            if !listed.insert(&entry.digest) {
                continue;
            }
            let name = names(entry).find(|name| self.is_unique(name));
            let platform = entry.platform.as_ref().filter(|_| name.is_none());
            let name = name.map_or_else(|| entry.digest.to_string(), ToOwned::to_owned);
            let platform = platform.map(|platform| format!(" ({})", clean(&platform.to_string())));
            choices.push(source(&name) + &platform.unwrap_or_default());
        }
        choices
    }

    /// Returns whether a name can be typed and leads to one image.
    fn is_unique(&self, name: &str) -> bool {
        let digests: BTreeSet<&Digest> =
            self.index.manifests.iter().filter(|entry| is_named(entry, name)).map(|entry| &entry.digest).collect();
        digests.len() == 1 && clean(name) == name
    }
}

fn names(entry: &Descriptor) -> impl Iterator<Item = &str> {
    [REF_NAME, CONTAINERD_NAME].into_iter().filter_map(|key| entry.annotations.get(key)).map(String::as_str)
}

fn is_named(entry: &Descriptor, name: &str) -> bool {
    names(entry).any(|known| known == name) || name.parse::<Digest>().is_ok_and(|digest| digest == entry.digest)
}
