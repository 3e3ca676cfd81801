//! The process that has the other end of a connection on this machine.
//!
//! The kernel is asked for one socket (`sock_diag(7)`). The list in `/proc/net/tcp` has the same,
//! but reading it takes milliseconds once thousands of connections have been closed.

use std::io::{Read as _, Write as _};
use std::net::SocketAddrV4;
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const IPPROTO_TCP: u8 = 6;

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// Bytes of the header and `struct inet_diag_req_v2`.
const REQUEST_BYTES: usize = HEADER_BYTES + 56;

/// Place of the inode in the answer, the last field of `struct inet_diag_msg`.
const INODE_AT: usize = HEADER_BYTES + 68;

/// Index of the process in `pids` that has the socket from `local` to `remote`.
pub(crate) fn owner(
    pids: &[Option<u32>],
    local: SocketAddrV4,
    remote: SocketAddrV4,
) -> Option<usize> {
    let inode = inode_of(local, remote).ok()??;
    let socket = format!("socket:[{inode}]");
    pids.iter()
        .position(|pid| pid.is_some_and(|pid| has_file(pid, &socket)))
}

fn has_file(pid: u32, name: &str) -> bool {
    let Ok(files) = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else {
        return false;
    };
    let mut links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    links.any(|link| link.as_os_str() == name)
}

/// Inode of the socket from `local` to `remote`. `None` if there is none any more.
fn inode_of(local: SocketAddrV4, remote: SocketAddrV4) -> std::io::Result<Option<u32>> {
    let protocol = Protocol::from(NETLINK_SOCK_DIAG);
    let mut socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(protocol))?;
    socket.write_all(&request(local, remote))?;
    let mut answer = [0; 512];
    let bytes = socket.read(&mut answer)?;
    let answer = &answer[..bytes];
    // Anything else is an error: there is no such socket.
    let is_found = answer.get(4..6) == Some(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    let inode = answer.get(INODE_AT..INODE_AT + 4).filter(|_| is_found);
    Ok(inode.map(|inode| u32::from_ne_bytes(inode.try_into().expect("four bytes"))))
}

/// A request for one socket. Numbers are in the order of this machine, addresses and ports in that
/// of the network.
fn request(local: SocketAddrV4, remote: SocketAddrV4) -> Vec<u8> {
    let mut request = Vec::with_capacity(REQUEST_BYTES);
    request.extend((REQUEST_BYTES as u32).to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and port of the sender.
    request.extend([0; 8]);
    request.extend([AF_INET, IPPROTO_TCP, 0, 0]);
    // In any state.
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(local.port().to_be_bytes());
    request.extend(remote.port().to_be_bytes());
    for address in [local, remote] {
        request.extend(address.ip().octets());
        request.extend([0; 12]);
    }
    // On any interface, with any cookie.
    request.extend([0; 4]);
    request.extend([0xff; 8]);
    debug_assert_eq!(request.len(), REQUEST_BYTES);
    request
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        let SocketAddr::V4(address) = address else {
            panic!("{address} is not of version 4");
        };
        address
    }

    #[test]
    fn the_process_of_a_connection_is_found_while_it_has_it() {
        let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = v4(server.local_addr().unwrap());
        let client = TcpStream::connect(port).unwrap();
        let address = v4(client.local_addr().unwrap());
        let this = Some(std::process::id());
        assert_eq!(owner(&[None, Some(1), this], address, port), Some(2));
        assert_eq!(owner(&[None, Some(1)], address, port), None);
        drop(client);
        drop(server);
        assert_eq!(owner(&[this], address, port), None);
    }
}
