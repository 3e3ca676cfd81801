//! Deliberate defects in what surrounds the engine and the log. The simulation must catch each of
//! them. No production binary contains one.

pub(crate) mod storage;

/// One way to break a law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Records that are read again arrive as new ones.
    SkipDedup,
    /// Deltas lose their positions, except for the first of each shard.
    ForgetPosition,
    /// The partition learns that a delta is durable as soon as it is sealed.
    ReleaseBeforeCommit,
    /// Egress records are acknowledged before they arrive.
    AcknowledgeEarly,
    /// Answers to attempts of former owners count for the attempt in flight.
    IgnoreEpoch,
    /// An answer is applied again to the next batch of its address.
    ApplyTwice,
    /// Results of one bundle are handed to each other's batches.
    SwapAnswers,
    /// Records that a former owner left in the outbox are not sent again.
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
    /// Recovered mailboxes are in reverse order.
    ReorderMailbox,
    /// Deltas lose idempotency keys.
    ForgetKeys,
    /// Deltas lose entries of the outbox.
    ForgetOutbox,
    /// Deltas lose the counter, so that numbers are assigned twice.
    ForgetCounter,
    /// Deltas lose dead letters.
    DropDeadLetters,
    /// Recovered values never expire.
    NeverExpire,
    /// Images of buckets claim a later seal than they have.
    ImageTooOld,
    /// A fenced owner continues as if its deltas were durable.
    IgnoreFence,
    /// A create replaces an existing object.
    UnconditionalCreate,
    /// Requests are answered before the delta that holds their cause is durable.
    ReplyEarly,
    /// Deaths of the process are not remembered.
    ForgetDeaths,
    /// Each owner resolves anew where reading a shard begins.
    ResolveAgain,
    /// An owner puts records that its predecessor left without scanning the stream for them.
    SkipLook,
    /// A scan begins after the last acknowledged record.
    LookAfterLast,
    /// An owner takes records that its predecessor acknowledged for equal ones in doubt.
    ForgetAcknowledged,
    /// An owner scans before its predecessor's requests have landed or died.
    LookEarly,
    /// Records are put though ownership was not confirmed recently.
    PutUnconfirmed,
    /// Deltas lose the egress marks of the stream.
    ForgetMarks,
    /// Messages of the queue are deleted before their effects are durable.
    DeleteEarly,
    /// Deltas lose the ids of messages received from the queue.
    ForgetIds,
    /// Child shards are read before the ends of their parents are durable.
    ChildrenEarly,
    /// A shard counts as ended as soon as it is closed.
    EndEarly,
    /// Every other process sees a clock that stands still, so its ownership always looks fresh.
    FrozenClock,
    /// A bucket is loaded without its overlay.
    LoseOverlay,
    /// Each seal counts as a snapshot in effect, so that unpublished buckets are evicted.
    DropDirty,
    /// The earliest due time of a bucket that is not loaded is unknown.
    ForgetDue,
    /// Replies to callers are lost while buckets are loading.
    LoseEarlyReplies,
    /// A bucket that is loaded again has the content of its first load.
    StaleLoad,
    /// A bucket is loaded with the overlay of the load before it.
    SwapLoads,
    /// Some loads are never answered.
    ForgetLoad,
    /// An owner deletes condemned objects without checking for savepoints.
    CollectSavepoint,
    /// An owner ignores the hold of its root.
    LiftHold,
    /// An owner serves a root that is being written, or was left unfinished.
    PartialFork,
    /// A moment is read without its last delta.
    WrongMoment,
    /// A fork begins at the time of its writer's clock, whatever the time of its origin.
    ForkShiftsTime,
    /// Ingress continues when too much is pending.
    IgnorePause,
    /// The partition has no memory limit.
    IgnoreMemoryLimit,
    /// Failures of an endpoint count against the messages of the request.
    CountAnOutage,
    /// An endpoint that is down is not probed in time.
    ForgetProbe,
    /// Batches that gather are not sent when their linger is over.
    LingerForever,
    /// Back-offs end by the calendar.
    FreezeBackoff,
    /// Partition time stands still while the calendar is behind.
    FreezeTime,
    /// A process follows every jump of its calendar.
    FollowJump,
    /// A rejection for good counts as any other failure.
    RetryTerminal,
    /// A rejection for good is taken for one of the first message of its batch.
    BlameFirst,
    /// Probes are never answered.
    ForgetFunctionProbe,
    /// Deltas lose the pauses of functions.
    ForgetPause,
    /// Functions declare the expirations of their first version only.
    KeepOldExpiration,
    /// Buckets are loaded without their dead letters.
    LoseLetters,
    /// Deltas lose the trace contexts of messages.
    LoseTrace,
    /// Frames of another generation are taken.
    TakeOtherGeneration,
    /// A frame beyond the next number is taken.
    TakeBeyond,
    /// Messages of other partitions are acknowledged when they were taken.
    AcknowledgeTaken,
    /// Messages leave for other partitions before the delta that made them is durable.
    LeaveEarly,
    /// Deltas have the partition's own time, whatever they take from others.
    IgnorePeerTime,
    /// Messages for other partitions take credit away.
    CreditCountsOutbox,
    /// The partition's own time follows that of other partitions.
    PeersMoveTime,
    /// Every answer of another partition counts as that of its newest owner.
    IgnoreReceiverEpoch,
    /// Deltas lose the epochs of acknowledgements.
    ForgetReceiverEpoch,
    /// Deltas lose the numbers taken from other partitions.
    ForgetTaken,
    /// Deltas lose some of the messages to other partitions.
    ForgetOut,
    /// Child shards are read when their parents were read to the end, though what was forwarded of
    /// them is still under way.
    ChildrenBeforeForwarded,
}

impl Mutant {
    /// All mutants with their names.
    pub const ALL: [(&'static str, Mutant); 75] = [
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
        ("look-after-last", Mutant::LookAfterLast),
        ("forget-acknowledged", Mutant::ForgetAcknowledged),
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
        ("ignore-memory-limit", Mutant::IgnoreMemoryLimit),
        ("count-an-outage", Mutant::CountAnOutage),
        ("forget-probe", Mutant::ForgetProbe),
        ("linger-forever", Mutant::LingerForever),
        ("freeze-backoff", Mutant::FreezeBackoff),
        ("freeze-time", Mutant::FreezeTime),
        ("follow-jump", Mutant::FollowJump),
        ("retry-terminal", Mutant::RetryTerminal),
        ("blame-first", Mutant::BlameFirst),
        ("forget-function-probe", Mutant::ForgetFunctionProbe),
        ("forget-pause", Mutant::ForgetPause),
        ("keep-old-expiration", Mutant::KeepOldExpiration),
        ("lose-letters", Mutant::LoseLetters),
        ("lose-trace", Mutant::LoseTrace),
        ("take-other-generation", Mutant::TakeOtherGeneration),
        ("take-beyond", Mutant::TakeBeyond),
        ("acknowledge-taken", Mutant::AcknowledgeTaken),
        ("leave-early", Mutant::LeaveEarly),
        ("ignore-peer-time", Mutant::IgnorePeerTime),
        ("credit-counts-outbox", Mutant::CreditCountsOutbox),
        ("peers-move-time", Mutant::PeersMoveTime),
        ("ignore-receiver-epoch", Mutant::IgnoreReceiverEpoch),
        ("forget-receiver-epoch", Mutant::ForgetReceiverEpoch),
        ("forget-taken", Mutant::ForgetTaken),
        ("forget-out", Mutant::ForgetOut),
        ("children-before-forwarded", Mutant::ChildrenBeforeForwarded),
    ];

    /// Returns whether only a world of several partitions has this defect.
    #[must_use]
    pub fn is_between_partitions(self) -> bool {
        matches!(
            self,
            Self::TakeOtherGeneration
                | Self::TakeBeyond
                | Self::AcknowledgeTaken
                | Self::LeaveEarly
                | Self::IgnorePeerTime
                | Self::CreditCountsOutbox
                | Self::PeersMoveTime
                | Self::IgnoreReceiverEpoch
                | Self::ForgetReceiverEpoch
                | Self::ForgetTaken
                | Self::ForgetOut
                | Self::ChildrenBeforeForwarded
        )
    }

    /// Returns the mutant of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, mutant)| *mutant)
    }

    /// Returns the name of the mutant.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, mutant)| *mutant == self);
        found.map_or("", |(name, _)| name)
    }
}
