//! Random bytes of the operating system.

/// Returns random bytes, fit for secrets and for ids that no other process may guess.
///
/// # Panics
///
/// If the operating system has no random bytes. Then ids would repeat, and a former owner of a
/// partition could not be fenced.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system provides random bytes");
    bytes
}
