//! How many connections wait in the kernel until a worker accepts them, asked of the kernel (sock_diag(7)) from
//! outside of the server: nothing of it is needed but its process id.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use std::{fs, io};

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

/// One listener's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelQueue {
    /// The address that it listens on.
    pub listener: String,
    /// Connections that wait.
    pub length: u64,
    /// Connections that may wait.
    pub limit: u64,
}

/// Listeners that are told of.
const LISTENERS_MAX: usize = 64;

/// How long the kernel is waited for, which answers at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// The numbers of netlink and sock_diag that are used here (linux/netlink.h, sock_diag.h, inet_diag.h and
/// unix_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_DUMP: u16 = 0x301;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
const LISTENING: u32 = 1 << 10;
const TCP: u8 = 6;
const SHOW_NAME_AND_QUEUE: u32 = 0x11;
const ATTRIBUTE_NAME: u16 = 0;
const ATTRIBUTE_QUEUE: u16 = 4;
const HEADER_BYTES: usize = 16;
const INET_BYTES: usize = 72;
const UNIX_BYTES: usize = 16;

/// The queues of all listeners that process `pid` has open and that are in this process' network namespace; those
/// that share an address as one. Empty where the kernel does not tell.
pub(crate) fn listen_queues(pid: u32) -> Vec<KernelQueue> {
    let inodes = socket_inodes(pid);
    let mut queues: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for family in [AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX] {
        for (inode, found) in listening(family).unwrap_or_default() {
            if inodes.contains(&inode)
                && (queues.len() < LISTENERS_MAX || queues.contains_key(&found.listener))
            {
                let (length, limit) = queues.entry(found.listener).or_default();
                (*length, *limit) = (*length + found.length, *limit + found.limit);
            }
        }
    }
    let queue = |(listener, (length, limit))| KernelQueue { listener, length, limit };
    queues.into_iter().map(queue).collect()
}

/// The sockets that process `pid` has open.
fn socket_inodes(pid: u32) -> HashSet<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return HashSet::new() };
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inode = |link: &str| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    links.filter_map(|link| inode(link.to_str()?)).collect()
}

/// All listening sockets of a family, by their inodes.
fn listening(family: AddressFamily) -> io::Result<Vec<(u64, KernelQueue)>> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let is_unix = family == AddressFamily::UNIX;
    let request = request(family.as_raw() as u8, is_unix);
    sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let (mut found, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        if length == 0 || !read_messages(&buffer[..length], is_unix, &mut found) {
            return Ok(found);
        }
    }
}

/// Asks for all listening sockets of a family.
fn request(family: u8, is_unix: bool) -> Vec<u8> {
    let mut body = Vec::new();
    if is_unix {
        body.extend([family, 0, 0, 0]);
        body.extend([LISTENING, 0, SHOW_NAME_AND_QUEUE, 0, 0].into_iter().flat_map(u32::to_ne_bytes));
    } else {
        body.extend([family, TCP, 0, 0]);
        body.extend(LISTENING.to_ne_bytes());
        body.extend([0; 48]); // Of any address.
    }
    let mut request = Vec::new();
    request.extend(((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
    request.extend([SOCK_DIAG_BY_FAMILY, REQUEST_DUMP].into_iter().flat_map(u16::to_ne_bytes));
    request.extend([0; 8]); // No sequence, no port.
    request.extend(body);
    request
}

/// Takes in what the kernel has answered; `false` if that was the last of it.
fn read_messages(mut bytes: &[u8], is_unix: bool, found: &mut Vec<(u64, KernelQueue)>) -> bool {
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = length as usize;
        let Some(body) = bytes.get(HEADER_BYTES..length) else { return false };
        match kind {
            MESSAGE_ERROR | MESSAGE_DONE => return false,
            _ if is_unix => found.extend(unix_queue(body)),
            _ => found.extend(inet_queue(body)),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

/// `struct inet_diag_msg`
fn inet_queue(body: &[u8]) -> Option<(u64, KernelQueue)> {
    let body = body.get(..INET_BYTES)?;
    let port = u16::from_be_bytes([body[4], body[5]]);
    let address: [u8; 16] = body[8..24].try_into().ok()?;
    let address = match i32::from(body[0]) == i32::from(AddressFamily::INET.as_raw()) {
        true => IpAddr::V4(Ipv4Addr::new(address[0], address[1], address[2], address[3])),
        false => IpAddr::V6(Ipv6Addr::from(address)),
    };
    let listener = SocketAddr::new(address, port).to_string();
    let queue = KernelQueue { listener, length: u32_at(body, 56)?.into(), limit: u32_at(body, 60)?.into() };
    Some((u32_at(body, 68)?.into(), queue))
}

/// `struct unix_diag_msg`, and its attributes.
fn unix_queue(body: &[u8]) -> Option<(u64, KernelQueue)> {
    let inode = u32_at(body, 4)?;
    let (mut name, mut queue) = (None, None);
    let mut rest = body.get(UNIX_BYTES..)?;
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let Some(value) = rest.get(4..length.into()) else { break };
        match kind {
            ATTRIBUTE_NAME => name = Some(value),
            ATTRIBUTE_QUEUE => queue = u32_at(value, 0).zip(u32_at(value, 4)),
            _ => {}
        }
        rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    let name = String::from_utf8_lossy(name?);
    let name = name.trim_end_matches('\0');
    let listener = match name.strip_prefix('\0') {
        Some(name) => format!("unix:@{name}"), // An abstract one.
        None => format!("unix:{name}"),
    };
    let (length, limit) = queue?;
    Some((inode.into(), KernelQueue { listener, length: length.into(), limit: limit.into() }))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    use rustix::net::listen;

    use super::*;

    fn queue_of(listener: &str) -> Option<KernelQueue> {
        listen_queues(std::process::id()).into_iter().find(|queue| queue.listener == listener)
    }

    #[test]
    fn what_waits_on_each_kind_of_socket_is_counted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue }; // A machine may lack IPv6.
            listen(&listener, 9).unwrap();
            let address = listener.local_addr().unwrap();
            let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
            let name = address.to_string();
            assert_eq!(queue_of(&name), Some(KernelQueue { listener: name.clone(), length: 3, limit: 9 }));
            drop((listener.accept().unwrap(), clients));
            assert_eq!(queue_of(&name).unwrap().length, 2);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a socket");
        let listener = UnixListener::bind(&path).unwrap();
        listen(&listener, 5).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let name = format!("unix:{}", path.display());
        assert_eq!(queue_of(&name), Some(KernelQueue { listener: name.clone(), length: 1, limit: 5 }));
        drop((client, listener));
        assert_eq!(queue_of(&name), None);
    }

    #[test]
    fn sockets_of_others_are_not_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = listener.local_addr().unwrap().to_string();
        assert!(queue_of(&name).is_some());
        // A process that has not inherited it.
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        assert!(listen_queues(child.id()).iter().all(|queue| queue.listener != name));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(listen_queues(u32::MAX).is_empty());
    }

    #[test]
    fn an_answer_that_is_cut_is_left_alone() {
        let mut found = Vec::new();
        for length in 0..40_u32 {
            let mut message = length.to_ne_bytes().to_vec();
            message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
            message.extend([0; 30]);
            for is_unix in [false, true] {
                read_messages(&message, is_unix, &mut found);
            }
        }
        assert!(found.is_empty());
        assert_eq!((inet_queue(&[0; 71]), unix_queue(&[0; 16])), (None, None));
    }
}
