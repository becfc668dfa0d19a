//! How the panels of the built dashboards are proven: each is turned into the requests that Kibana would send, these run
//! against a real cluster that the real binary filled, and every number of the answers is compared with one that was computed
//! from the raw lines by other means.
//!
//! [`saved`] reads the built files, [`read`] and `series` say what an object asks as a tree ([`ask`]), [`record`] reads the raw
//! lines, `expected` says what they come to, [`compare`] holds an answer against that, [`check`] does so for all panels, and [`fill`]
//! fills the cluster.

mod agents;
pub mod ask;
pub mod check;
pub mod compare;
mod expected;
pub mod fill;
pub mod interval;
mod math;
pub mod query;
pub mod read;
pub mod record;
pub mod saved;
mod series;

pub use ask::Cluster;
pub use check::{Report, World};
pub use fill::{Filled, Target};
