//! Signals that request a stop.

use std::task::{Context, Poll};

use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM, Ctrl-C (SIGINT), SIGQUIT or SIGHUP. From the call on, none of these signals
/// ends the process by itself.
///
/// SIGHUP is left alone if the process was started with it ignored, as `nohup` does.
///
/// # Errors
///
/// The operating system refuses to deliver signals.
pub fn shutdown_signal() -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut kinds = vec![
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::quit(),
    ];
    if !ignores_hangup() {
        kinds.push(SignalKind::hangup());
    }
    let signals: std::io::Result<Vec<_>> = kinds.into_iter().map(signal).collect();
    let mut signals = signals?;
    let any = move |context: &mut Context<'_>| {
        let come = signals
            .iter_mut()
            .any(|signal| signal.poll_recv(context).is_ready());
        if come { Poll::Ready(()) } else { Poll::Pending }
    };
    Ok(std::future::poll_fn(any))
}

/// Returns true if the process was started with SIGHUP ignored, as far as the system tells.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The lowest bit stands for signal 1, SIGHUP.
    ignored.is_some_and(|mask| mask & 1 == 1)
}
