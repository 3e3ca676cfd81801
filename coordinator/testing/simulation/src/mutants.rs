//! Deliberately broken variants of what stands around the engine and the log. Each must be caught; none is in any production binary.

pub(crate) mod storage;

/// One way to break a law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Records that are read again are told as new ones.
    SkipDedup,
    /// Deltas lose their positions, all but the first of each shard.
    ForgetPosition,
    /// The partition is told that a delta is durable as soon as it is sealed.
    ReleaseBeforeCommit,
    /// Egress records are acknowledged before they arrived.
    AcknowledgeEarly,
    /// Answers of former owners' attempts are taken for the attempt in flight.
    IgnoreEpoch,
    /// An answer is applied again to the next batch of its address.
    ApplyTwice,
    /// Results of one bundle are handed to each other's batches.
    SwapAnswers,
    /// What a former owner left in the outbox is not sent again.
    SkipReemission,
    /// Deltas lose some of the messages.
    LoseMessages,
    /// Deltas lose the removal of messages.
    KeepConsumed,
    /// Deltas lose the removal of timers.
    KeepTimers,
    /// Deltas lose new timers.
    LoseTimers,
    /// Recovered timers are due earlier.
    HastenTimers,
    /// Recovered mailboxes are in another order.
    ReorderMailbox,
    /// Deltas lose idempotency keys.
    ForgetKeys,
    /// Deltas lose entries of the outbox.
    ForgetOutbox,
    /// Deltas lose the counter, so that numbers are given out again.
    ForgetCounter,
    /// Deltas lose dead letters.
    DropDeadLetters,
    /// Recovered values never expire.
    NeverExpire,
    /// Images of buckets are told to be of a later seal than they are.
    ImageTooOld,
    /// An owner that was fenced goes on as if its deltas were durable.
    IgnoreFence,
    /// A create replaces the object that is there.
    UnconditionalCreate,
    /// Requests are answered before the delta that holds their cause is durable.
    ReplyEarly,
    /// Deaths of the process are not remembered.
    ForgetDeaths,
    /// Where reading a shard begins is resolved anew by each owner.
    ResolveAgain,
    /// An owner puts what its predecessor left without looking for it in the stream.
    SkipLook,
    /// An owner looks before its predecessor's requests have landed or died.
    LookEarly,
    /// Records are put though ownership was not confirmed of late.
    PutUnconfirmed,
    /// Deltas lose what the egress notes of its stream.
    ForgetMarks,
    /// Messages of the queue are deleted before what they became is durable.
    DeleteEarly,
    /// Deltas lose the ids of what was received from the queue.
    ForgetIds,
    /// Children are read before the ends of their parents are durable.
    ChildrenEarly,
    /// A shard is told to be over as soon as it is closed.
    EndEarly,
    /// To every other process its ownership looks as fresh as when it started.
    FrozenClock,
    /// What the log says over the image of a bucket is lost when the bucket is loaded.
    LoseOverlay,
    /// Each seal is told to be a snapshot in effect, so that buckets are dropped that can not be loaded as they were.
    DropDirty,
    /// It is not known when something in a bucket that is not loaded is due.
    ForgetDue,
    /// Replies to callers are lost while buckets are being loaded.
    LoseEarlyReplies,
    /// A bucket that is loaded again is what it was when it was loaded first.
    StaleLoad,
    /// A loaded bucket gets the overlay of the load before it.
    SwapLoads,
    /// Some loads are never answered.
    ForgetLoad,
    /// An owner deletes what it condemned without looking for savepoints.
    CollectSavepoint,
    /// An owner does not know that its root is held.
    LiftHold,
    /// An owner serves a root that is being made, or was left unfinished.
    PartialFork,
    /// What was at a moment is read without the last delta of it.
    WrongMoment,
    /// A fork begins at the time of its maker's clock, whatever the time of its origin was.
    ForkShiftsTime,
    /// Reading goes on when too much is pending.
    IgnorePause,
    /// More is kept in memory than may be.
    Hoard,
}

impl Mutant {
    /// All of them.
    pub const ALL: [(&'static str, Mutant); 48] = [
        ("skip-dedup", Mutant::SkipDedup),
        ("forget-position", Mutant::ForgetPosition),
        ("release-before-commit", Mutant::ReleaseBeforeCommit),
        ("acknowledge-early", Mutant::AcknowledgeEarly),
        ("ignore-epoch", Mutant::IgnoreEpoch),
        ("apply-twice", Mutant::ApplyTwice),
        ("swap-answers", Mutant::SwapAnswers),
        ("skip-reemission", Mutant::SkipReemission),
        ("lose-messages", Mutant::LoseMessages),
        ("keep-consumed", Mutant::KeepConsumed),
        ("keep-timers", Mutant::KeepTimers),
        ("lose-timers", Mutant::LoseTimers),
        ("hasten-timers", Mutant::HastenTimers),
        ("reorder-mailbox", Mutant::ReorderMailbox),
        ("forget-keys", Mutant::ForgetKeys),
        ("forget-outbox", Mutant::ForgetOutbox),
        ("forget-counter", Mutant::ForgetCounter),
        ("drop-dead-letters", Mutant::DropDeadLetters),
        ("never-expire", Mutant::NeverExpire),
        ("image-too-old", Mutant::ImageTooOld),
        ("ignore-fence", Mutant::IgnoreFence),
        ("unconditional-create", Mutant::UnconditionalCreate),
        ("reply-early", Mutant::ReplyEarly),
        ("forget-deaths", Mutant::ForgetDeaths),
        ("resolve-again", Mutant::ResolveAgain),
        ("skip-look", Mutant::SkipLook),
        ("look-early", Mutant::LookEarly),
        ("put-unconfirmed", Mutant::PutUnconfirmed),
        ("forget-marks", Mutant::ForgetMarks),
        ("delete-early", Mutant::DeleteEarly),
        ("forget-ids", Mutant::ForgetIds),
        ("children-early", Mutant::ChildrenEarly),
        ("end-early", Mutant::EndEarly),
        ("frozen-clock", Mutant::FrozenClock),
        ("lose-overlay", Mutant::LoseOverlay),
        ("drop-dirty", Mutant::DropDirty),
        ("forget-due", Mutant::ForgetDue),
        ("lose-early-replies", Mutant::LoseEarlyReplies),
        ("stale-load", Mutant::StaleLoad),
        ("swap-loads", Mutant::SwapLoads),
        ("forget-load", Mutant::ForgetLoad),
        ("collect-savepoint", Mutant::CollectSavepoint),
        ("lift-hold", Mutant::LiftHold),
        ("partial-fork", Mutant::PartialFork),
        ("wrong-moment", Mutant::WrongMoment),
        ("fork-shifts-time", Mutant::ForkShiftsTime),
        ("ignore-pause", Mutant::IgnorePause),
        ("hoard", Mutant::Hoard),
    ];

    /// The mutant of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, mutant)| *mutant)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, mutant)| *mutant == self);
        found.map_or("", |(name, _)| name)
    }
}
