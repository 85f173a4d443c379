//! The date for templates that write it.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A moment in universal time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    year: i64,
    /// From 1 to 12.
    month: usize,
    /// From 1 to 31.
    day: u64,
    /// From 0, a Monday.
    weekday: usize,
    /// Seconds of the day.
    second: u64,
}

impl Moment {
    /// The moment of this call.
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self::of(since.map_or(0, |since| since.as_secs()))
    }

    /// A moment by its seconds since 1970. Days become a date as in Hinnant, "chrono-Compatible
    /// Low-Level Date Algorithms", `civil_from_days`.
    pub(super) fn of(seconds: u64) -> Self {
        let days = (seconds / 86_400) as i64;
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        // Years begin in March here, so that a leap day is the last one.
        let month = (5 * of_year + 2) / 153;
        let day = (of_year - (153 * month + 2) / 5 + 1).unsigned_abs();
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        let (month, weekday) = (month as usize, (days + 3).rem_euclid(7) as usize);
        Self { year, month, day, weekday, second: seconds % 86_400 }
    }

    /// The moment in a format of Python's `strftime`, in English; none for a directive
    /// that is not known.
    pub(super) fn format(self, format: &str) -> Option<String> {
        let Self { year, month, day, weekday, second } = self;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let mut out = String::with_capacity(format.len());
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            let twelve = (hour + 11) % 12 + 1;
            // Writing to a String cannot fail.
            let _ = match characters.next()? {
                'a' => write!(out, "{}", &DAYS[weekday][..3]),
                'A' => write!(out, "{}", DAYS[weekday]),
                'b' | 'h' => write!(out, "{}", &MONTHS[month - 1][..3]),
                'B' => write!(out, "{}", MONTHS[month - 1]),
                'd' => write!(out, "{day:02}"),
                'F' => write!(out, "{year:04}-{month:02}-{day:02}"),
                'H' => write!(out, "{hour:02}"),
                'I' => write!(out, "{twelve:02}"),
                'm' => write!(out, "{month:02}"),
                'M' => write!(out, "{minute:02}"),
                'p' => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
                'S' => write!(out, "{second:02}"),
                'T' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
                'y' => write!(out, "{:02}", year.rem_euclid(100)),
                'Y' => write!(out, "{year}"),
                '%' => write!(out, "%"),
                // glibc's: without the leading zero.
                '-' => match characters.next()? {
                    'd' => write!(out, "{day}"),
                    'm' => write!(out, "{month}"),
                    'H' => write!(out, "{hour}"),
                    'I' => write!(out, "{twelve}"),
                    _ => return None,
                },
                _ => return None,
            };
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_other_programs() {
        // `date -u -d @N '+%a %A %b %B %d %H %I %M %p %S %y %Y %-d'`
        for (seconds, expected) in [
            (0, "Thu Thursday Jan January 01 00 12 00 AM 00 70 1970 1"),
            (951_782_399, "Mon Monday Feb February 28 23 11 59 PM 59 00 2000 28"),
            (951_782_400, "Tue Tuesday Feb February 29 00 12 00 AM 00 00 2000 29"),
            (1_764_417_600, "Sat Saturday Nov November 29 12 12 00 PM 00 25 2025 29"),
            (4_107_542_400, "Mon Monday Mar March 01 00 12 00 AM 00 00 2100 1"),
        ] {
            let moment = Moment::of(seconds);
            let written = moment.format("%a %A %b %B %d %H %I %M %p %S %y %Y %-d").unwrap();
            assert_eq!(written, expected, "{seconds}");
        }
        assert_eq!(Moment::of(0).format("%F %T 100%%").unwrap(), "1970-01-01 00:00:00 100%");
        assert_eq!(Moment::of(0).format("%Q"), None);
        assert_eq!(Moment::of(0).format("%"), None);
    }
}
