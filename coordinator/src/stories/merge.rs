//! Traces of which each process has its part, merged for clients.

use std::collections::BTreeMap;

use super::bodies::{HopBody, SummaryBody, TraceBody};

/// Makes one trace of the parts of several processes. A hop that several know has the events of
/// all. `None` if there are no parts.
pub(crate) fn traces(parts: Vec<TraceBody>) -> Option<TraceBody> {
    let trace = parts.first()?.trace.clone();
    let mut omitted = 0;
    let mut hops: BTreeMap<String, HopBody> = BTreeMap::new();
    for part in parts.into_iter().filter(|part| part.trace == trace) {
        omitted += part.omitted_hops;
        for hop in part.hops {
            match hops.get_mut(&hop.id) {
                Some(known) => {
                    known.steps.extend(hop.steps);
                    known.omitted_steps += hop.omitted_steps;
                    known.conclude();
                }
                None => {
                    hops.insert(hop.id.clone(), hop);
                }
            }
        }
    }
    Some(TraceBody::of(trace, hops.into_values().collect(), omitted))
}

/// Makes one list of those of several processes, newest first.
pub(crate) fn lists(parts: Vec<SummaryBody>, limit: usize) -> Vec<SummaryBody> {
    let mut merged: BTreeMap<String, SummaryBody> = BTreeMap::new();
    for part in parts {
        match merged.get_mut(&part.trace) {
            Some(known) => join(known, part),
            None => {
                merged.insert(part.trace.clone(), part);
            }
        }
    }
    let mut list: Vec<_> = merged.into_values().collect();
    list.sort_by(|one, other| {
        let newest = other.begun_us.cmp(&one.begun_us);
        newest.then(one.trace.cmp(&other.trace))
    });
    list.truncate(limit);
    list
}

fn join(known: &mut SummaryBody, part: SummaryBody) {
    let end = |it: &SummaryBody| it.begun_us + it.duration_us;
    let ended_us = end(known).max(end(&part));
    if part.begun_us < known.begun_us {
        known.begun_us = part.begun_us;
        known.begun_at = part.begun_at;
        known.first = part.first;
    }
    known.duration_us = ended_us - known.begun_us;
    known.hops += part.hops;
    known.pending += part.pending;
    known.failed |= part.failed;
    known.functions.extend(part.functions);
}
