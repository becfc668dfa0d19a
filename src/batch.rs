//! To come: batch.
