//! MD5 of several short texts at once.
//!
//! Each step of MD5 waits for the one before it, so a processor computes several hashes in about
//! the time of one. Loading a bucket hashes the id of each state.

use md5::{Digest, Md5};

/// Number of texts that are hashed at once.
pub(crate) const LANES: usize = 8;

/// Maximum length of a text that fits into one block, with the padding, in bytes.
const BLOCK_TEXT_MAX: usize = 55;

/// A word of each text.
type Words = [u32; LANES];

const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// Rotations of each round, which repeat every four steps.
const ROTATIONS: [[u32; 4]; 4] = [
    [7, 12, 17, 22],
    [5, 9, 14, 20],
    [4, 11, 16, 23],
    [6, 10, 15, 21],
];

/// Constants of the steps: the integer parts of `2^32 * |sin(step + 1)|`.
#[rustfmt::skip]
const CONSTANTS: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613,
    0xfd46_9501, 0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193,
    0xa679_438e, 0x49b4_0821, 0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d,
    0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8, 0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed,
    0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a, 0xfffa_3942, 0x8771_f681, 0x6d9d_6122,
    0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70, 0x289b_7ec6, 0xeaa1_27fa,
    0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665, 0xf429_2244,
    0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb,
    0xeb86_d391,
];

/// Returns the MD5 of each text, as a number.
pub(crate) fn md5_of_each(texts: &[&str; LANES]) -> [u128; LANES] {
    if texts.iter().any(|text| text.len() > BLOCK_TEXT_MAX) {
        return texts.map(|text| u128::from_be_bytes(Md5::digest(text.as_bytes()).into()));
    }
    let mut blocks = [[0; LANES]; 16];
    for (lane, text) in texts.iter().enumerate() {
        let mut block = [0; 64];
        block[..text.len()].copy_from_slice(text.as_bytes());
        block[text.len()] = 0x80;
        block[56..].copy_from_slice(&(text.len() as u64 * 8).to_le_bytes());
        for (words, bytes) in blocks.iter_mut().zip(block.as_chunks().0) {
            words[lane] = u32::from_le_bytes(*bytes);
        }
    }
    let state = compress(&blocks);
    std::array::from_fn(|lane| {
        let words = state.iter().rev();
        let digest = words.fold(0_u128, |digest, word| digest << 32 | u128::from(word[lane]));
        digest.swap_bytes()
    })
}

fn compress(block: &[Words; 16]) -> [Words; 4] {
    let mut state = START.map(|word| [word; LANES]);
    round::<0>(
        &mut state,
        block,
        |number| number,
        |b, c, d| (b & c) | (!b & d),
    );
    round::<1>(
        &mut state,
        block,
        |number| 5 * number + 1,
        |b, c, d| (d & b) | (!d & c),
    );
    round::<2>(
        &mut state,
        block,
        |number| 3 * number + 5,
        |b, c, d| b ^ c ^ d,
    );
    round::<3>(
        &mut state,
        block,
        |number| 7 * number,
        |b, c, d| c ^ (b | !d),
    );
    std::array::from_fn(|word| state[word].map(|lane| lane.wrapping_add(START[word])))
}

/// Sixteen steps. `word` chooses the word of the block for a step, `mix` combines three words of
/// the state.
#[inline(always)]
fn round<const ROUND: usize>(
    state: &mut [Words; 4],
    block: &[Words; 16],
    word: impl Fn(usize) -> usize,
    mix: impl Fn(u32, u32, u32) -> u32,
) {
    for step in 0..16 {
        let [a, b, c, d] = *state;
        let rotation = ROTATIONS[ROUND][step % 4];
        let constant = CONSTANTS[ROUND * 16 + step];
        let words = &block[word(step) % 16];
        let next = std::array::from_fn(|lane| {
            mix(b[lane], c[lane], d[lane])
                .wrapping_add(a[lane])
                .wrapping_add(constant)
                .wrapping_add(words[lane])
                .rotate_left(rotation)
                .wrapping_add(b[lane])
        });
        *state = [d, next, b, c];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::placement::hash_key;

    proptest! {
        #[test]
        fn each_hash_is_the_md5_of_its_text(texts in prop::array::uniform8(".{0,18}")) {
            let texts: [&str; LANES] = std::array::from_fn(|lane| &*texts[lane]);
            prop_assert_eq!(md5_of_each(&texts), texts.map(hash_key));
        }
    }

    #[test]
    fn texts_of_every_length_are_hashed_alike() {
        let text = "0123456789".repeat(20);
        for length in 0..150 {
            let texts: [&str; LANES] = std::array::from_fn(|lane| &text[lane..lane + length]);
            assert_eq!(md5_of_each(&texts), texts.map(hash_key), "{length}");
        }
    }
}
