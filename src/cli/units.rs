//! Quantities for people, each with its unit: time spans, rates and sizes. PURE. Called by `status` and `tail`.

/// A time span: `340 ms`, `12 s`, `34 min`, `5 h`, `3 d`. Each unit is used up to twice the next one.
pub(super) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    match seconds {
        ..0.0005 => "0 ms".to_owned(),
        ..0.9995 => format!("{:.0} ms", seconds * 1e3),
        ..9.95 => format!("{seconds:.1} s"),
        ..119.5 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", (seconds / 60.0).floor()),
        ..172_800.0 => format!("{:.0} h", (seconds / 3600.0).floor()),
        _ => format!("{:.0} d", (seconds / 86_400.0).floor()),
    }
}

/// A rate: `12/s` or `3.4/min`, whichever has digits before the point.
pub(super) fn rate(count: i64, seconds: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    let per_second = if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    match per_second {
        ..1.0 => format!("{}/min", short(per_second * 60.0)),
        _ => format!("{}/s", short(per_second)),
    }
}

/// A size: `0 B`, `12 kB`, `3.4 GB`, in units of 1000.
pub(super) fn size(bytes: f64) -> String {
    let mut value = bytes.abs();
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    let sign = if bytes < 0.0 { "-" } else { "" };
    if unit == "B" { format!("{sign}{value:.0} B") } else { format!("{sign}{} {unit}", short(value)) }
}

/// One digit after the point below ten.
fn short(value: f64) -> String {
    if value == 0.0 || value >= 9.95 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_one_unit() {
        for (seconds, text) in [
            (-5.0, "0 ms"),
            (0.0, "0 ms"),
            (0.0123, "12 ms"),
            (0.9999, "1.0 s"),
            (9.96, "10 s"),
            (119.0, "119 s"),
            (120.0, "2 min"),
            (7199.0, "119 min"),
            (7200.0, "2 h"),
            (172_799.0, "47 h"),
            (864_000.0, "10 d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn a_rate_is_never_rounded_to_zero_while_events_arrive() {
        for (count, seconds, text) in [
            (0, 300.0, "0/min"),
            (1, 300.0, "0.2/min"),
            (300, 300.0, "1.0/s"),
            (20_000, 10.0, "2000/s"),
            (5, 0.0, "0/min"),
        ] {
            assert_eq!(rate(count, seconds), text);
        }
    }

    #[test]
    fn a_size_has_three_digits_at_most() {
        for (bytes, text) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (999.6, "1.0 kB"),
            (12_345.0, "12 kB"),
            (3.4e9, "3.4 GB"),
            (-2e6, "-2.0 MB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
