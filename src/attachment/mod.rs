//! How a signature is stored beside its image.

mod formats;

pub use formats::Formats;
