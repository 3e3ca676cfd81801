//! Deadline for progress: a connection whose peer reads nothing is closed.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A stream whose writes fail when its peer accepts no byte for a while, and whose reads are
/// counted.
///
/// Reads have no deadline here, because an idle connection reads too.
pub(crate) struct Progressing<S> {
    stream: S,
    time_max: Duration,
    deadline: Pin<Box<Sleep>>,
    /// True while written bytes wait for the peer, shared with the connection's registration.
    unsent: Arc<AtomicBool>,
    waits: bool,
    count: Count,
}

/// Counts bytes that were read, or rejects them.
type Count = Box<dyn FnMut(&[u8]) -> io::Result<()> + Send>;

impl<S> Progressing<S> {
    /// Wraps `stream`. `unsent` is kept true while bytes wait for the peer. The connection ends
    /// with an error of `count`.
    pub(crate) fn new(
        stream: S,
        time_max: Duration,
        unsent: Arc<AtomicBool>,
        count: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self {
            stream,
            time_max,
            deadline: Box::pin(sleep(time_max)),
            unsent,
            waits: false,
            count: Box::new(count),
        }
    }

    /// Passes the result of a write on, or an error if none succeeded for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.waits = false;
            return result;
        }
        self.unsent.store(true, Ordering::Relaxed);
        if !self.waits {
            self.waits = true;
            let due = Instant::now() + self.time_max;
            self.deadline.as_mut().reset(due);
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the client read nothing for {:?}", self.time_max),
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Progressing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        Poll::Ready((self.count)(&buffer.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Progressing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        if result.is_ready() {
            self.unsent.store(false, Ordering::Relaxed);
        }
        self.watch(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, result)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_reads_slowly_is_waited_for_and_one_that_stops_is_not() {
        let (ours, mut theirs) = duplex(16);
        let unsent = Arc::new(AtomicBool::new(false));
        let time_max = Duration::from_millis(400);
        let mut stream = Progressing::new(ours, time_max, unsent.clone(), |_| Ok(()));
        let begun = Instant::now();
        let writing = tokio::spawn(async move {
            let result = stream.write_all(&[7; 64]).await;
            result.map_err(|error| error.to_string())
        });
        let mut read = [0; 16];
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            theirs.read_exact(&mut read).await.unwrap();
        }
        let result = writing.await.unwrap();
        assert_eq!(result, Err("the client read nothing for 400ms".to_owned()));
        assert!(begun.elapsed() >= Duration::from_millis(1000));
        assert!(unsent.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn what_was_sent_as_a_whole_waits_no_more() {
        let (ours, _theirs) = duplex(64);
        let unsent = Arc::new(AtomicBool::new(true));
        let mut stream =
            Progressing::new(ours, Duration::from_secs(10), unsent.clone(), |_| Ok(()));
        stream.write_all(&[7; 64]).await.unwrap();
        stream.flush().await.unwrap();
        assert!(!unsent.load(Ordering::Relaxed));
    }
}
