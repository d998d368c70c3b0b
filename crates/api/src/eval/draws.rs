//! Random numbers that are the same on every machine and in every version: SHA-256 of a seed and a count.

use sha2::{Digest, Sha256};

/// A sequence of numbers that a seed gives.
#[derive(Clone, Debug)]
pub(super) struct Draws {
    seed: u64,
    count: u64,
}

impl Draws {
    /// The sequence of a seed.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    /// The next number from 0 to `below` − 1; 0 if that is empty.
    pub(super) fn below(&mut self, below: usize) -> usize {
        let digest =
            Sha256::new().chain_update(self.seed.to_le_bytes()).chain_update(self.count.to_le_bytes());
        self.count += 1;
        let digest = digest.finalize();
        let number = digest.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        (number % (below.max(1) as u64)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_in_range() {
        let drawn = |seed| {
            let mut draws = Draws::new(seed);
            (0..100).map(|_| draws.below(7)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(3), drawn(3));
        assert_ne!(drawn(3), drawn(4));
        assert!((0..7).all(|number| drawn(3).contains(&number)) && drawn(3).iter().all(|number| *number < 7));
        assert_eq!(Draws::new(1).below(0), 0);
    }
}
