//! Being asked to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Ends when the process is asked to stop, by Ctrl-C (SIGINT) or SIGTERM. From the call on, neither signal ends the process by itself.
///
/// # Errors
/// When the system refuses to tell of signals.
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
