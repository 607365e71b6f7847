//! The writer against files built byte by byte in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "writer/harness.rs"]
mod harness;
#[path = "writer/interrupted.rs"]
mod interrupted;
#[path = "writer/whole.rs"]
mod whole;
