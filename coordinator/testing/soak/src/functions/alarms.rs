//! Alarms that ring once, not early, and not after a timely cancellation.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use satchel_sdk::{Context, Functions, Message, Result, State, Value};
use serde::{Deserialize, Serialize};

use super::{AlarmEnd, EgressRecord, Recent, emit, violation};

/// Maximum backward step of the machine's clock between setting and ringing.
const SET_BACK_MAX_MS: u64 = 100;

/// Time after a cancellation during which the alarm may still ring: it may have started ringing
/// while the cancellation was on its way.
const RINGS_YET_MS: u64 = 60_000;

/// Message to an alarm.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(typename = "soak/alarm-message")]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum AlarmMessage {
    /// Sent by a client.
    Set { n: u64, delay_ms: u64 },
    /// Sent by a client; without effect if the alarm has rung.
    Cancel { n: u64 },
    /// Sent by itself.
    Ring { n: u64 },
}

/// Pending alarms with the earliest time at which each may ring, in ms since the epoch.
#[derive(Debug, Default, Serialize, Deserialize, Message)]
#[message(typename = "soak/alarms-set")]
pub(crate) struct AlarmsSet {
    pub(crate) open: BTreeMap<u64, u64>,
    /// Alarms cancelled about when they were due, which may still ring once.
    cancelled_late: Recent,
}

#[derive(State)]
struct Alarms {
    alarms: Value<AlarmsSet>,
}

pub(super) fn bind(functions: Functions) -> Functions {
    functions.bind("soak/alarm", alarm)
}

async fn alarm(ctx: &mut Context<Alarms>, message: AlarmMessage) -> Result {
    let me = ctx.self_address().clone();
    let now_ms = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let AlarmsSet {
        open,
        cancelled_late,
    } = ctx.state.alarms.get_mut_or_default();
    match message {
        AlarmMessage::Set { n, delay_ms } => {
            if open.insert(n, now_ms.saturating_add(delay_ms)).is_some() {
                violation(&me, format!("alarm {n} is set twice"));
            }
            let delay = Duration::from_millis(delay_ms);
            ctx.send_after(delay, me, &AlarmMessage::Ring { n })
                .with_token(n.to_string());
        }
        AlarmMessage::Cancel { n } => {
            if let Some(due_ms) = open.remove(&n) {
                if due_ms < now_ms + RINGS_YET_MS {
                    cancelled_late.note(n);
                }
                ctx.cancel(n.to_string());
                let ended = AlarmEnd::Cancelled;
                emit(ctx, me.id(), &EgressRecord::Alarm { n, ended });
            }
        }
        AlarmMessage::Ring { n } => {
            match open.remove(&n) {
                Some(due_ms) if now_ms + SET_BACK_MAX_MS < due_ms => {
                    violation(&me, format!("alarm {n} rang {} ms early", due_ms - now_ms));
                }
                Some(_) => {}
                None if cancelled_late.forget(n) => return Ok(()),
                None => violation(&me, format!("alarm {n} rang but is not set")),
            }
            let ended = AlarmEnd::Rung;
            emit(ctx, me.id(), &EgressRecord::Alarm { n, ended });
        }
    }
    Ok(())
}
