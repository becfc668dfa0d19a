//! Reading: bytes of a file as they stand, in whole lines, from a known position on, and never past a changed past.
//!
//! Promise: before any byte is read, the bytes before it are hashed again; if they are not the ones that were read
//! earlier, nothing is delivered and [`Step::Replaced`] says that this is another file now (invariant 3). Memory is one
//! block a reader, whatever a file holds. Nothing here knows globs, formats or Elasticsearch.

mod content;
mod lines;

pub use crate::filesystem::Stat;
pub use content::{Compression, Content, Head};
pub use lines::{Cursor, Limits, Reader, Step};
