//! Random numbers from a seed that is printed, so that what happened can be made to happen again.

/// A linear congruential generator with Knuth's MMIX constants: random enough to choose whom to kill.
pub struct Dice {
    pub seed: u64,
    state: u64,
}

impl Dice {
    /// With the seed that a variable of the environment gives, or one of the clock.
    pub fn from_variable(name: &str) -> Self {
        let given = std::env::var(name).ok().and_then(|s| s.parse().ok());
        let seed = given.unwrap_or_else(|| {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
        });
        println!("{name}={seed}");
        Self::from_seed(seed)
    }

    pub fn from_seed(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// A number from 0 on, below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % sides
    }

    /// Whether something happens that does so `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    /// One of several, unless there are none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.roll(from.len() as u64) as usize) }
    }
}
