//! Closed forms for the mean time to data loss (MTTDL) of one blob: each replica fails at rate `failure`, and each
//! lost one is repaired at rate `repair`, independently (a Markov chain; lost replicas are repaired in parallel).
//!
//! With k replicas lost, the chain moves to k + 1 at rate (n - k)·failure and back to k - 1 at rate k·repair; it
//! ends at n.

/// Two replicas: (3λ + μ) / 2λ².
pub fn two(failure: f64, repair: f64) -> f64 {
    (3.0 * failure + repair) / (2.0 * failure * failure)
}

/// Three replicas: (11λ² + 7λμ + 2μ²) / 6λ³.
pub fn three(failure: f64, repair: f64) -> f64 {
    let (l, m) = (failure, repair);
    (11.0 * l * l + 7.0 * l * m + 2.0 * m * m) / (6.0 * l * l * l)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same from the chain itself. The mean time from k to k + 1 lost is `1/up + down/up · (that of k - 1)`.
    fn chain(copies: i32, failure: f64, repair: f64) -> f64 {
        let (mut step, mut sum) = (0.0, 0.0);
        for lost in 0..copies {
            let (up, down) = (f64::from(copies - lost) * failure, f64::from(lost) * repair);
            step = (1.0 + down * step) / up;
            sum += step;
        }
        sum
    }

    #[test]
    fn both_follow_from_the_chain() {
        for (failure, repair) in [(0.02, 5000.0), (1.0, 30.0), (3.0, 1.0), (0.5, 0.0)] {
            let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
            assert!(near(two(failure, repair), chain(2, failure, repair)), "{failure} {repair}");
            assert!(near(three(failure, repair), chain(3, failure, repair)), "{failure} {repair}");
        }
    }

    #[test]
    fn rare_failures_leave_the_well_known_terms() {
        // m²/2r for two replicas, m³/3r² for three that are repaired in parallel.
        let (mean, repair) = (1e6, 1.0);
        assert!((two(1.0 / mean, 1.0 / repair) / (mean * mean / (2.0 * repair)) - 1.0).abs() < 1e-5);
        assert!((three(1.0 / mean, 1.0 / repair) / (mean.powi(3) / 3.0) - 1.0).abs() < 1e-5);
    }
}
