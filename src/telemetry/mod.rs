//! What logweir says of itself: numbers, logs, health, and what systemd is told.
//!
//! Used by every stage and uses none of them. Three promises:
//! - What happens is a value ([`events`]) whose `emit` counts and logs it, so that numbers and logs cannot disagree.
//! - Every number lives once, in [`Metrics`]: `/metrics`, OTLP, metrics documents, the progress line and `STATUS=` all read it
//!   there.
//! - Attributes come from the closed sets in [`names`]; paths and messages go to logs. Nothing is recorded per line.

pub mod documents;
pub mod events;
pub mod export;
pub mod health;
mod instruments;
pub mod logs;
pub mod metrics;
pub mod names;
pub mod progress;
pub mod said;
pub mod server;
pub mod systemd;

pub use documents::{Figures, SourceFigures};
pub use export::OtlpPush;
pub use health::{Health, Stage};
pub use metrics::{Lines, Metrics, Snapshot};
pub use names::{DocumentOutcome, FaultCause, FileEvent, Gauge, HoldCause, LineOutcome, RetryCause};
pub use server::TelemetryServer;
pub use systemd::Notifier;
