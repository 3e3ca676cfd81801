//! Flags about the placement of addresses.

use clap::Args;
use clap::builder::BoolishValueParser;
use satchel_engine::placement::{DEFAULT_KEY_GROUPS, KEY_GROUPS_MAX};

use crate::store::AskedPlacement;

/// Placement of the addresses of a new root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Args)]
#[command(next_help_heading = "Placement")]
pub struct PlacementArgs {
    /// Divide the addresses of a new root into COUNT key groups [default: 1024]
    ///
    /// A key group is the unit of snapshots and of loading. An address has the key group of the MD5
    /// of its id. The root remembers the number: later starts and all offline commands find it, and
    /// refuse another one. A fork has that of its origin.
    #[arg(
        long,
        env = "SATCHEL_KEY_GROUPS",
        value_name = "COUNT",
        value_parser = clap::value_parser!(u16).range(1..=i64::from(KEY_GROUPS_MAX))
    )]
    pub key_groups: Option<u16>,

    /// Place an address of a new root by the text in the first braces of its id, where there is one
    ///
    /// The addresses `{tenant}/order-7` and `{tenant}/order-8` then have one key group. The root
    /// remembers this too, and it cannot be changed.
    #[arg(
        long,
        env = "SATCHEL_HASH_TAGS",
        value_parser = BoolishValueParser::new()
    )]
    pub hash_tags: bool,

    /// Divide a new root into COUNT partitions, each with a log and a loop of its own [default: 1]
    ///
    /// A partition has a contiguous range of the key groups. A message from one partition to
    /// another takes one commit more. The root remembers the number, and it cannot be changed.
    /// One partition is right for most applications.
    #[arg(
        long,
        env = "SATCHEL_PARTITIONS",
        value_name = "COUNT",
        value_parser = clap::value_parser!(u16).range(1..=PARTITIONS_MAX)
    )]
    pub partitions: Option<u16>,
}

/// Maximum of `--partitions`. Each has links to all others, and commits of its own.
const PARTITIONS_MAX: i64 = 256;

impl PlacementArgs {
    /// Placement that these flags ask for.
    pub(crate) fn asked(&self) -> AskedPlacement {
        AskedPlacement {
            key_groups: self.key_groups,
            hash_tags: self.hash_tags,
            partitions: self.partitions,
        }
    }

    /// Checks that every partition has a key group.
    pub(super) fn validate(&self) -> Result<(), String> {
        let key_groups = self.key_groups.unwrap_or(DEFAULT_KEY_GROUPS);
        match self.partitions {
            Some(partitions) if partitions > key_groups => Err(format!(
                "--partitions {partitions} must be at most the number of key groups, {key_groups}"
            )),
            _ => Ok(()),
        }
    }
}
