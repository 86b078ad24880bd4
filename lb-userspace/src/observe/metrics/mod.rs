//! `/metrics`: what the controller counts and shows, as Prometheus reads it. Pure: measures in, text out.

mod list;
mod text;

pub use list::{METRICS, Metric};
pub use text::{Kind, MEDIA_TYPE};

use self::text::Samples;
use crate::control::tally::Measures;

/// All metrics.
pub fn page(measures: &Measures) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let mut samples = Samples::of(&mut text, metric.name, metric.kind, metric.help, metric.labels);
        (metric.read)(measures, &mut samples);
    }
    text
}

#[cfg(test)]
mod tests;
