//! The index that lists referrers: read leniently, and written with everything of others as it was.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::value::RawValue;

use crate::oci::{Descriptor, media_type};

/// An index of referrers whose entries are kept byte for byte.
#[derive(Clone, Debug)]
pub(super) struct FallbackIndex {
    /// Everything beside `manifests`, in the order it came in.
    fields: Vec<(String, Box<RawValue>)>,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    raw: Box<RawValue>,
    /// `None`: an entry that we do not understand, somebody else's.
    descriptor: Option<Descriptor>,
}

impl Default for FallbackIndex {
    fn default() -> Self {
        let raw = |text: &str| RawValue::from_string(text.to_owned());
        let fields = [("schemaVersion", raw("2")), ("mediaType", raw(&format!("\"{}\"", media_type::OCI_INDEX)))];
        let fields = fields.into_iter().filter_map(|(name, raw)| Some((name.to_owned(), raw.ok()?))).collect();
        Self { fields, entries: Vec::new() }
    }
}

impl FallbackIndex {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Fields(mut fields) =
            serde_json::from_slice(bytes).map_err(|_| "it is not the JSON of an index".to_owned())?;
        let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, raw)| raw.get());
        if field("schemaVersion") != Some("2") {
            return Err("its schema version is not 2".to_owned());
        }
        let stated = field("mediaType").map(serde_json::from_str::<String>);
        if stated.is_some_and(|stated| stated.ok().as_deref() != Some(media_type::OCI_INDEX)) {
            return Err("its media type is not that of an index".to_owned());
        }
        let position = fields.iter().position(|(name, _)| name == "manifests");
        let manifests = position.map(|position| fields.remove(position).1);
        let raw = manifests.ok_or_else(|| "it has no `manifests`".to_owned())?;
        // Some registries write an empty list as null.
        let raw: Option<Vec<Box<RawValue>>> =
            serde_json::from_str(raw.get()).map_err(|_| "its `manifests` are not a list".to_owned())?;
        let entries = raw.unwrap_or_default().into_iter().map(Entry::new).collect();
        Ok(Self { fields, entries })
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the entries that are understood.
    pub(super) fn descriptors(self) -> impl Iterator<Item = Descriptor> {
        self.entries.into_iter().filter_map(|entry| entry.descriptor)
    }

    /// Returns the index with `referrer` in it, sorted by digest. `None`: it is in there already, as it should be.
    ///
    /// An entry with the same digest that says something else of it is replaced: older cosigns wrote the wrong artifact
    /// type and no annotations.
    pub(super) fn with(mut self, referrer: &Descriptor) -> Option<Self> {
        let ours = |entry: &Entry| entry.descriptor.as_ref().is_some_and(|known| known.digest == referrer.digest);
        let right = |entry: &Entry| entry.descriptor.as_ref() == Some(referrer);
        if self.entries.iter().any(right) && self.entries.iter().filter(|entry| ours(entry)).count() == 1 {
            return None;
        }
        self.entries.retain(|entry| !ours(entry));
        let raw = serde_json::value::to_raw_value(referrer).ok()?;
        self.entries.push(Entry { raw, descriptor: Some(referrer.clone()) });
        self.entries.sort_by_key(Entry::order);
        Some(self)
    }

    /// Returns the index with `referrer` in it and everything that was `seen` in it before. `None`: all of that is there.
    pub(super) fn completed(self, referrer: &Descriptor, seen: Option<&Self>) -> Option<Self> {
        let before = seen.map(|seen| seen.entries.as_slice()).unwrap_or_default();
        let lost: Vec<Entry> = before.iter().filter(|entry| !self.has(entry)).cloned().collect();
        if lost.is_empty() {
            return self.with(referrer);
        }
        let mut index = self;
        index.entries.extend(lost);
        index.entries.sort_by_key(Entry::order);
        Some(index.clone().with(referrer).unwrap_or(index))
    }

    fn has(&self, wanted: &Entry) -> bool {
        self.entries.iter().any(|entry| match (&entry.descriptor, &wanted.descriptor) {
            (Some(one), Some(other)) => one.digest == other.digest,
            _ => entry.raw.get() == wanted.raw.get(),
        })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Serialising strings and raw JSON to memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Entry {
    fn new(raw: Box<RawValue>) -> Self {
        let descriptor = serde_json::from_str(raw.get()).ok();
        if descriptor.is_none() {
            tracing::debug!("a referrer is listed in a way that is not understood");
        }
        Self { raw, descriptor }
    }

    /// What entries are sorted by; those that are not understood come last, in the order they came in.
    fn order(&self) -> (bool, Option<String>) {
        (self.descriptor.is_none(), self.descriptor.as_ref().map(|descriptor| descriptor.digest.to_string()))
    }
}

impl Serialize for FallbackIndex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (before, after): (Vec<_>, Vec<_>) =
            self.fields.iter().partition(|(name, _)| matches!(name.as_str(), "schemaVersion" | "mediaType"));
        let mut map = serializer.serialize_map(Some(self.fields.len() + 1))?;
        for (name, raw) in before {
            map.serialize_entry(name, raw)?;
        }
        let entries: Vec<_> = self.entries.iter().map(|entry| &entry.raw).collect();
        map.serialize_entry("manifests", &entries)?;
        for (name, raw) in after {
            map.serialize_entry(name, raw)?;
        }
        map.end()
    }
}

/// The fields of a JSON object, each once, in their order.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, raw)) = map.next_entry::<String, Box<RawValue>>()? {
                    if fields.iter().any(|(known, _)| *known == name) || fields.len() == 100 {
                        return Err(A::Error::custom("a field occurs twice, or there are too many"));
                    }
                    fields.push((name, raw));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn referrer(bytes: &[u8]) -> Descriptor {
        Descriptor {
            artifact_type: Some("application/vnd.dev.sigstore.bundle.v0.3+json".to_owned()),
            ..Descriptor::of(media_type::OCI_MANIFEST, bytes)
        }
    }

    fn text(index: &FallbackIndex) -> String {
        String::from_utf8(index.to_bytes()).unwrap()
    }

    #[test]
    fn the_first_referrer_makes_the_index() {
        let referrer = referrer(b"a");

        let index = FallbackIndex::default().with(&referrer).unwrap();

        assert_eq!(
            text(&index),
            format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"{}","artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"}}]}}"#,
                referrer.digest
            )
        );
    }

    #[test]
    fn what_others_wrote_stays_byte_for_byte() {
        let entry = |digit: &str, rest: &str| {
            format!(r#"{{ "digest":"sha256:{}", "size" : 3,"mediaType":"m"{rest} }}"#, digit.repeat(64))
        };
        let theirs = [entry("0", r#","x-odd":[1.0,1e5]"#), entry("f", r#","artifactType":"é\u00e9""#)];
        let strange = r#"{"digest":"sha1:00"}"#;
        let before = format!(
            r#"{{"manifests":[{},{},{strange}],"schemaVersion":2,"annotations":{{"b":"1", "a":"2"}}}}"#,
            theirs[1], theirs[0]
        );

        let after = FallbackIndex::parse(before.as_bytes()).unwrap().with(&referrer(b"a")).unwrap();

        let ours = serde_json::to_string(&referrer(b"a")).unwrap();
        assert_eq!(
            text(&after),
            format!(
                r#"{{"schemaVersion":2,"manifests":[{},{ours},{},{strange}],"annotations":{{"b":"1", "a":"2"}}}}"#,
                theirs[0], theirs[1]
            )
        );
    }

    #[test]
    fn a_referrer_that_is_listed_needs_no_write() {
        let index = FallbackIndex::default().with(&referrer(b"a")).unwrap().with(&referrer(b"b")).unwrap();
        let read = FallbackIndex::parse(&index.to_bytes()).unwrap();

        assert!(read.clone().with(&referrer(b"a")).is_none());
        assert!(read.clone().with(&referrer(b"b")).is_none());
        assert!(read.with(&referrer(b"c")).is_some());
    }

    #[test]
    fn what_was_seen_and_is_gone_comes_back() {
        let seen = FallbackIndex::default().with(&referrer(b"a")).unwrap().with(&referrer(b"b")).unwrap();
        let overwritten = FallbackIndex::default().with(&referrer(b"c")).unwrap();

        let whole = overwritten.clone().completed(&referrer(b"a"), Some(&seen)).unwrap();

        let mut expected = [b"a", b"b", b"c"].map(|bytes| referrer(bytes));
        expected.sort_by_key(|referrer| referrer.digest.to_string());
        assert!(whole.clone().completed(&referrer(b"a"), Some(&seen)).is_none());
        assert_eq!(whole.descriptors().collect::<Vec<_>>(), expected);
        assert!(overwritten.completed(&referrer(b"c"), None).is_none());
    }

    #[test]
    fn an_entry_of_ours_that_is_wrong_is_repaired() {
        let wrong = Descriptor { artifact_type: Some(media_type::OCI_EMPTY.to_owned()), ..referrer(b"a") };
        let index = FallbackIndex::default().with(&wrong).unwrap();

        let index = index.with(&referrer(b"a")).unwrap();

        assert_eq!(index.descriptors().collect::<Vec<_>>(), [referrer(b"a")]);
    }

    #[test]
    fn what_is_no_index_is_refused() {
        let refused = [
            "",
            "[]",
            "{}",
            r#"{"schemaVersion":1,"manifests":[]}"#,
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":2,"manifests":{}}"#,
            r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#,
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#,
        ];

        for text in refused {
            assert!(FallbackIndex::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(FallbackIndex::parse(br#"{"schemaVersion":2,"manifests":[]}"#).is_ok());
        assert!(FallbackIndex::parse(br#"{"schemaVersion":2,"manifests":null}"#).is_ok());
    }
}
