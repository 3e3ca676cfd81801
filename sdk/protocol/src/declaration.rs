//! Fingerprints of state declarations: an extension of StateFun's request-reply protocol.
//!
//! StateFun's handshake shows a runtime only the declarations of states that a request lacks. A
//! changed expiration, a changed type and a removed state stay invisible to it. This extension
//! shows them, with 8 bytes per request:
//!
//! 1. The runtime lists the fingerprints of the declarations that it knows for the function, in
//!    `InvocationBatchRequest.declarations`. A runtime with this extension lists at least one.
//! 2. A function whose own fingerprint is not in the list runs no code. It answers with
//!    `IncompleteInvocationContext`: its fingerprint in `declaration`, every state that it declares
//!    in `declared_values`, and the missing ones in `missing_values` as always.
//! 3. Otherwise the function runs, and puts its fingerprint into `InvocationResponse.declaration`.
//!
//! An empty list means that the runtime does not know the extension. A fingerprint of 0 means the
//! same of the function, as with every SDK of StateFun. All fields are numbered from 1000, so the
//! other side ignores them if it does not know them.

use crate::reqreply::from_function::PersistedValueSpec;

/// Returns the fingerprint of the declarations `specs`, which is never 0.
///
/// It is FNV-1a with 64 bits over these bytes of each state, in ascending order of the names'
/// bytes: name, 0, typename, 0, expiration mode (1 byte), milliseconds (8 bytes, little-endian; 0
/// for the mode `NONE`).
pub fn fingerprint<'a>(specs: impl IntoIterator<Item = &'a PersistedValueSpec>) -> u64 {
    let mut specs: Vec<&PersistedValueSpec> = specs.into_iter().collect();
    specs.sort_by(|one, other| one.state_name.as_bytes().cmp(other.state_name.as_bytes()));
    let mut hash = Fnv::default();
    for spec in specs {
        let (mode, millis) = match &spec.expiration_spec {
            Some(expiration) if expiration.mode != 0 => {
                (expiration.mode, expiration.expire_after_millis)
            }
            _ => (0, 0),
        };
        hash.write(spec.state_name.as_bytes());
        hash.write(&[0]);
        hash.write(spec.type_typename.as_bytes());
        hash.write(&[0, mode.to_le_bytes()[0]]);
        hash.write(&millis.to_le_bytes());
    }
    hash.0.max(1)
}

struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reqreply::from_function::ExpirationSpec;

    fn spec(name: &str, typename: &str, expiration: Option<(i32, i64)>) -> PersistedValueSpec {
        PersistedValueSpec {
            state_name: name.to_owned(),
            type_typename: typename.to_owned(),
            expiration_spec: expiration.map(|(mode, expire_after_millis)| ExpirationSpec {
                mode,
                expire_after_millis,
            }),
        }
    }

    #[test]
    fn a_fingerprint_is_that_of_the_documented_bytes() {
        assert_eq!(fingerprint([]), 0xcbf2_9ce4_8422_2325);
        // Computed by another implementation of FNV-1a.
        let one = spec("seen", "io.statefun.types/int", Some((1, 1_000)));
        assert_eq!(fingerprint([&one]), 0xe92a_5957_9d09_2c41);
    }

    #[test]
    fn a_fingerprint_ignores_the_order_and_shows_every_difference() {
        let (a, b) = (spec("a", "t", None), spec("b", "t", Some((2, 5))));
        assert_eq!(fingerprint([&a, &b]), fingerprint([&b, &a]));
        let never = spec("a", "t", Some((0, 0)));
        assert_eq!(fingerprint([&a]), fingerprint([&never]));
        for other in [
            spec("b", "t", None),
            spec("a", "u", None),
            spec("a", "t", Some((1, 5))),
            spec("a", "t", Some((2, 5))),
            spec("a", "t", Some((1, 6))),
        ] {
            assert_ne!(fingerprint([&a]), fingerprint([&other]), "{other:?}");
        }
        assert_ne!(fingerprint([&a]), fingerprint([&a, &b]));
    }
}
