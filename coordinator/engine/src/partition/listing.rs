//! Lists of addresses, bucket by bucket: a bucket is the unit of loading, and bounds the work of
//! one list.

use std::collections::BTreeMap;

use super::Partition;
use crate::address::Address;
use crate::output::{AddressSummary, Answer};
use crate::tables::{Activity, Instance};

impl Partition {
    /// Lists addresses of a bucket in memory, by function and id. `filters` are the name of the
    /// function and the beginning of the id.
    pub(super) fn list_addresses(
        &self,
        bucket: u16,
        filters: (Option<&str>, &str),
        after: Option<&Address>,
        limit: usize,
    ) -> Answer {
        if bucket >= self.tables.buckets() {
            return Answer::NotFound(format!("there is no bucket {bucket}"));
        }
        let (name, prefix) = filters;
        let after = after.map(|address| (&address.function, &*address.id));
        let mut first = BTreeMap::new();
        for (function, id, instance) in self.tables.bucket_slot(bucket).instances() {
            let wanted = id.starts_with(prefix)
                && name.is_none_or(|name| function.is_called(name))
                && after.is_none_or(|after| (function, id) > after);
            if wanted {
                first.insert((function, id), instance);
                if first.len() > limit {
                    first.pop_last();
                }
            }
        }
        let views = first.into_iter().map(|((function, id), instance)| {
            self.address_summary(Address::new(function.clone(), id), instance)
        });
        Answer::Addresses(views.collect())
    }

    fn address_summary(&self, address: Address, instance: &Instance) -> AddressSummary {
        let states = instance
            .states()
            .filter(|state| !state.is_expired(self.now_ms));
        let active = instance.active.as_ref();
        let suspension = active.and_then(|active| active.suspension.as_ref());
        let failures = active.and_then(|active| active.failures.as_ref());
        AddressSummary {
            address,
            states: states.count(),
            backlog_messages: active.map_or(0, |active| active.mailbox.len()),
            backlog_bytes: active.map_or(0, |active| active.mailbox_bytes),
            in_flight: active
                .is_some_and(|active| matches!(active.activity, Activity::InFlight(_))),
            suspended: suspension.map(|suspension| suspension.reason.clone()),
            failing: failures
                .filter(|failures| failures.attempts > 0)
                .map(|failures| (failures.attempts, failures.reason.clone())),
        }
    }
}
