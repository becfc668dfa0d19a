//! Discovery: which files there are, and which of them are files that were met before.
//!
//! [`scan`] lists globs and is the truth; [`watch`] hears of changes and is only ever a hint: losing all of them costs one
//! scan interval, never a byte (invariant 7). [`identity`] decides, purely, whether a file is one that is known already
//! (invariant 3). Nothing here reads lines or knows what they mean.

pub mod identity;
pub mod scan;
pub mod watch;
