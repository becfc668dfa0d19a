//! To come: read.
