//! The moment, as text. Calendars and zones do not live here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, in UTC to the second: `2026-11-23T20:19:20Z`.
pub(crate) fn now() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs());
    utc(since)
}

/// Seconds since 1970 as a date (Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months are counted from March, so that the leap day is the last of its year.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 {
        (0, month + 3)
    } else {
        (1, month - 9)
    };
    format!(
        "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        year_of_era + era * 400 + year,
        second / 3_600,
        second / 60 % 60,
        second % 60,
    )
}

/// Seconds since 1970 of what [`utc`] wrote (the inverse, `days_from_civil`).
fn seconds(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let is_form = bytes.len() == 20
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            10 => *byte == b'T',
            13 | 16 => *byte == b':',
            19 => *byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    if !is_form {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((days - 719_468) * 86_400 + number(11, 13)? * 3_600 + number(14, 16)? * 60 + number(17, 19)?)
}

/// How long ago a moment was that a record or provenance names; none for a text that is no such moment.
pub fn age(time: &str) -> Option<Duration> {
    let then = UNIX_EPOCH + Duration::from_secs(seconds(time)?);
    // Clocks of several machines differ a little.
    Some(SystemTime::now().duration_since(then).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{age, seconds, utc};

    #[test]
    fn dates_read_back() {
        for moment in [0, 951_782_400, 1_709_251_199, 1_795_465_160, 4_107_542_400] {
            assert_eq!(seconds(&utc(moment)), Some(moment));
        }
        for bad in [
            "",
            "2026-11-23",
            "2026-13-01T00:00:00Z",
            "2026-11-23 20:19:20Z",
            "\u{e4}026-11-23T20:19:2Z",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        assert!(age(&super::now()).is_some_and(|age| age.as_secs() < 5));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(utc(1_795_465_160), "2026-11-23T20:19:20Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
