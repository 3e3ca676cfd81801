//! Reading frames that are in the files but not in memory: at opening, and after appends of another
//! process.

use std::sync::Arc;

use super::Log;
use super::group::Summary;
use crate::error::StreamError;
use crate::frame::{Content, Frame};
use crate::scan::{Scan, Step, is_zero_from};

impl Log {
    pub(super) fn is_behind(&self) -> Result<bool, StreamError> {
        let inspect = |error: std::io::Error| self.io("inspect its files", &error);
        Ok(self.length()? != self.end
            || self.home.has(self.last.number + 1).map_err(inspect)?
            || self.home.is_deleted().map_err(inspect)?)
    }

    pub(super) fn catch_up(&mut self) -> Result<(), StreamError> {
        if !self.home.is_durable() {
            return Ok(());
        }
        loop {
            let length = self.length()?;
            if length < self.end {
                return Err(self.damaged(length, "the file is shorter than it was"));
            }
            let next = self.last.number + 1;
            let has_next = self.home.has(next);
            let has_next = has_next.map_err(|error| self.io("inspect its files", &error))?;
            if length > self.end {
                self.read_frames(length, self.end)?;
                self.sync()
                    .map_err(|error| self.io("sync its file", &error))?;
                self.mark_acknowledged();
            }
            if !has_next {
                return Ok(());
            }
            let (segment, checkpoint) = self.open_segment(next)?;
            self.begin_segment(segment, checkpoint)?;
        }
    }

    /// Applies the frames from `self.end` to `length`. Cuts off an unfinished frame at the end that
    /// was never acknowledged.
    pub(super) fn read_frames(
        &mut self,
        length: u64,
        acknowledged: u64,
    ) -> Result<(), StreamError> {
        let segment = Arc::clone(&self.last);
        let mut scan = Scan::new(&segment.file, segment.version, self.end, length);
        let (offset, reason) = loop {
            match scan
                .step()
                .map_err(|error| self.io("read its file", &error))?
            {
                Step::Frame(offset, frame) => self.apply_frame(offset, scan.offset(), &frame)?,
                Step::End => break (self.end, None),
                Step::Unfinished(offset) => {
                    break (offset, Some("the last record is incomplete"));
                }
                Step::Damaged(offset, reason) => {
                    // A crash of the machine may leave a file that was extended but never filled.
                    let zero = is_zero_from(&segment.file, offset, length);
                    if !zero.map_err(|error| self.io("read its file", &error))? {
                        return Err(self.damaged(offset, reason));
                    }
                    break (offset, Some("the rest of the file is zeros"));
                }
            }
        };
        if offset < acknowledged {
            let reason = reason.unwrap_or("the file ends here");
            return Err(self.damaged(
                offset,
                format!("{reason}, but records up to byte {acknowledged} were acknowledged"),
            ));
        }
        if reason.is_some() {
            let cut = segment.file.set_len(offset);
            cut.map_err(|error| self.io("cut off an unfinished record", &error))?;
        }
        Ok(())
    }

    /// Applies a frame that the last segment holds from `offset` to `end`.
    fn apply_frame(&mut self, offset: u64, end: u64, frame: &Frame) -> Result<(), StreamError> {
        let (first, content) = frame
            .content()
            .map_err(|reason| self.damaged(offset, reason))?;
        if first != self.next {
            let reason = format!("the frame counts from {first}, not from {}", self.next);
            return Err(self.damaged(offset, reason));
        }
        match content {
            Content::Records { producer, records } => {
                let summary = Summary::of(producer, &records);
                self.apply_records(offset, end, summary);
            }
            Content::Change {
                next,
                time_ms,
                description,
            } => {
                self.end = end;
                self.set_description(*description, next, time_ms);
            }
            Content::Continued => {
                self.end = end;
                self.continued = true;
            }
            Content::Checkpoint { .. } => {
                return Err(self.damaged(offset, "a checkpoint inside a segment"));
            }
        }
        Ok(())
    }
}
