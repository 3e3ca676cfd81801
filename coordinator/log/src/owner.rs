//! The writer of a record: an epoch and the nonce of the process that holds it.

use crate::codec::Source;
use crate::error::Defect;

/// Random bytes that each process draws once, so that two processes never write the same record.
pub type Nonce = [u8; 16];

/// The holder of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Number of the ownership period; 0 means no owner.
    pub epoch: u64,
    /// Nonce of the process.
    pub nonce: Nonce,
}

impl Owner {
    /// Encoded length in bytes.
    pub(crate) const BYTES: usize = 24;

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.nonce);
    }

    pub(crate) fn read(source: &mut Source<'_>) -> Result<Self, Defect> {
        Ok(Self {
            epoch: source.u64()?,
            nonce: source.array()?,
        })
    }
}
