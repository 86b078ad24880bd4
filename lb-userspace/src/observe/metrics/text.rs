//! The Prometheus text format, version 0.0.4: families with their help and type, samples with escaped labels.

use std::fmt::{Display, Write as _};

/// The media type.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, and begins at zero with the controller or the packet path.
    Counter,
    /// It is so at the moment.
    Gauge,
    /// How many were at most so large, for each bound.
    Histogram,
}

impl Kind {
    /// In the word of the format.
    pub fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The samples of one metric, as they are written.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    text: &'a mut String,
    name: &'static str,
    labels: &'static [&'static str],
}

impl<'a> Samples<'a> {
    /// Begins a family.
    pub(super) fn of(
        text: &'a mut String,
        name: &'static str,
        kind: Kind,
        help: &str,
        labels: &'static [&'static str],
    ) -> Self {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.label());
        Self { text, name, labels }
    }

    /// One sample, with a value for each label.
    pub(super) fn add(&mut self, values: &[&str], value: impl Display) {
        self.line("", values, None, value);
    }

    /// A histogram of one series: how many kept each bound, all in all, and their sum.
    pub(super) fn histogram(&mut self, values: &[&str], bounds: &[f64], buckets: &[u64], count: u64, sum: f64) {
        let mut below = 0;
        for (bound, bucket) in bounds.iter().zip(buckets) {
            below += bucket;
            self.line("_bucket", values, Some(&bound.to_string()), below);
        }
        self.line("_bucket", values, Some("+Inf"), count);
        self.line("_sum", values, None, sum);
        self.line("_count", values, None, count);
    }

    fn line(&mut self, suffix: &str, values: &[&str], bound: Option<&str>, value: impl Display) {
        debug_assert_eq!(values.len(), self.labels.len(), "{}: a value for each label", self.name);
        let mut open = '{';
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (label, text) in self.labels.iter().zip(values).chain(bound.iter().map(|bound| (&"le", bound))) {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{open}{label}=\"{text}\"");
            open = ',';
        }
        let close = if open == ',' { "}" } else { "" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_the_format_wants_them() {
        let mut text = String::new();
        let mut samples = Samples::of(&mut text, "a_total", Kind::Counter, "Of\n\\a.", &["one", "two"]);
        samples.add(&["1", "\"\\\n"], 3);
        Samples::of(&mut text, "b", Kind::Gauge, "Of b.", &[]).add(&[], 0.5);
        let mut samples = Samples::of(&mut text, "c_seconds", Kind::Histogram, "Of c.", &["of"]);
        samples.histogram(&["x"], &[0.1, 2.0], &[1, 2], 4, 9.25);
        let wanted = r#"# HELP a_total Of\n\\a.
# TYPE a_total counter
a_total{one="1",two="\"\\\n"} 3
# HELP b Of b.
# TYPE b gauge
b 0.5
# HELP c_seconds Of c.
# TYPE c_seconds histogram
c_seconds_bucket{of="x",le="0.1"} 1
c_seconds_bucket{of="x",le="2"} 3
c_seconds_bucket{of="x",le="+Inf"} 4
c_seconds_sum{of="x"} 9.25
c_seconds_count{of="x"} 4
"#;
        assert_eq!(text, wanted);
    }
}
