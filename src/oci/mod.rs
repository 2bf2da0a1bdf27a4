//! The OCI vocabulary: digests, references, descriptors, manifests. No I/O and no policy lives here.
//!
//! Terms follow the [image](https://github.com/opencontainers/image-spec/blob/v1.1.1/spec.md) and
//! [distribution](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md) specifications.

mod descriptor;
mod digest;
mod manifest;
pub mod media_type;
mod platform;
mod reference;

pub use descriptor::Descriptor;
pub use digest::{Digest, DigestAlgorithm, Digester, ParseDigestError};
pub use manifest::{ImageManifest, Index, Manifest, ParseManifestError};
pub use platform::Platform;
pub use reference::{DefaultRegistry, ParseReferenceError, PinnedReference, Reference, Repository, Tag};
