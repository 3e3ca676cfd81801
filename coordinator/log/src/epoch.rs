//! `epochs/<epoch>`: the claim of an epoch by one process. It is created conditionally before the
//! takeover and never deleted. A process that was paused can therefore always find out that it lost
//! ownership.
//!
//! Layout: frame `SEPO` version 1; partition (u32), epoch (u64), nonce (16 bytes), time of the
//! claim in ms (u64).

use bytes::Bytes;

use crate::codec::Source;
use crate::error::Defect;
use crate::frame::Frame;
use crate::owner::Owner;

const FRAME: Frame = Frame {
    magic: *b"SEPO",
    version: 1,
    name: "claim of an epoch",
};

/// Content of `epochs/<epoch>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The partition.
    pub(crate) partition: u32,
    /// The holder.
    pub(crate) owner: Owner,
    /// Time of the claim by the calendar clock of the holder; for people only.
    pub(crate) claimed_at_ms: u64,
}

impl Claim {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = FRAME.open(Owner::BYTES + 12);
        out.extend_from_slice(&self.partition.to_le_bytes());
        self.owner.put(&mut out);
        out.extend_from_slice(&self.claimed_at_ms.to_le_bytes());
        FRAME.close(out)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Defect> {
        let mut source = Source::new(FRAME.content(bytes)?);
        let claim = Self {
            partition: source.u32()?,
            owner: Owner::read(&mut source)?,
            claimed_at_ms: source.u64()?,
        };
        source.end()?;
        Ok(claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::assert_every_flipped_bit_is_found;

    #[test]
    fn a_claim_reads_back_and_every_flipped_bit_in_it_is_found() {
        let claim = Claim {
            partition: 3,
            owner: Owner {
                epoch: 7,
                nonce: [9; 16],
            },
            claimed_at_ms: 1_700_000_000_000,
        };
        let bytes = claim.encode();
        assert_eq!(Claim::decode(&bytes), Ok(claim));
        assert_every_flipped_bit_is_found(&bytes, |bytes| Claim::decode(bytes).is_err());
    }
}
