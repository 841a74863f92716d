//! Random numbers determined by a seed, and means with confidence intervals.
//!
//! All randomness comes from `tests::Dice`, so that the same arguments print the same text.

use ::tests::Dice;

/// A uniform random number in [0, 1).
pub fn unit(dice: &mut Dice) -> f64 {
    (dice.roll() >> 11) as f64 / (1u64 << 53) as f64
}

/// A random time until the next event of a Poisson process with this rate.
pub fn wait(dice: &mut Dice, rate: f64) -> f64 {
    -(1.0 - unit(dice)).ln() / rate
}

/// Rounds a non-negative number down.
#[expect(clippy::cast_possible_truncation, reason = "counts and bytes far below 2^64")]
pub fn whole(number: f64) -> u64 {
    debug_assert!(number >= 0.0);
    number as u64
}

/// The mean of independent observations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Mean {
    pub fn add(&mut self, seen: f64) {
        self.count += 1.0;
        self.sum += seen;
        self.squares += seen * seen;
    }

    pub fn mean(&self) -> f64 {
        self.sum / self.count
    }

    /// The standard deviation.
    pub fn scatter(&self) -> f64 {
        let mean = self.mean();
        (self.squares / self.count - mean * mean).max(0.0).sqrt()
    }

    /// Half the width of the 95 % confidence interval of the mean.
    pub fn half(&self) -> f64 {
        1.96 * self.scatter() / (self.count - 1.0).max(1.0).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_exponential() {
        let mut dice = Dice::new(1);
        let (mut waits, mut squares) = (Mean::default(), Mean::default());
        for _ in 0..100_000 {
            let wait = wait(&mut dice, 4.0);
            waits.add(wait);
            squares.add(wait * wait);
        }
        assert!((waits.mean() - 0.25).abs() < 2.0 * waits.half());
        assert!((squares.mean() - 2.0 / 16.0).abs() < 2.0 * squares.half());
    }

    #[test]
    fn confidence_is_that_of_the_mean() {
        let mut mean = Mean::default();
        for n in 0..400 {
            mean.add(f64::from(n % 2));
        }
        assert_eq!((mean.mean(), mean.scatter()), (0.5, 0.5));
        assert!((mean.half() - 1.96 * 0.5 / 399f64.sqrt()).abs() < 1e-12);
    }
}
