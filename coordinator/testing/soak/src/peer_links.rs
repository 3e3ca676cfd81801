//! Connections between processes that can be cut: a proxy in front of the peer port of each
//! process.
//!
//! The connections are encrypted, so the proxies forward bytes. They find the process at the other
//! end of a connection by the owner of its socket, so that single links can be cut.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::socket_owner;

/// Size of a buffer in bytes.
const BUFFER_BYTES: usize = 16 * 1024;

/// Condition of the link from one process to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Connections end, and new ones are refused.
    Cut,
    /// Connections stay, but nothing arrives until the link is whole again.
    Stalled,
}

/// Conditions of links, by the indexes of their origin and destination. Those that are absent are
/// whole.
type Conditions = BTreeMap<(usize, usize), Condition>;

/// Proxies of the peer ports. Dropping it ends them.
pub(crate) struct PeerLinks {
    addresses: Vec<SocketAddr>,
    conditions: watch::Sender<Conditions>,
    /// Process ids by index.
    pids: Arc<Mutex<Vec<Option<u32>>>>,
    accepting: Vec<JoinHandle<()>>,
}

impl PeerLinks {
    /// Starts a proxy in front of each of these peer ports.
    pub(crate) async fn over(ports: &[SocketAddr]) -> std::io::Result<Self> {
        let conditions = watch::Sender::new(Conditions::new());
        let pids = Arc::new(Mutex::new(vec![None; ports.len()]));
        let (mut addresses, mut accepting) = (Vec::new(), Vec::new());
        for (to, port) in ports.iter().enumerate() {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            addresses.push(listener.local_addr()?);
            let target = Target {
                index: to,
                port: *port,
                conditions: conditions.subscribe(),
                pids: Arc::clone(&pids),
            };
            accepting.push(tokio::spawn(target.accept(listener)));
        }
        Ok(Self {
            addresses,
            conditions,
            pids,
            accepting,
        })
    }

    /// Address of the proxy of each process.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Sets the process ids, by index.
    pub(crate) fn follow(&self, pids: Vec<Option<u32>>) {
        *lock(&self.pids) = pids;
    }

    /// Sets the condition of a link; `None` makes it whole.
    pub(crate) fn set(&self, from: usize, to: usize, condition: Option<Condition>) {
        self.conditions.send_modify(|conditions| {
            match condition {
                Some(condition) => conditions.insert((from, to), condition),
                None => conditions.remove(&(from, to)),
            };
        });
    }

    /// Makes all links whole.
    pub(crate) fn heal(&self) {
        self.conditions.send_modify(Conditions::clear);
    }
}

impl Drop for PeerLinks {
    fn drop(&mut self) {
        for accepting in &self.accepting {
            accepting.abort();
        }
    }
}

/// The process behind a proxy.
struct Target {
    index: usize,
    port: SocketAddr,
    conditions: watch::Receiver<Conditions>,
    pids: Arc<Mutex<Vec<Option<u32>>>>,
}

impl Target {
    async fn accept(self, listener: TcpListener) {
        loop {
            let Ok((stream, client)) = listener.accept().await else {
                continue;
            };
            let from = match (client, stream.local_addr()) {
                (SocketAddr::V4(client), Ok(SocketAddr::V4(here))) => {
                    socket_owner::owner(&lock(&self.pids).clone(), client, here)
                }
                _ => None,
            };
            let link = from.map(|from| (from, self.index));
            let (port, conditions) = (self.port, self.conditions.clone());
            tokio::spawn(async move {
                // The end of a connection is no error here.
                let _ = forward(stream, port, Link { link, conditions }).await;
            });
        }
    }
}

/// The link of a connection; unknown if its origin has ended.
#[derive(Clone)]
struct Link {
    link: Option<(usize, usize)>,
    conditions: watch::Receiver<Conditions>,
}

impl Link {
    fn condition(&mut self) -> Option<Condition> {
        let conditions = self.conditions.borrow_and_update();
        conditions.get(&self.link?).copied()
    }

    /// Waits until the link is in such a condition. Never ends if no more changes follow.
    async fn wait(&mut self, is_met: impl Fn(Option<Condition>) -> bool) {
        while !is_met(self.condition()) {
            if self.conditions.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn forward(client: TcpStream, port: SocketAddr, mut link: Link) -> std::io::Result<()> {
    if link.condition() == Some(Condition::Cut) {
        return Ok(());
    }
    let server = TcpStream::connect(port).await?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let there = pump(client_reads, server_writes, link.clone());
    let back = pump(server_reads, client_writes, link.clone());
    tokio::select! {
        () = link.wait(|condition| condition == Some(Condition::Cut)) => Ok(()),
        ended = there => ended,
        ended = back => ended,
    }
}

/// Forwards one direction, and holds it back while the link is stalled.
async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut link: Link,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if bytes == 0 {
            return to.shutdown().await;
        }
        link.wait(|condition| condition != Some(Condition::Stalled))
            .await;
        to.write_all(&buffer[..bytes]).await?;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_is_cut_stalled_and_whole_again() {
        let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = server.local_addr().unwrap();
        let links = PeerLinks::over(&[port, port]).await.unwrap();
        links.follow(vec![Some(std::process::id()), None]);
        let connect = async || {
            let client = TcpStream::connect(links.addresses()[1]).await.unwrap();
            (client, server.accept().await.unwrap().0)
        };
        let (mut client, mut accepted) = connect().await;
        links.set(0, 1, Some(Condition::Stalled));
        client.write_all(b"a").await.unwrap();
        let mut buffer = [0; 1];
        let read = accepted.read_exact(&mut buffer);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(200), read);
        assert!(waited.await.is_err(), "nothing arrives while it is stalled");
        links.set(0, 1, None);
        accepted.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"a");
        links.set(0, 1, Some(Condition::Cut));
        assert_eq!(client.read(&mut buffer).await.unwrap_or(0), 0);
        let mut refused = TcpStream::connect(links.addresses()[1]).await.unwrap();
        assert_eq!(refused.read(&mut buffer).await.unwrap_or(0), 0);
        links.heal();
        let (mut client, mut accepted) = connect().await;
        // A link to the other process concerns this one no more than one of another process does.
        links.set(0, 0, Some(Condition::Cut));
        links.set(1, 1, Some(Condition::Cut));
        accepted.write_all(b"b").await.unwrap();
        client.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"b");
    }
}
