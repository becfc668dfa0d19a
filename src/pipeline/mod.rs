//! The order of the stages, the channels between them, and how they start and drain.

pub mod budget;
