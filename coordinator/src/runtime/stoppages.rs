//! Log of functions and ingresses that stand still.

use satchel_engine::output::{Stoppage, Stoppages};

/// Logs the differences between two states.
pub(super) fn log_changes(before: &Stoppages, now: &Stoppages) {
    for (begun, Stoppage { name, reason, .. }) in
        changes(&before.suspended_functions, &now.suspended_functions)
    {
        if begun {
            tracing::warn!(
                function = name,
                reason,
                "function suspended; its messages wait"
            );
        } else {
            tracing::info!(function = name, "suspended function continues");
        }
    }
    for (begun, Stoppage { name, reason, .. }) in
        changes(&before.paused_functions, &now.paused_functions)
    {
        if begun {
            tracing::warn!(function = name, reason, "function paused by a person");
        } else {
            tracing::info!(function = name, "paused function resumed");
        }
    }
    for (begun, Stoppage { name, reason, .. }) in
        changes(&before.paused_ingresses, &now.paused_ingresses)
    {
        if begun {
            tracing::warn!(ingress = name, reason, "ingress paused by a person");
        } else {
            tracing::info!(ingress = name, "paused ingress resumed");
        }
    }
}

/// Lists the stoppages that ended, with false, then those that began or changed, with true.
fn changes<'a>(before: &'a [Stoppage], now: &'a [Stoppage]) -> Vec<(bool, &'a Stoppage)> {
    let has = |list: &[Stoppage], name: &str| list.iter().any(|it| it.name == name);
    let ended = before.iter().filter(|it| !has(now, &it.name));
    let begun = now.iter().filter(|it| !before.contains(it));
    ended
        .map(|it| (false, it))
        .chain(begun.map(|it| (true, it)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_logged_once() {
        let stoppage = |name: &str, reason: &str| Stoppage {
            name: name.to_owned(),
            reason: reason.to_owned(),
            since_ms: 1,
        };
        let (a, b) = (stoppage("a", "x"), stoppage("b", "x"));
        let other = stoppage("b", "y");
        let before = [a.clone(), b.clone()];
        assert_eq!(changes(&before, &before), []);
        assert_eq!(
            changes(&before, std::slice::from_ref(&other)),
            [(false, &a), (true, &other)]
        );
        assert_eq!(changes(&[], &before), [(true, &a), (true, &b)]);
    }
}
