//! To come: setup.
