//! The receiving side of a pair of partitions.

use std::ops::RangeInclusive;

use super::{AHEAD_MAX_MS, Answer, Frame, Number, Refusal};

/// Receiving side of a pair, at one owner of the receiving partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receiver {
    epoch: u64,
    taken: Number,
    durable: Number,
    durable_time_ms: u64,
}

/// Verdict on a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intake {
    /// The messages with these numbers enter their mailboxes, and the last number the same delta.
    /// The frame is answered when that is durable.
    Take(RangeInclusive<Number>),
    /// Nothing is taken. The answer is sent at once.
    Answer(Answer),
}

impl Receiver {
    /// Begins an ownership period with `taken`, the last number in the durable state, which was
    /// committed at `time_ms`.
    #[must_use]
    pub fn start(epoch: u64, taken: Number, time_ms: u64) -> Self {
        Self {
            epoch,
            taken,
            durable: taken,
            durable_time_ms: time_ms,
        }
    }

    /// Last number that was taken, durable or not.
    #[must_use]
    pub fn taken(&self) -> Number {
        self.taken
    }

    /// Judges a frame. `now_ms` is the receiving partition's time, and `credit` the room it has
    /// for further messages of this pair, in bytes.
    ///
    /// A frame that overlaps what was taken is taken from the next number on. A frame beyond it is
    /// refused as a whole: who keeps the part that fits a later number would drop what is missing
    /// as old when it comes (rule 19).
    pub fn frame<M>(&mut self, frame: &Frame<M>, now_ms: u64, credit: u64) -> Intake {
        let next = self.taken + 1;
        if frame.first > next {
            return Intake::Answer(self.refuse(Refusal::Gap, credit));
        }
        if frame.last() < next {
            return Intake::Answer(self.answer(credit));
        }
        if frame.time_ms > now_ms.saturating_add(AHEAD_MAX_MS) {
            return Intake::Answer(self.refuse(Refusal::Ahead, credit));
        }
        self.taken = frame.last();
        Intake::Take(next..=self.taken)
    }

    /// The delta in which `number` was the last one taken became durable, with this commit time.
    /// Returns the acknowledgement, unless nothing of this pair was in it.
    pub fn durable(&mut self, number: Number, time_ms: u64, credit: u64) -> Option<Answer> {
        assert!(
            number <= self.taken,
            "only what was taken can become durable"
        );
        if number <= self.durable {
            return None;
        }
        self.durable = number;
        self.durable_time_ms = time_ms;
        Some(self.answer(credit))
    }

    /// Describes the pair as it is: for a new connection, and when room was made.
    #[must_use]
    pub fn answer(&self, credit: u64) -> Answer {
        Answer {
            epoch: self.epoch,
            taken: self.taken,
            durable: self.durable,
            time_ms: self.durable_time_ms,
            refused: None,
            credit,
        }
    }

    fn refuse(&self, refusal: Refusal, credit: u64) -> Answer {
        Answer {
            refused: Some(refusal),
            ..self.answer(credit)
        }
    }
}
