//! Bytes of the head of a request while it is received.

/// Size of a head up to which it does not count, in bytes. Heads are seldom larger, and a request
/// that finds no room for its body can be answered.
const FREE_BYTES: usize = 4 << 10;

/// Head of a request, as far as it was received.
#[derive(Debug, Default)]
pub(crate) struct Head {
    bytes: usize,
    /// Number of bytes at its end that may be the beginning of the empty line behind it.
    matched: usize,
}

/// End of the last line of a head, and the empty line behind it.
const END: &[u8; 4] = b"\r\n\r\n";

impl Head {
    /// Takes received bytes. Returns the number of those that count: bytes of the head, beyond the
    /// first ones. What comes behind the head is of a body.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut counted = 0;
        for byte in bytes {
            if self.matched == END.len() {
                break;
            }
            self.matched = if *byte == END[self.matched] {
                self.matched + 1
            } else {
                usize::from(*byte == END[0])
            };
            self.bytes += 1;
            counted += usize::from(self.bytes > FREE_BYTES);
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_of_a_large_head_count_however_they_arrive() {
        let line = format!("GET / HTTP/1.1\r\nx: {}\r\r\n\r\n", "a".repeat(FREE_BYTES));
        let whole = format!("{line}body{line}");
        for size in [1, 2, 3, 7, 4096, whole.len()] {
            let mut head = Head::default();
            let pieces = whole.as_bytes().chunks(size);
            let counted: usize = pieces.map(|piece| head.receive(piece)).sum();
            assert_eq!(counted, line.len() - FREE_BYTES, "in pieces of {size}");
        }
        assert_eq!(Head::default().receive(&[b'a'; FREE_BYTES]), 0);
    }
}
