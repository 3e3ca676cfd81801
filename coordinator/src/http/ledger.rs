//! Budget of a port: what clients may hold at the same time, each of them and all together.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Limit of what clients hold at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Maximum for all clients together.
    pub all: usize,
    /// Maximum for the clients of one address.
    pub each_client: usize,
}

impl Limit {
    /// A limit of `all`, of which the clients of one address may hold three quarters.
    pub const fn of(all: usize) -> Self {
        Self {
            all,
            each_client: all - all / 4,
        }
    }
}

/// Address of a client. All addresses of one IPv6 network of 64 bits are one client.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Client(IpAddr);

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            address => address,
        })
    }
}

impl Client {
    /// Address of the client, or of its network.
    #[cfg(feature = "aws")]
    pub(crate) fn address(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V6(network) if !network.is_loopback() => write!(f, "{network}/64"),
            address => write!(f, "{address}"),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Limit that a client would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// The limit of all clients together.
    All(usize),
    /// The limit of the clients of one address.
    Client(usize),
}

/// Shares of one resource that clients hold.
#[derive(Debug)]
pub(crate) struct Ledger {
    limit: Limit,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    each: HashMap<Client, usize>,
}

/// Part of a resource that a client holds, returned when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    ledger: Arc<Ledger>,
    client: Client,
    amount: usize,
}

impl Ledger {
    /// Creates a ledger in which no client holds anything.
    pub(crate) fn new(limit: Limit) -> Arc<Self> {
        Arc::new(Self {
            limit,
            held: Mutex::default(),
        })
    }

    /// Gives `client` a share of `amount`.
    pub(crate) fn take(self: &Arc<Self>, client: Client, amount: usize) -> Result<Share, Exceeded> {
        let mut share = self.take_none(client);
        share.grow(amount)?;
        Ok(share)
    }

    /// Gives `client` an empty share, which may grow.
    pub(crate) fn take_none(self: &Arc<Self>, client: Client) -> Share {
        Share {
            ledger: Arc::clone(self),
            client,
            amount: 0,
        }
    }

    /// Gives `client` a share of `amount` beyond every limit.
    pub(crate) fn take_beyond(self: &Arc<Self>, client: Client, amount: usize) -> Share {
        self.held().add(client, amount);
        Share {
            ledger: Arc::clone(self),
            client,
            amount,
        }
    }

    /// Returns what `client` holds.
    pub(crate) fn held_by(&self, client: Client) -> usize {
        self.held().each.get(&client).copied().unwrap_or(0)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // No code panics while it holds the lock.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn add(&mut self, client: Client, amount: usize) {
        self.all += amount;
        *self.each.entry(client).or_default() += amount;
    }
}

impl Share {
    /// Adds `amount` to the share, unless it would exceed a limit.
    pub(crate) fn grow(&mut self, amount: usize) -> Result<(), Exceeded> {
        let limit = self.ledger.limit;
        let mut held = self.ledger.held();
        let of_client = held.each.get(&self.client).copied().unwrap_or(0);
        if of_client.saturating_add(amount) > limit.each_client {
            return Err(Exceeded::Client(limit.each_client));
        }
        if held.all.saturating_add(amount) > limit.all {
            return Err(Exceeded::All(limit.all));
        }
        held.add(self.client, amount);
        drop(held);
        self.amount += amount;
        Ok(())
    }

    /// Returns everything that the share holds.
    pub(crate) fn clear(&mut self) {
        let amount = std::mem::take(&mut self.amount);
        let mut held = self.ledger.held();
        held.all -= amount;
        if let Some(of_client) = held.each.get_mut(&self.client) {
            *of_client -= amount;
            if *of_client == 0 {
                held.each.remove(&self.client);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Client {
        Client::from(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_client_holds_no_more_than_its_limit_and_all_no_more_than_theirs() {
        let ledger = Ledger::new(Limit {
            all: 10,
            each_client: 6,
        });
        let (one, two) = (client("192.0.2.1"), client("192.0.2.2"));
        let mut first = ledger.take(one, 4).unwrap();
        assert_eq!(ledger.take(one, 3).unwrap_err(), Exceeded::Client(6));
        first.grow(2).unwrap();
        assert_eq!(first.grow(1), Err(Exceeded::Client(6)));
        let second = ledger.take(two, 4).unwrap();
        assert_eq!(ledger.take(two, 1).unwrap_err(), Exceeded::All(10));
        let beyond = ledger.take_beyond(one, 3);
        assert_eq!(ledger.held_by(one), 9);
        drop((first, beyond));
        assert_eq!((ledger.held_by(one), ledger.held_by(two)), (0, 4));
        drop(second);
        let held = ledger.held();
        assert_eq!((held.all, held.each.len()), (0, 0), "nothing stays behind");
    }

    #[test]
    fn addresses_that_one_host_can_choose_freely_are_one_client() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(client("2001:db8::1").to_string(), "2001:db8::/64");
        assert_eq!(client("::1").to_string(), "::1");
    }
}
