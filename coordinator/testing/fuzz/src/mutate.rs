//! Mutations of valid inputs.

/// A seeded generator of random numbers (SplitMix64): the same seed produces the same inputs.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Creates the generator for `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        match end {
            0 => 0,
            _ => (self.draw() % end as u64) as usize,
        }
    }
}

/// Maximum size of an input, in bytes.
pub const INPUT_BYTES_MAX: usize = 64 << 10;

/// Bytes at the limits of numbers, varints and texts.
const EDGES: [&[u8]; 10] = [
    &[0],
    &[0x7f],
    &[0x80],
    &[0xff],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0xff, 0xff, 0xff, 0xff],
    &[0, 0, 0, 0, 0, 0, 0, 0x80],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xed, 0xa0, 0x80],
];

/// Copies one of `seeds` and changes it in one to four places.
pub fn mutated(random: &mut Random, seeds: &[Vec<u8>], dictionary: &[&str]) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        change(random, &mut input, seeds, dictionary);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, seeds: &[Vec<u8>], dictionary: &[&str]) {
    let at = random.below(input.len() + 1);
    match random.below(9) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.draw() as u8;
            }
        }
        2 => {
            let edge = EDGES[random.below(EDGES.len())];
            let end = (at + edge.len()).min(input.len());
            input.splice(at..end, edge.iter().copied());
        }
        3 => {
            let edge = EDGES[random.below(EDGES.len())];
            input.splice(at..at, edge.iter().copied());
        }
        4 => input.truncate(at),
        5 => {
            let end = at + random.below((input.len() - at).min(64) + 1);
            input.drain(at..end);
        }
        6 => {
            let end = at + random.below((input.len() - at).min(256) + 1);
            let part = input[at..end].repeat(1 + random.below(4));
            let to = random.below(input.len() + 1);
            input.splice(to..to, part);
        }
        7 => {
            let other = &seeds[random.below(seeds.len())];
            let begin = random.below(other.len() + 1);
            let end = begin + random.below(other.len() - begin + 1);
            input.splice(at.., other[begin..end].iter().copied());
        }
        _ => {
            if !dictionary.is_empty() {
                let word = dictionary[random.below(dictionary.len())];
                let end = at + random.below((input.len() - at).min(word.len()) + 1);
                input.splice(at..end, word.bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_produce_equal_inputs_and_different_seeds_different_ones() {
        let seeds = [b"kind: a\nspec: {}".to_vec(), vec![0; 40]];
        let inputs = |seed| {
            let mut random = Random::new(seed);
            (0..100)
                .map(|_| mutated(&mut random, &seeds, &["spec"]))
                .collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }

    #[test]
    fn inputs_stay_within_the_size_limit_even_when_they_are_fed_back() {
        let mut random = Random::new(7);
        let mut seeds = vec![vec![1; INPUT_BYTES_MAX]];
        for _ in 0..200 {
            let input = mutated(&mut random, &seeds, &[]);
            assert!(input.len() <= INPUT_BYTES_MAX);
            seeds.push(input);
        }
    }
}
