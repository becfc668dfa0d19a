//! What the tests share: a real Elasticsearch, the real binary, and independent counting.
//!
//! Every test has a directory and data sets of its own, so that all can run at once against one node; whatever a test
//! starts ends with it.

pub mod container;
pub mod daemon;
pub mod dice;
pub mod fake;
pub mod kibana;
pub mod machine;
pub mod mount;
pub mod nginx;
pub mod node;
pub mod numbered;
pub mod panels;
pub mod place;
pub mod proxy;
pub mod reference;
pub mod way;

pub use daemon::{Daemon, Run, Workspace};
pub use node::Node;
pub use proxy::Proxy;
pub use way::Way;

/// The ten fields that logweir is compared with other shippers by.
pub const TEN_FIELDS: [&str; 10] = [
    "source.address",
    "user.name",
    "@timestamp",
    "http.request.method",
    "url.original",
    "http.version",
    "http.response.status_code",
    "http.response.body.bytes",
    "http.request.referrer",
    "user_agent.original",
];
