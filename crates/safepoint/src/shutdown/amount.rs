//! What is counted against a budget: exact decimals, never floats.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Micro-units in one unit.
const UNIT: u64 = 1_000_000;

/// Digits behind the point that a micro-unit allows.
const DECIMALS: usize = 6;

/// An amount of whatever the caller counts (dollars, tokens, requests), exact to a millionth of its unit.
///
/// From zero to [`Amount::MAX`], some 18 million million units. Sums are exact: ten times `0.10` is `1.00`.
///
/// # Examples
///
/// ```
/// use safepoint::shutdown::Amount;
///
/// # fn main() -> safepoint::Result<()> {
/// let price: Amount = "0.10".parse()?;
/// let ten = (0..10).fold(Amount::ZERO, |sum, _| sum.saturating_add(price));
/// assert_eq!(ten.to_string(), "1.00");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The largest amount: 18446744073709.551615 units.
    pub const MAX: Self = Self(u64::MAX);

    /// The amount of `micros` millionths of a unit.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The amount in millionths of a unit.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// The amount nearest to `units`, which is rounded to a millionth.
    ///
    /// Beyond some 9 thousand million units a float itself is coarser than a millionth; text is exact everywhere.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when `units` is not a number, infinite, negative, or more than [`Amount::MAX`].
    pub fn try_from_f64(units: f64) -> Result<Self> {
        // The first float above `u64::MAX`, and exact: a power of two.
        const TOO_MANY: f64 = 18_446_744_073_709_551_616.0;
        let refused = |why: &str| Err(Error::invalid(format!("the amount `{units}` {why}")));
        if units.is_nan() {
            return refused("is not a number");
        }
        if units < 0.0 {
            return refused("is negative");
        }
        if units.is_infinite() {
            return refused("is infinite");
        }
        let micros = (units * 1e6).round();
        if micros >= TOO_MANY {
            return refused(&format!("is more than the largest, {}", Self::MAX));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number from zero up, below 2^64"
        )]
        Ok(Self(micros as u64))
    }

    /// The sum, or [`Amount::MAX`] where it would be more.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or [`Amount::ZERO`] where it would be less.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Reads decimal digits, perhaps followed by a point and more digits: `12`, `0.10`, `1.500000`. Exact; a float is never involved.
///
/// `.5` and `5.` are refused: where money is meant, a lost digit must not pass for a smaller amount.
impl FromStr for Amount {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = |why: &str| Error::invalid(format!("the amount `{text}` {why}"));
        let are_digits =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, behind) = text.split_once('.').unwrap_or((text, "0"));
        if !are_digits(whole) || !are_digits(behind) {
            return Err(refused(
                "is not decimal digits, perhaps with a point and more digits, such as `12` or `0.10`",
            ));
        }
        let significant = behind.trim_end_matches('0');
        if significant.len() > DECIMALS {
            return Err(refused(
                "is finer than a millionth, 6 digits behind the point",
            ));
        }
        // Whole units and millionths written side by side are the micro-units.
        let padding = std::iter::repeat_n(b'0', DECIMALS - significant.len());
        whole
            .bytes()
            .chain(significant.bytes())
            .chain(padding)
            .try_fold(0u64, |micros, digit| {
                micros.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
            })
            .map(Self)
            .ok_or_else(|| refused(&format!("is more than the largest, {}", Self::MAX)))
    }
}

/// Writes the shortest exact decimal with at least two digits behind the point: `1.00`, `0.125`, `0.000001`.
///
/// A width is obeyed; a precision is not, for what is shown is always exact.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}.{:06}", self.0 / UNIT, self.0 % UNIT);
        let shortest = text.len() - (DECIMALS - 2);
        while text.len() > shortest && text.ends_with('0') {
            text.pop();
        }
        f.pad_integral(true, "", &text)
    }
}

#[cfg(all(test, not(safepoint_loom)))]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    fn refusal(read: Result<Amount>) -> String {
        let error = read.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.to_string()
    }

    #[test]
    fn ten_times_a_tenth_is_exactly_one() {
        let one: Amount = "1.00".parse().unwrap();
        for tenth in ["0.10".parse().unwrap(), Amount::try_from_f64(0.1).unwrap()] {
            let sum = (0..10).fold(Amount::ZERO, |sum, _| sum.saturating_add(tenth));
            assert_eq!(sum, one);
        }
        assert_eq!(one, Amount::try_from_f64(1.0).unwrap());
        assert_eq!(one.micros(), 1_000_000);
    }

    #[test]
    fn text_is_read_exactly() {
        for (text, micros) in [
            ("0", 0),
            ("0.0", 0),
            ("12", 12_000_000),
            ("0.10", 100_000),
            ("007.5", 7_500_000),
            ("0.000001", 1),
            ("0.100000000000000", 100_000),
            ("18446744073709.551615", u64::MAX),
        ] {
            assert_eq!(text.parse::<Amount>().unwrap().micros(), micros, "{text}");
        }
    }

    #[test]
    fn text_that_is_no_amount_is_refused_and_named() {
        for text in [
            "", ".", ".5", "5.", "-1", "+1", "1e3", "1,5", "1_000", " 1", "1.2.3", "NaN", "inf",
            "٣",
        ] {
            let message = refusal(text.parse());
            assert!(message.contains(&format!("`{text}`")), "{message}");
            assert!(message.contains("`0.10`"), "{message}");
        }
        assert_eq!(
            refusal("0.0000001".parse()),
            "the amount `0.0000001` is finer than a millionth, 6 digits behind the point"
        );
        for text in ["18446744073709.551616", "99999999999999999999"] {
            assert_eq!(
                refusal(text.parse()),
                format!("the amount `{text}` is more than the largest, 18446744073709.551615")
            );
        }
    }

    #[test]
    fn floats_are_rounded_to_the_nearest_micro_unit() {
        for (units, micros) in [
            (0.0, 0),
            (-0.0, 0),
            (0.000_000_4, 0),
            (0.000_000_6, 1),
            (0.1 + 0.2, 300_000),
            (1.005, 1_005_000),
            (1e12, 1_000_000_000_000_000_000),
        ] {
            assert_eq!(
                Amount::try_from_f64(units).unwrap().micros(),
                micros,
                "{units}"
            );
        }
    }

    #[test]
    fn floats_that_are_no_amount_are_refused_and_named() {
        for (units, message) in [
            (f64::NAN, "the amount `NaN` is not a number"),
            (f64::INFINITY, "the amount `inf` is infinite"),
            (f64::NEG_INFINITY, "the amount `-inf` is negative"),
            (-0.000_000_1, "the amount `-0.0000001` is negative"),
        ] {
            assert_eq!(refusal(Amount::try_from_f64(units)), message);
        }
        for units in [18_446_744_073_709.56, 1e30, f64::MAX] {
            let message = refusal(Amount::try_from_f64(units));
            assert!(message.contains(&format!("`{units}` is more")), "{message}");
        }
    }

    #[test]
    fn the_shortest_exact_decimal_is_shown() {
        for (micros, text) in [
            (0, "0.00"),
            (1, "0.000001"),
            (100_000, "0.10"),
            (125_000, "0.125"),
            (1_000_000, "1.00"),
            (1_020_000, "1.02"),
            (u64::MAX, "18446744073709.551615"),
        ] {
            assert_eq!(Amount::from_micros(micros).to_string(), text);
        }
        let one = Amount::from_micros(UNIT);
        assert_eq!(format!("{one:>6}|{one:<6}|{one:.1}"), "  1.00|1.00  |1.00");
    }

    #[test]
    fn sums_and_differences_stop_at_the_ends() {
        let one = Amount::from_micros(UNIT);
        assert_eq!(Amount::MAX.saturating_add(one), Amount::MAX);
        assert_eq!(Amount::ZERO.saturating_sub(one), Amount::ZERO);
        assert!(Amount::ZERO < one && one < Amount::MAX);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(micros in any::<u64>()) {
            let amount = Amount::from_micros(micros);
            let shown = amount.to_string();
            prop_assert_eq!(shown.parse::<Amount>().unwrap(), amount);
            prop_assert!(!shown.ends_with("000"));
        }

        #[test]
        fn small_floats_agree_with_their_text(micros in 0..1u64 << 50) {
            let text = Amount::from_micros(micros).to_string();
            let units: f64 = text.parse().unwrap();
            prop_assert_eq!(Amount::try_from_f64(units).unwrap().micros(), micros);
        }

        #[test]
        fn no_text_makes_reading_panic(text in "\\PC*") {
            let _ = text.parse::<Amount>();
        }
    }
}
