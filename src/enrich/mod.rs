//! To come: enrich.
