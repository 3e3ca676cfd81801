//! Placement of addresses in the engine's terms and in those of a root's record.

use satchel_engine::placement::{Placement, PlacementKind};
use satchel_log::{Application, Identity};

/// Returns the placement that the record of a root names.
#[must_use]
pub fn recorded(application: &Application) -> Placement {
    let kind = match application.placement {
        satchel_log::Placement::Xxh3 => PlacementKind::Xxh3,
        satchel_log::Placement::IdMd5 { hash_tags } => PlacementKind::IdMd5 { hash_tags },
    };
    Placement {
        key_groups: application.buckets,
        kind,
    }
}

/// Returns what an owner of the only partition of an application must agree with.
#[must_use]
pub fn identity(application: &str, placement: Placement) -> Identity {
    identity_of(application, placement, (0, 1))
}

/// Returns what an owner of one partition must agree with: `partition` of `partitions`.
#[must_use]
pub fn identity_of(
    application: &str,
    placement: Placement,
    (partition, partitions): (u32, u32),
) -> Identity {
    Identity {
        application: application.to_owned(),
        partition,
        partitions,
        buckets: placement.key_groups,
        placement: match placement.kind {
            PlacementKind::Xxh3 => satchel_log::Placement::Xxh3,
            PlacementKind::IdMd5 { hash_tags } => satchel_log::Placement::IdMd5 { hash_tags },
        },
    }
}
