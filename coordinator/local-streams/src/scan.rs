//! Sequential reading of a file's frames, in large chunks.

use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};

use crate::frame::{FRAME_HEAD_BYTES, Frame, decode_frame, decode_frame_head};

/// Number of bytes read at once, unless one frame is larger.
const CHUNK_BYTES: usize = 1 << 20;

/// A position in a file from which frames are read.
pub(crate) struct Scan<'f> {
    file: &'f File,
    version: u32,
    offset: u64,
    end: u64,
    /// Bytes that were read but not consumed yet, starting at `offset`.
    ahead: Bytes,
}

/// Result of reading at a position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A frame and its offset.
    Frame(u64, Frame),
    /// The end of the file.
    End,
    /// The start of a frame that the end of the file cuts off.
    Unfinished(u64),
    /// Other bytes, with the reason why they are not a frame.
    Damaged(u64, String),
}

impl<'f> Scan<'f> {
    /// Reads frames of the format `version` from `offset`, at which one starts, up to `end`.
    pub(crate) fn new(file: &'f File, version: u32, offset: u64, end: u64) -> Self {
        Self {
            file,
            version,
            offset,
            end,
            ahead: Bytes::new(),
        }
    }

    /// Offset of the next frame.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads at the current position, and moves past a valid frame.
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

    /// Ensures that `bytes` bytes are read ahead. The file must have that many left.
    fn fill(&mut self, bytes: usize) -> std::io::Result<()> {
        if self.ahead.len() >= bytes {
            return Ok(());
        }
        let left = self.end - self.offset;
        let wanted = left.min(bytes.max(CHUNK_BYTES) as u64) as usize;
        let mut chunk = BytesMut::zeroed(wanted);
        let kept = self.ahead.len();
        chunk[..kept].copy_from_slice(&self.ahead);
        self.file
            .read_exact_at(&mut chunk[kept..], self.offset + kept as u64)?;
        self.ahead = chunk.freeze();
        Ok(())
    }
}

/// True if the file holds only zeros from `offset` to `end`.
pub(crate) fn is_zero_from(file: &File, mut offset: u64, end: u64) -> std::io::Result<bool> {
    let mut chunk = vec![0; CHUNK_BYTES];
    while offset < end {
        let bytes = CHUNK_BYTES.min((end - offset) as usize);
        file.read_exact_at(&mut chunk[..bytes], offset)?;
        if chunk[..bytes].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        offset += bytes as u64;
    }
    Ok(true)
}
