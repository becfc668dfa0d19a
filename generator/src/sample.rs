//! Drawing from weighted choices, skewed ranks and log-normal distributions. A draw costs a few nanoseconds and
//! allocates nothing.

use anyhow::{Result, ensure};
use rand::Rng;
use rand::rngs::SmallRng;

/// A weighted choice among `0..n` in constant time (Walker's alias method).
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// For each column: how far its own share reaches, of 2^32, and who owns the rest.
    columns: Vec<(u32, u32)>,
}

impl Choice {
    /// Fails, naming `what`, unless every weight is a finite number of at least 0 and one is above 0.
    pub(crate) fn new(what: &str, weights: &[f64]) -> Result<Self> {
        ensure!(
            weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0),
            "{what}: every weight must be a number of at least 0"
        );
        let sum: f64 = weights.iter().sum();
        ensure!(sum > 0.0, "{what}: at least one weight must be above 0");
        let scale = weights.len() as f64 / sum;
        let mut shares: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..shares.len()).partition(|&index| shares[index] < 1.0);
        let mut columns: Vec<(u32, u32)> = (0..shares.len()).map(|index| (u32::MAX, index as u32)).collect();
        while let (Some(poor), Some(&rich)) = (small.pop(), large.last()) {
            columns[poor] = ((shares[poor] * f64::from(u32::MAX)) as u32, rich as u32);
            shares[rich] -= 1.0 - shares[poor];
            if shares[rich] < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
        // Rounding may strand a column without a partner. Its share is 1 but for the last bits, unless its weight is
        // 0, which must never be drawn.
        let heaviest =
            (0..weights.len()).fold(0, |best, index| if weights[index] > weights[best] { index } else { best });
        for index in small {
            if weights[index] == 0.0 {
                columns[index] = (0, heaviest as u32);
            }
        }
        Ok(Self { columns })
    }

    pub(crate) fn draw(&self, rng: &mut SmallRng) -> usize {
        if self.columns.len() == 1 {
            return 0;
        }
        let bits: u64 = rng.random();
        let column = (((bits >> 32) * self.columns.len() as u64) >> 32) as usize;
        let (own_share, other) = self.columns[column];
        if (bits as u32) < own_share { column } else { other as usize }
    }
}

/// A rank in `0..count` where low ranks are drawn more often: as few products and few clients make most requests.
pub(crate) fn draw_rank(rng: &mut SmallRng, count: usize) -> usize {
    let uniform: f64 = rng.random();
    (uniform * uniform * count as f64) as usize
}

/// A log-normal distribution, given by its median and the standard deviation of the logarithm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogNormal {
    median: f64,
    sigma: f64,
}

impl LogNormal {
    /// Fails, naming `what`, unless the median is above 0 and sigma is between 0 and 5.
    pub(crate) fn new(what: &str, median: f64, sigma: f64) -> Result<Self> {
        ensure!(median > 0.0 && median.is_finite(), "{what}: the median must be above 0");
        ensure!((0.0..=5.0).contains(&sigma), "{what}: sigma must be between 0 and 5");
        Ok(Self { median, sigma })
    }

    /// The value at a standard normal deviate.
    pub(crate) fn at(&self, deviate: f64) -> f64 {
        self.median * (self.sigma * deviate).exp()
    }
}

/// Two independent standard normal deviates (Box and Muller): one logarithm serves an event's latency and its size.
pub(crate) fn draw_normals(rng: &mut SmallRng) -> (f64, f64) {
    let uniform: f64 = rng.random();
    let angle = rng.random::<f64>() * std::f64::consts::TAU;
    let radius = (-2.0 * (1.0 - uniform).ln()).sqrt();
    let (sin, cos) = angle.sin_cos();
    (radius * cos, radius * sin)
}

#[cfg(test)]
mod tests {
    use super::{Choice, LogNormal, draw_normals};
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    #[test]
    fn a_choice_follows_its_weights_and_never_draws_weight_0() {
        let weights = [5.0, 0.0, 1.0, 0.1, 3.9];
        let choice = Choice::new("test", &weights).expect("weights are fine");
        let mut rng = SmallRng::seed_from_u64(1);
        let mut counts = [0u32; 5];
        for _ in 0..100_000 {
            counts[choice.draw(&mut rng)] += 1;
        }
        assert_eq!(counts[1], 0);
        for (index, weight) in weights.iter().enumerate() {
            let share = f64::from(counts[index]) / 100_000.0;
            assert!((share - weight / 10.0).abs() < 0.01, "{index}: {share}");
        }
    }

    #[test]
    fn weights_without_sense_are_refused() {
        for weights in [&[][..], &[0.0, 0.0], &[1.0, -1.0], &[f64::NAN]] {
            assert!(Choice::new("test", weights).is_err(), "{weights:?}");
        }
    }

    #[test]
    fn half_of_a_log_normal_lies_below_its_median() {
        let latency = LogNormal::new("test", 80.0, 0.5).expect("parameters are fine");
        let mut rng = SmallRng::seed_from_u64(2);
        let below = (0..20_000).filter(|_| latency.at(draw_normals(&mut rng).0) < 80.0).count();
        assert!((9_700..10_300).contains(&below), "{below}");
    }
}
