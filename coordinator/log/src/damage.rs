//! For tests of formats: damage everything there is.

/// Calls `finds` with `object` damaged in every bit in turn, and cut at every length; it must notice each time.
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
