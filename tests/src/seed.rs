//! Randomness that can be replayed.

use std::ops::Deref;

/// The seed of a random test: `TEST_SEED` if that is set, otherwise a new one. Printed with the way to replay it.
#[derive(Clone, Copy, Debug)]
pub struct Seed(u64);

impl Seed {
    /// The seed for the test with this name.
    pub fn for_test(name: &str) -> Self {
        let given = std::env::var("TEST_SEED").ok();
        let seed = given.map_or_else(rand::random, |text| text.parse().expect("TEST_SEED is a number"));
        println!("seed {seed}; to replay: TEST_SEED={seed} cargo test -p tests {name}");
        Seed(seed)
    }
}

impl Deref for Seed {
    type Target = u64;

    fn deref(&self) -> &u64 {
        &self.0
    }
}
