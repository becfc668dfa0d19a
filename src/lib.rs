//! logweir reads log files as they arrive, turns each line into an Elasticsearch document and indexes it exactly once.
//!
//! The way of the data: [`discover`] → [`read`] → [`parse`] → [`enrich`] → [`batch`] → [`index`] → Elasticsearch, with
//! [`checkpoint`] told of each outcome. Stages meet in [`record`] and never import each other; [`pipeline`] alone knows
//! them all. ARCHITECTURE.md has the picture and the invariants.

pub mod batch;
pub mod budget;
pub mod checkpoint;
pub mod cli;
pub mod client;
pub mod config;
pub mod discover;
pub mod encode;
pub mod enrich;
pub mod filesystem;
pub mod index;
pub mod json;
pub mod keep;
pub mod parse;
pub mod pipeline;
pub mod read;
pub mod record;
pub mod setup;
mod simulated;
#[cfg(test)]
mod simulator;
pub mod telemetry;
pub mod tree;
pub mod verify;
