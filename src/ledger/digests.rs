//! Hashing for maps whose keys hold a digest: that is evenly spread already, so a multiplication for
//! each part of the key is enough.

use std::hash::{BuildHasherDefault, Hasher};

/// For such a map.
pub(super) type Digests = BuildHasherDefault<Spread>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Spread(u64);

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, part: u64) {
        self.0 = (self.0.rotate_left(5) ^ part).wrapping_mul(GOLDEN);
    }

    fn write_isize(&mut self, part: isize) {
        self.write_u64(part.unsigned_abs() as u64);
    }

    fn finish(&self) -> u64 {
        // A map takes its highest bits for one thing and its lowest for another.
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::hash::BuildHasher;

    #[test]
    fn keys_that_differ_in_one_part_are_spread() {
        let digests = Digests::default();
        let all: BTreeSet<u64> = (0..1000u64)
            .flat_map(|n| [Some((n, true)), Some((n, false)), Some((n << 40, true))])
            .map(|key| digests.hash_one(key) & 0xFFFF)
            .collect();
        assert!(all.len() > 2_800, "{}", all.len());
    }
}
