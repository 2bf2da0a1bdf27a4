//! touchmark pushes a container image that is already built, signs it, verifies what the registry serves, and only
//! then lets a tag point at it.
//!
//! ```text
//! cli + ci -> plan -> commands -> report
//! ```
//!
//! A stage takes its own spec, never the plan; never reads the environment; never prints. The rooms, bottom up (a room
//! uses earlier ones only, and `tests/integration/architecture.rs` holds them to it):
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`secret`] | values that cannot be printed by accident |
//! | [`oci`] | digests, references, descriptors, manifests: vocabulary, no I/O |
//! | [`ci`] | where am I: the captured environment and the platform's facts; reads only |
//! | [`http`] | the one HTTP client: TLS roots, proxies, timeouts, retries, redaction |
//! | [`source`] | where the image comes from |
//! | [`registry`] | the distribution client: login, blobs, manifests, referrers, push |
//! | [`sigstore`] | payloads, envelopes and bundles |
//! | [`sign`] | who signs |
//! | [`attachment`] | how a signature is stored beside the image |
//! | [`verify`] | is it true; shares nothing with `sign` and `attachment` |
//! | [`cli`] | text in: arguments and step inputs |
//! | [`plan`] | decisions, pure |
//! | [`error`] | one error for every stage, its exit status, its hint |
//! | [`report`] | tell them: console, outputs, summary; writes only |
//! | [`commands`] | order of work; the only room that sees every other |

pub mod attachment;
pub mod ci;
pub mod cli;
pub mod commands;
pub mod error;
pub mod http;
pub mod oci;
pub mod plan;
pub mod registry;
pub mod report;
pub mod secret;
pub mod sign;
pub mod sigstore;
pub mod source;
pub mod verify;
