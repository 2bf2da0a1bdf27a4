//! One stored signature, and whether it satisfies a policy.

use serde::Serialize;

use super::{Claims, Policy, Reason, VerifiedSignature};
use crate::oci::{Digest, PinnedReference};
use crate::sigstore::dsse::{Envelope, IN_TOTO};
use crate::sigstore::statement::{SIGN_V1, Subject};
use crate::sigstore::{Bundle, SimpleSigning, Statement};

/// Where a signature is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// A layer at the `.sig` tag, as cosign 2 writes it.
    Legacy,
    /// A bundle that refers to the image, as cosign 3 writes it.
    Bundle,
    /// A legacy payload in a manifest that refers to the image: cosign's experimental layout.
    LegacyReferrer,
}

/// A signature as it was found. Nothing about it is known to be true.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) store: Store,
    pub(super) manifest: Digest,
    pub(super) content: Content,
}

/// What was found.
#[derive(Debug)]
pub(super) enum Content {
    /// A simple signing payload with its signature.
    Payload { payload: Vec<u8>, signature: Vec<u8>, evidence: bool },
    /// A bundle.
    Bundle(Vec<u8>),
    /// Something that cannot be read.
    Broken(Reason),
}

impl Candidate {
    /// Decides whether the signature satisfies `policy`.
    pub(super) fn judge(self, image: &PinnedReference, policy: &Policy) -> Result<VerifiedSignature, Reason> {
        let (store, manifest) = (self.store, self.manifest);
        let (annotations, payload, unchecked_evidence) = match self.content {
            Content::Broken(reason) => return Err(reason),
            Content::Payload { payload, signature, evidence } => {
                if !policy.key.verify(&payload, &signature) {
                    return Err(Reason::WrongKey);
                }
                let said = SimpleSigning::parse(&payload).map_err(|error| Reason::malformed(&error))?;
                if policy.claims == Claims::Required && &said.digest != image.digest() {
                    return Err(Reason::other(&said.digest));
                }
                (said.annotations, payload, evidence)
            }
            Content::Bundle(bytes) => {
                let bundle = Bundle::parse(&bytes).map_err(|error| Reason::malformed(&error))?;
                let envelope =
                    bundle.envelope().ok_or_else(|| Reason::malformed("the bundle is not over a statement"))?;
                let subject = judge_envelope(envelope, image, policy)?;
                let evidence = bundle.log_entries + bundle.timestamps > 0;
                (subject.text_annotations(), envelope.payload.clone(), evidence)
            }
        };
        policy.check_annotations(&annotations)?;
        Ok(VerifiedSignature { store, manifest, annotations, payload, unchecked_evidence })
    }
}

/// Checks the signature first: what is not signed is not read.
fn judge_envelope(envelope: &Envelope, image: &PinnedReference, policy: &Policy) -> Result<Subject, Reason> {
    if envelope.payload_type != IN_TOTO {
        return Err(Reason::malformed(&format!("its payload is a `{}`", envelope.payload_type)));
    }
    let [signature] = envelope.signatures.as_slice() else {
        return Err(Reason::malformed(&format!("its envelope has {} signatures", envelope.signatures.len())));
    };
    if !policy.key.verify(&envelope.pae(), signature) {
        return Err(Reason::WrongKey);
    }
    let statement = Statement::parse(&envelope.payload).map_err(|error| Reason::malformed(&error))?;
    if statement.predicate_type != SIGN_V1 {
        return Err(Reason::Attestation { predicate_type: crate::http::excerpt(&statement.predicate_type) });
    }
    let mut subjects = statement.subjects;
    let position = match policy.claims {
        Claims::Required => subjects.iter().position(|subject| subject.is(image.digest())),
        Claims::NotChecked => Some(0),
    };
    position.map(|position| subjects.swap_remove(position)).ok_or_else(|| Reason::OtherImage {
        found: subjects
            .first()
            .and_then(|subject| subject.digests.values().next())
            .map_or_else(|| "nothing".to_owned(), |digest| crate::http::excerpt(digest)),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;
    use crate::oci::{DefaultRegistry, Manifest, Reference};
    use crate::sigstore::PublicKey;

    const V2: &[u8] = include_bytes!("../../tests/fixtures/cosign/keys/v2/cosign.pub");
    const V3: &[u8] = include_bytes!("../../tests/fixtures/cosign/keys/v3/cosign.pub");
    const PAYLOAD: &[u8] = include_bytes!("../../tests/fixtures/cosign/v2_sig_payload.json");
    const BUNDLE: &[u8] = include_bytes!("../../tests/fixtures/cosign/v3_bundle_sig_annot_bundle.json");

    fn policy(key: &[u8], annotations: &[(&str, &str)]) -> Policy {
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Policy { key: PublicKey::from_pem(key).unwrap(), annotations, claims: Claims::Required }
    }

    fn image(digest: &str) -> PinnedReference {
        Reference::parse(&format!("ghcr.io/acme/app@{digest}"), DefaultRegistry::None).unwrap().pinned().unwrap()
    }

    fn legacy() -> (Content, PinnedReference) {
        let golden = include_bytes!("../../tests/fixtures/cosign/v2_sig_manifest.json");
        let manifest = Manifest::parse(golden.to_vec(), None).unwrap();
        let layer = &manifest.as_image().unwrap().layers[0];
        let signature = BASE64_STANDARD.decode(&layer.annotations["dev.cosignproject.cosign/signature"]).unwrap();
        let said = SimpleSigning::parse(PAYLOAD).unwrap();
        let content = Content::Payload { payload: PAYLOAD.to_vec(), signature, evidence: false };
        (content, image(&said.digest.to_string()))
    }

    fn bundled() -> PinnedReference {
        let bundle = Bundle::parse(BUNDLE).unwrap();
        let statement = Statement::parse(&bundle.envelope().unwrap().payload).unwrap();
        image(&format!("sha256:{}", statement.subjects[0].digests["sha256"]))
    }

    fn judge(content: Content, image: &PinnedReference, policy: &Policy) -> Result<BTreeMap<String, String>, Reason> {
        let candidate = Candidate { store: Store::Legacy, manifest: Digest::of(b""), content };
        candidate.judge(image, policy).map(|signature| signature.annotations)
    }

    #[test]
    fn cosigns_legacy_signature_verifies_for_its_key_and_image_only() {
        let (_, own) = legacy();
        let other = image(&Digest::of(b"other").to_string());

        assert!(judge(legacy().0, &own, &policy(V2, &[])).is_ok());
        assert_eq!(judge(legacy().0, &own, &policy(V3, &[])), Err(Reason::WrongKey));
        assert!(matches!(judge(legacy().0, &other, &policy(V2, &[])), Err(Reason::OtherImage { .. })));
    }

    #[test]
    fn one_changed_byte_is_a_wrong_signature() {
        let (content, own) = legacy();
        let Content::Payload { mut payload, signature, .. } = content else { panic!("no payload") };
        payload[20] ^= 1;

        let content = Content::Payload { payload, signature, evidence: false };

        assert_eq!(judge(content, &own, &policy(V2, &[])), Err(Reason::WrongKey));
    }

    #[test]
    fn cosigns_bundle_verifies_with_its_annotations_only() {
        let own = bundled();
        let content = || Content::Bundle(BUNDLE.to_vec());

        let annotations = judge(content(), &own, &policy(V3, &[("sha", "abc123"), ("run_id", "42")])).unwrap();

        assert_eq!(annotations["run_attempt"], "1");
        assert_eq!(judge(content(), &own, &policy(V2, &[])), Err(Reason::WrongKey));
        assert!(matches!(judge(content(), &own, &policy(V3, &[("sha", "x")])), Err(Reason::Annotation { .. })));
        assert!(matches!(judge(content(), &own, &policy(V3, &[("ref", "x")])), Err(Reason::AnnotationMissing { .. })));
        assert!(matches!(
            judge(content(), &image(&Digest::of(b"other").to_string()), &policy(V3, &[])),
            Err(Reason::OtherImage { .. })
        ));
    }

    #[test]
    fn a_damaged_bundle_never_verifies_and_never_panics() {
        let own = bundled();
        let policy = policy(V3, &[("sha", "abc123")]);
        let payload = Bundle::parse(BUNDLE).unwrap().envelope().unwrap().pae();

        for position in 0..BUNDLE.len() {
            let mut bytes = BUNDLE.to_vec();
            bytes[position] ^= 1;
            // The hint is not signed, and only a hint.
            let changed = Bundle::parse(&bytes).ok().and_then(|bundle| Some(bundle.envelope()?.pae() != payload));

            let judged = judge(Content::Bundle(bytes), &own, &policy);

            assert!(judged.is_err() || changed == Some(false), "byte {position}");
        }
        for length in 0..BUNDLE.len() {
            assert!(judge(Content::Bundle(BUNDLE[..length].to_vec()), &own, &policy).is_err());
        }
    }
}
