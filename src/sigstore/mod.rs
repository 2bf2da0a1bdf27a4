//! Sigstore's vocabulary: payloads, statements, envelopes, bundles, public keys.
//!
//! No third-party type leaves this room; nothing here signs.

pub mod bundle;
pub mod dsse;
pub(crate) mod json;
pub mod public_key;
pub mod simple_signing;
pub mod statement;

pub use bundle::Bundle;
pub use public_key::{KeyAlgorithm, ParsePublicKeyError, PublicKey};
pub use simple_signing::SimpleSigning;
pub use statement::Statement;
