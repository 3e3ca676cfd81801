//! Damage for tests of formats: every bit, every length.

/// Calls `finds` with `object` damaged in each bit in turn, and cut at each length. Panics if
/// `finds` misses one of them.
pub(crate) fn assert_every_flipped_bit_is_found(object: &[u8], finds: impl Fn(&[u8]) -> bool) {
    let mut damaged = object.to_vec();
    for at in 0..object.len() {
        for bit in 0..8 {
            damaged[at] ^= 1 << bit;
            assert!(finds(&damaged), "bit {bit} of byte {at} flipped, not found");
            damaged[at] ^= 1 << bit;
        }
        assert!(
            finds(&object[..at]),
            "cut after {at} bytes, not found (whole length {})",
            object.len()
        );
    }
}
