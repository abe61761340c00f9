//! One OpenTelemetry span per generation, behind the feature `opentelemetry`.
//!
//! Flow: a request's scope (its parent, its start) → **`Generation`** (fed by the recorder of the metrics) → the program's tracer.
//! This file alone knows of the feature; without it, everything here compiles to nothing.

#[cfg(not(feature = "opentelemetry"))]
mod disabled;
#[cfg(feature = "opentelemetry")]
mod enabled;

#[cfg(not(feature = "opentelemetry"))]
use disabled as chosen;
#[cfg(feature = "opentelemetry")]
use enabled as chosen;

pub use chosen::Telemetry;
pub(crate) use chosen::{Generation, asked, carried, layer, refused};
