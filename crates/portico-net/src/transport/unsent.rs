//! How much of what a socket has taken the other end has not acknowledged.

use std::ffi::c_int;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// `SIOCOUTQ`, which is `TIOCOUTQ` (asm-generic/ioctls.h; tcp(7), unix(7)).
const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;

/// Bytes in the send queue of `socket`: not sent, or sent and not acknowledged. 0 where the kernel does not tell.
pub(super) fn unsent(socket: BorrowedFd<'_>) -> u64 {
    // SAFETY: the request writes one `int` to the address it is given, and that is what `Getter` provides.
    let queued = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) };
    queued.ok().and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn tells_what_the_other_end_has_no_room_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        assert_eq!(unsent(server.as_fd()), 0);
        server.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(count) = server.write(&[0; 65_536]) {
            written += count as u64;
        }
        let waiting = unsent(server.as_fd());
        assert!(waiting > 0 && waiting < written, "{waiting} of {written}");
        let mut read = vec![0; written as usize];
        client.read_exact(&mut read).unwrap();
        while unsent(server.as_fd()) > 0 {
            std::thread::yield_now(); // The last acknowledgement is on its way.
        }
    }
}
