//! Replay of the log tail over the images.
//!
//! ```text
//!  records ─► group ─► offload: decompress, check ─► entries ─► fold
//!          ─► group ─► offload: decompress, check ──────┘ in the order of the log
//! ```
//!
//! To unpack a record needs nothing but the record. So the next groups of records are unpacked
//! while the entries of earlier ones are applied. Records are released as they are unpacked.

use std::collections::VecDeque;

use futures::channel::oneshot::Receiver;

use crate::entries::Entries;
use crate::error::{Defect, LogError};
use crate::fold::Fold;
use crate::loading::{Offload, begin};
use crate::manifest::Manifest;
use crate::reader::PartitionReader;
use crate::record::{Kind, Record};

/// Minimum size in bytes of the records that are unpacked together, uncompressed.
const GROUP_BYTES: usize = 1 << 20;

/// Size in bytes of the unpacked groups that wait for earlier ones, uncompressed, from which no
/// further one is begun.
const AHEAD_BYTES: usize = 16 << 20;

impl PartitionReader {
    /// Applies the valid records of a tail, with the sizes of their objects, over the images.
    /// Returns for each bucket if they changed it. `image_bytes` are already applied.
    pub(crate) async fn replay(
        &self,
        manifest: Option<&Manifest>,
        records: Vec<(Record, u64)>,
        image_bytes: u64,
        tail_bytes: u64,
        fold: &mut impl Fold,
    ) -> Result<Vec<bool>, LogError> {
        let buckets = self.identity.buckets;
        let mut dirty = vec![false; usize::from(buckets) + 1];
        let imaged: Vec<u64> = match manifest {
            Some(manifest) => manifest.buckets.iter().map(|at| at.number).collect(),
            None => vec![0; dirty.len()],
        };
        let mut done = image_bytes;
        let mut unpacking = Unpacking::new(records);
        while let Some(group) = unpacking.next(&self.offload, buckets).await? {
            for Unpacked {
                number,
                stored_bytes,
                entries,
            } in group
            {
                let entries = entries
                    .map_err(|defect| LogError::damaged(&self.layout.log(number), defect))?;
                for entry in entries.iter() {
                    let bucket = usize::from(entry.bucket);
                    if number > imaged[bucket] {
                        dirty[bucket] = true;
                        fold.apply(entry);
                    }
                }
                done += stored_bytes;
                fold.progress(done, image_bytes + tail_bytes);
            }
        }
        Ok(dirty)
    }
}

/// A record whose body was unpacked.
struct Unpacked {
    number: u64,
    stored_bytes: u64,
    /// Its changes; none if it is no commit.
    entries: Result<Entries, Defect>,
}

/// Records on their way to the fold, in the order of the log.
struct Unpacking {
    rest: std::vec::IntoIter<(Record, u64)>,
    /// Groups that are being unpacked, with their uncompressed sizes in bytes.
    groups: VecDeque<(usize, Receiver<Vec<Unpacked>>)>,
    /// Uncompressed size of these groups, in bytes.
    bytes: usize,
}

impl Unpacking {
    fn new(records: Vec<(Record, u64)>) -> Self {
        Self {
            rest: records.into_iter(),
            groups: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Returns the next records; `None` after the last one.
    async fn next(
        &mut self,
        offload: &Offload,
        bucket_max: u16,
    ) -> Result<Option<Vec<Unpacked>>, LogError> {
        while self.bytes < AHEAD_BYTES && self.rest.len() > 0 {
            self.begin(offload, bucket_max);
        }
        let Some((bytes, unpacked)) = self.groups.pop_front() else {
            return Ok(None);
        };
        self.bytes -= bytes;
        match unpacked.await {
            Ok(unpacked) => Ok(Some(unpacked)),
            Err(_) => Err(LogError::Misuse(
                "the unpacking of log records was dropped".to_owned(),
            )),
        }
    }

    /// Begins to unpack the next group.
    fn begin(&mut self, offload: &Offload, bucket_max: u16) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        for (record, stored_bytes) in self.rest.by_ref() {
            bytes += record.raw_len();
            group.push((record, stored_bytes));
            if bytes >= GROUP_BYTES {
                break;
            }
        }
        let unpacked = begin(offload, move || {
            let group = group.into_iter();
            let unpacked = group.map(|(record, stored_bytes)| Unpacked {
                number: record.header.number,
                stored_bytes,
                entries: match record.header.kind {
                    Kind::Delta => record.entries(bucket_max),
                    Kind::Takeover | Kind::Control => Ok(Entries::empty()),
                },
            });
            unpacked.collect()
        });
        self.bytes += bytes;
        self.groups.push_back((bytes, unpacked));
    }
}
