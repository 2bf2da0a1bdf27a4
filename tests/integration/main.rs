//! Integration tests: the real binary, in an empty environment, against servers in process that speak the real protocols.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should panic")]

mod architecture;
mod crash;
mod errors;
mod interface;
mod platforms;
mod publish;
mod support;
mod verify;
