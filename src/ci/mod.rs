//! Where am I: the environment, captured once, and what the CI platform says of the job. Reads only.
//!
//! Writing to a platform (outputs, summaries, annotations) belongs to `report`.

mod environment;
mod job;

pub use environment::Environment;
pub use job::{Job, Platform};
