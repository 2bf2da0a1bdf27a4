//! in-toto statements ([v1](https://github.com/in-toto/attestation/blob/v1.1.2/spec/v1/statement.md)).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json;
use crate::oci::Digest;

/// The predicate type of the statement that is cosign's image signature.
pub const SIGN_V1: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";
const STATEMENT_V01: &str = "https://in-toto.io/Statement/v0.1";
/// The most subjects that a statement may have.
const MAX_SUBJECTS: usize = 1024;
/// The most digests that a subject may have.
const MAX_DIGESTS: usize = 32;

/// What a statement says, apart from its predicate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    /// What it is about.
    #[serde(rename = "subject")]
    pub subjects: Vec<Subject>,
    /// The type of the predicate.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
}

/// One thing that a statement is about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Subject {
    /// Its name, if it has one.
    #[serde(default)]
    pub name: Option<String>,
    /// Its digests, by algorithm.
    #[serde(default, rename = "digest")]
    pub digests: BTreeMap<String, String>,
    /// Annotations: cosign's signed ones.
    #[serde(default)]
    pub annotations: BTreeMap<String, serde_json::Value>,
}

impl Subject {
    /// Returns whether it is what `digest` names, by the same algorithm.
    pub fn is(&self, digest: &Digest) -> bool {
        self.digests.get(digest.algorithm().name()).is_some_and(|hex| hex == digest.hex())
    }

    /// Returns the annotations whose values are text.
    pub fn text_annotations(&self) -> BTreeMap<String, String> {
        let text = |(key, value): (&String, &serde_json::Value)| Some((key.clone(), value.as_str()?.to_owned()));
        self.annotations.iter().filter_map(text).collect()
    }
}

impl Statement {
    /// Reads a statement, v1 or v0.1. Fails on duplicate keys, on another type, without a predicate type, with more than
    /// 1,024 subjects, and with a subject that has no digest. A signature's predicate must be an object.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseStatementError> {
        json::refuse_duplicate_keys(bytes)?;
        let statement: Self = serde_json::from_slice(bytes)?;
        if !matches!(statement.kind.as_str(), STATEMENT_V1 | STATEMENT_V01) {
            return Err(ParseStatementError::Type { statement_type: crate::http::excerpt(&statement.kind) });
        }
        match statement.subjects.len() {
            0 => return Err(ParseStatementError::NoSubject),
            count if count > MAX_SUBJECTS => return Err(ParseStatementError::Subjects { count }),
            _ => {}
        }
        if !statement.subjects.iter().all(|subject| (1..=MAX_DIGESTS).contains(&subject.digests.len())) {
            return Err(ParseStatementError::Digests);
        }
        let claim: Claim<'_> = serde_json::from_slice(bytes)?;
        let object = claim.predicate.is_some_and(|predicate| predicate.get().starts_with('{'));
        if statement.predicate_type.is_empty() || (statement.predicate_type == SIGN_V1 && !object) {
            return Err(ParseStatementError::Predicate);
        }
        Ok(statement)
    }
}

/// The predicate, of which only the kind is looked at.
#[derive(Deserialize)]
struct Claim<'a> {
    #[serde(default, borrow)]
    predicate: Option<&'a serde_json::value::RawValue>,
}

/// Returns the statement that is an image's signature: `digest` with `annotations`, and nothing else.
pub fn sign_statement(digest: &Digest, annotations: &BTreeMap<String, String>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Out<'a> {
        #[serde(rename = "_type")]
        statement_type: &'a str,
        subject: [OutSubject<'a>; 1],
        predicate_type: &'a str,
        predicate: Empty,
    }
    #[derive(Serialize)]
    struct OutSubject<'a> {
        digest: BTreeMap<&'a str, &'a str>,
        annotations: &'a BTreeMap<String, String>,
    }
    #[derive(Serialize)]
    struct Empty {}
    let digest = BTreeMap::from([(digest.algorithm().name(), digest.hex())]);
    let statement = Out {
        statement_type: STATEMENT_V1,
        subject: [OutSubject { digest, annotations }],
        predicate_type: SIGN_V1,
        predicate: Empty {},
    };
    // Text in maps of text always serialises.
    serde_json::to_vec(&statement).unwrap_or_default()
}

/// The bytes are not a statement that we accept.
#[derive(Debug, thiserror::Error)]
pub enum ParseStatementError {
    /// Not JSON, a key named twice, or a field of another type.
    #[error("not an in-toto statement")]
    Json(#[from] serde_json::Error),
    /// Another type of statement.
    #[error("`{statement_type}` is not a type of statement that is supported")]
    Type {
        /// The type that it names.
        statement_type: String,
    },
    /// About nothing.
    #[error("the statement has no subject")]
    NoSubject,
    /// A subject without a digest, or with dozens.
    #[error("a subject of the statement does not have 1 to {MAX_DIGESTS} digests")]
    Digests,
    /// No predicate type, or a signature whose predicate is not an object.
    #[error("the statement does not say what it claims")]
    Predicate,
    /// About too much.
    #[error("{count} subjects are over the limit of {MAX_SUBJECTS}")]
    Subjects {
        /// How many it has.
        count: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_statement_equals_cosigns() {
        let files: [&[u8]; 2] = [
            include_bytes!("../../tests/fixtures/cosign/v3_bundle_sig_statement.json"),
            include_bytes!("../../tests/fixtures/cosign/v3_bundle_sig_annot_statement.json"),
        ];

        for file in files {
            let statement = Statement::parse(file).unwrap();
            let subject = &statement.subjects[0];
            let digest: Digest = format!("sha256:{}", subject.digests["sha256"]).parse().unwrap();

            let ours = sign_statement(&digest, &subject.text_annotations());

            assert_eq!(String::from_utf8(ours), String::from_utf8(file.to_vec()));
        }
    }

    #[test]
    fn what_is_no_statement_is_refused() {
        let good = r#"{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"digest":{"sha256":"00"}}],"predicateType":"x","predicate":{}}"#;

        assert!(Statement::parse(good.as_bytes()).is_ok());
        for bad in [
            "",
            "null",
            "[]",
            "{}",
            &good.replace("v0.1", "v9"),
            &good.replace(r#"[{"digest":{"sha256":"00"}}]"#, "[]"),
        ] {
            assert!(Statement::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signature_without_its_proper_predicate_is_refused() {
        let good = include_str!("../../tests/fixtures/cosign/v3_bundle_sig_statement.json");
        let predicate = r#""predicate":{}"#;
        let refused = [
            good.replace(predicate, r#""predicate":"{}""#),
            good.replace(predicate, r#""predicate":[]"#),
            good.replace(predicate, r#""predicate":null"#),
            good.replace(&format!(",{predicate}"), ""),
            good.replace(SIGN_V1, ""),
            good.replace(r#""subject":["#, r#""subject":[{"name":"x"},"#),
        ];

        assert!(Statement::parse(good.as_bytes()).is_ok());
        for text in refused {
            assert!(text != good && Statement::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
