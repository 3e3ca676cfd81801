//! Signals that request a stop.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for Ctrl-C (SIGINT) or SIGTERM. From the call on, neither signal ends the process by
/// itself.
///
/// # Errors
///
/// The operating system refuses to deliver signals.
pub fn shutdown_signal() -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
