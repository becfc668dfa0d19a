//! To come: client.
