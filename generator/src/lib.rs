//! Writes reproducible log traffic, and a manifest that says what was written.
//!
//! A [`Scenario`] describes who asks for what, how fast it is answered and what goes wrong. A [`Generator`] turns it
//! and a [`Schedule`] into lines of one [`Format`], a [`Writer`] puts the lines into chunk files or one rotating file,
//! and a [`Tally`] counts them into a [`Manifest`]. [`Run`] ties these together, as the program does.
//!
//! Equal scenario, seed, schedule, format and dirty fraction give equal bytes, with the same build. Nothing here
//! shares code with the daemon: the manifest is evidence only as long as writer and reader share no bug.

mod catalog;
mod dirty;
mod event;
mod format;
mod generator;
mod manifest;
mod phase;
mod run;
mod sample;
mod scenario;
mod schedule;
pub mod units;
mod writer;

pub use catalog::{Catalog, Client, Term};
pub use dirty::Dirty;
pub use event::Event;
pub use format::Format;
pub use generator::{Generator, Settings};
pub use manifest::{Manifest, RunInfo, Tally};
pub use run::{Progress, Run};
pub use scenario::{ClientGroup, Endpoint, Episode, ErrorText, Latency, Range, Scenario, Service, Size, Weighted};
pub use schedule::{Load, Schedule};
pub use writer::{FileEntry, Layout, Limit, Rotation, RotationMethod, Writer, WriterOptions};
