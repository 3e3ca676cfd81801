//! Reading the frames of a file one after the other, in large pieces.

use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};

use crate::frame::{FRAME_HEAD_BYTES, Frame, decode_frame, decode_frame_head};

/// How much is read at once, unless one frame is larger.
const PIECE_BYTES: usize = 1 << 20;

/// A place in a file from which frames are read.
pub(crate) struct Scan<'f> {
    file: &'f File,
    version: u32,
    offset: u64,
    end: u64,
    /// What was read and not used yet, beginning at `offset`.
    ahead: Bytes,
}

/// What stands at a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A frame, and where it begins.
    Frame(u64, Frame),
    /// The end.
    End,
    /// The beginning of a frame that the end cuts off.
    Unfinished(u64),
    /// Something else, and what is wrong with it.
    Damaged(u64, String),
}

impl<'f> Scan<'f> {
    /// Reads frames of the format `version` from `offset`, where one begins, up to `end`.
    pub(crate) fn new(file: &'f File, version: u32, offset: u64, end: u64) -> Self {
        Self {
            file,
            version,
            offset,
            end,
            ahead: Bytes::new(),
        }
    }

    /// Where the next frame begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads what stands at the current place, and passes it if it is a frame.
    pub(crate) fn step(&mut self) -> std::io::Result<Step> {
        let offset = self.offset;
        let left = self.end - offset;
        if left == 0 {
            return Ok(Step::End);
        }
        if left < FRAME_HEAD_BYTES as u64 {
            return Ok(Step::Unfinished(offset));
        }
        self.fill(FRAME_HEAD_BYTES)?;
        let Some(payload_bytes) = decode_frame_head(offset, &self.ahead) else {
            return Ok(Step::Damaged(offset, "there is no record here".to_owned()));
        };
        let frame_bytes = FRAME_HEAD_BYTES + payload_bytes;
        if left < frame_bytes as u64 {
            return Ok(Step::Unfinished(offset));
        }
        self.fill(frame_bytes)?;
        match decode_frame(self.version, self.ahead.slice(..frame_bytes)) {
            Ok(frame) => {
                self.ahead = self.ahead.slice(frame_bytes..);
                self.offset += frame_bytes as u64;
                Ok(Step::Frame(offset, frame))
            }
            Err(reason) => Ok(Step::Damaged(offset, reason)),
        }
    }

    /// Makes sure that `bytes` bytes are read ahead; the file has as many.
    fn fill(&mut self, bytes: usize) -> std::io::Result<()> {
        if self.ahead.len() >= bytes {
            return Ok(());
        }
        let left = self.end - self.offset;
        let wanted = left.min(bytes.max(PIECE_BYTES) as u64) as usize;
        let mut piece = BytesMut::zeroed(wanted);
        let kept = self.ahead.len();
        piece[..kept].copy_from_slice(&self.ahead);
        self.file
            .read_exact_at(&mut piece[kept..], self.offset + kept as u64)?;
        self.ahead = piece.freeze();
        Ok(())
    }
}

/// Whether there is nothing but zeros from `offset` to `end`.
pub(crate) fn is_zero_from(file: &File, mut offset: u64, end: u64) -> std::io::Result<bool> {
    let mut piece = vec![0; PIECE_BYTES];
    while offset < end {
        let bytes = PIECE_BYTES.min((end - offset) as usize);
        file.read_exact_at(&mut piece[..bytes], offset)?;
        if piece[..bytes].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += bytes as u64;
    }
    Ok(true)
}
