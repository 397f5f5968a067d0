//! Times as the published API writes them: Beijing time, eight hours ahead of UTC all year.

const AHEAD_S: u64 = 8 * 3_600;
const HOUR_S: u64 = 3_600;
const DAY_S: u64 = 24 * HOUR_S;

/// Reads an hour, `2015120121`, as hours since the Unix epoch.
pub fn parse_hour(text: &str) -> Option<u32> {
    if text.len() != 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day, hour) = (number(0, 4)?, number(4, 6)?, number(6, 8)?, number(8, 10)?);
    let days = days_of(year, month, day)?;
    let seconds = (days * DAY_S + hour * HOUR_S).checked_sub(AHEAD_S)?;
    (hour < 24 && civil(days) == (year, month, day)).then(|| u32::try_from(seconds / HOUR_S).ok())?
}

/// A day, `20160607`.
pub fn day(unix_s: u64) -> String {
    let (year, month, day) = civil((unix_s + AHEAD_S) / DAY_S);
    format!("{year:04}{month:02}{day:02}")
}

/// A time, `2015-12-02 16:45:23`.
pub fn time(unix_s: u64) -> String {
    let local_s = unix_s + AHEAD_S;
    let ((year, month, day), s) = (civil(local_s / DAY_S), local_s % DAY_S);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", s / HOUR_S, s / 60 % 60, s % 60)
}

/// Days from the Unix epoch to a date of the Gregorian calendar (H. Hinnant's algorithm).
fn days_of(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years begin in March, so that the leap day is their last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}

/// Year, month and day of a day since the Unix epoch.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_days_and_times_of_beijing() {
        // 2015-12-01 21:00 there is 13:00 UTC.
        assert_eq!(parse_hour("2015120121"), Some(1_448_974_800 / 3_600));
        assert_eq!(time(1_448_974_800 + 83), "2015-12-01 21:01:23");
        assert_eq!(parse_hour("2024022923"), Some(1_709_218_800 / 3_600));
        assert_eq!(day(1_709_218_800), "20240229");
        assert_eq!(day(1_709_218_800 + 3_600), "20240301");
        assert_eq!(parse_hour("1970010108"), Some(0));
        for wrong in
            ["", "201512012", "2015120124", "2015130121", "2023022921", "2015120021", "1970010107", "201512012x"]
        {
            assert_eq!(parse_hour(wrong), None, "{wrong}");
        }
    }
}
