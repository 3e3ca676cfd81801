//! Supervisor of handler processes: starts them when the pool wants more, until the pool is stopped
//! and the last process has ended.

use std::sync::Arc;

use futures::future::OptionFuture;
use tokio::time::{Instant, sleep_until};

use super::function::Function;
use super::process;

pub(super) async fn supervise(function: Arc<Function>) {
    loop {
        let tick = {
            let mut pool = function.pool();
            if pool.is_over() {
                return;
            }
            pool.tick(Instant::now())
        };
        if tick.start {
            start(&function);
            continue;
        }
        tokio::select! {
            () = function.changed.notified() => {}
            Some(()) = OptionFuture::from(tick.again_at.map(sleep_until)) => {}
        }
    }
}

fn start(function: &Arc<Function>) {
    let (process, wanted) = function.pool().add(Instant::now());
    let function = Arc::clone(function);
    tokio::spawn(async move {
        let how = process::run(Arc::clone(&function), process, wanted).await;
        function.pool().exited(process, &how, Instant::now());
        function.changed.notify_one();
    });
}
