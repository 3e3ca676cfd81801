//! Flags about the placement of addresses.

use clap::Args;
use clap::builder::BoolishValueParser;
use satchel_engine::placement::KEY_GROUPS_MAX;

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
}

impl PlacementArgs {
    /// Placement that these flags ask for.
    pub(crate) fn asked(&self) -> AskedPlacement {
        AskedPlacement {
            key_groups: self.key_groups,
            hash_tags: self.hash_tags,
        }
    }
}
