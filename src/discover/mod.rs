//! To come: discover.
