//! To come: telemetry.
