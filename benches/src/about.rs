//! Where and with what something was measured.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{cpython, meter};

/// The compiler that this program was built with.
pub(crate) const RUSTC: &str = env!("BENCH_RUSTC");

/// As in `2 processors (AMD EPYC, virtual), Linux 6.18.44 x86_64`.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (system, kind) = (meter::system_name(), std::env::consts::ARCH);
    format!("{cores} processors{}, {system} {kind}", meter::processor())
}

/// As in `CPython 3.13.0 without PGO`.
pub(crate) fn python() -> String {
    match cpython::version() {
        Ok(version) => format!("CPython {version}"),
        Err(why) => format!("no CPython ({why})"),
    }
}

/// Today, as in `2026-11-23`, in UTC.
pub(crate) fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = date(since.as_secs() / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// The date so many days after 1970-01-01.
fn date(mut days: u64) -> (u64, usize, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_are_dates() {
        let expected =
            [(0, (1970, 1, 1)), (11_016, (2000, 2, 29)), (11_017, (2000, 3, 1)), (20_818, (2026, 12, 31))];
        for (days, date_then) in expected {
            assert_eq!(date(days), date_then);
        }
    }
}
