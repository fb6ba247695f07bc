//! What the tests of connections share: a connection with its client, and a clock that is set by hand.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use portico_config::{Parsed, WireProtocol, parse};
use portico_edge::EdgeRouter;
use portico_proto::{Fields, ResponseHead};

use super::*;
use crate::body::Body;

/// A connection as the engine holds it, and the client's end of it.
pub(super) struct Fixture<S> {
    pub(super) connection: Connection,
    pub(super) context: EngineContext,
    pub(super) client: S,
    /// What has been done off the engine.
    results: Receiver<WorkResult>,
}

pub(super) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
pub(super) const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
pub(super) const INPUT: Event =
    Event { token: 0, readable: true, writable: false, read_closed: false, failed: false };
pub(super) const ROOM: Event =
    Event { token: 0, readable: false, writable: true, read_closed: false, failed: false };

pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) fn fixture(arguments: &[&str]) -> Fixture<UnixStream> {
    fixture_of(WireProtocol::Http, arguments)
}

/// The same for a client of this protocol.
pub(super) fn fixture_of(protocol: WireProtocol, arguments: &[&str]) -> Fixture<UnixStream> {
    let (ours, client) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    client.set_nonblocking(true).unwrap();
    Fixture::around(protocol, Transport::Unix(ours.into()), client, arguments)
}

pub(super) fn tcp_fixture() -> Fixture<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    client.set_read_timeout(Some(seconds(5))).unwrap();
    Fixture::around(WireProtocol::Http, Transport::Tcp(ours.into()), client, &[])
}

/// The same with these routes, as they stand in PORTICO_ROUTE; files that they name hold their names.
pub(super) fn routed(protocol: WireProtocol, routes: &str) -> Fixture<UnixStream> {
    routed_beside(protocol, routes, true)
}

/// The same; whether an application takes what no route does.
pub(super) fn routed_beside(
    protocol: WireProtocol,
    routes: &str,
    names_application: bool,
) -> Fixture<UnixStream> {
    let mut fixture = fixture_of(protocol, &[]);
    let variable = |name: &str| (name == "PORTICO_ROUTE").then(|| OsString::from(routes));
    let Ok(Parsed::Run(resolved)) = parse(["app:app".into()].into_iter(), &variable) else {
        panic!("the routes of a test are valid: {routes}");
    };
    let mut read = |path: &Path| match path.extension() {
        Some(_) => Ok(path.display().to_string().into_bytes()),
        None => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
    };
    let router = EdgeRouter::build(&resolved.config.edge, names_application, &mut read).unwrap();
    let routes = Routes::new(router, Path::new("/"), &resolved.config, fixture.context.now);
    fixture.context.routes = Some(Box::new(routes));
    fixture
}

/// `file`, whose pages are in memory.
pub(super) fn warm(mut file: File) -> Arc<File> {
    file.rewind().unwrap();
    std::io::copy(&mut file, &mut std::io::sink()).unwrap();
    Arc::new(file)
}

impl<S: Read + Write> Fixture<S> {
    pub(super) fn around(
        protocol: WireProtocol,
        transport: Transport,
        client: S,
        arguments: &[&str],
    ) -> Self {
        let Ok(Parsed::Run(resolved)) = parse(arguments.iter().map(OsString::from), &|_| None) else {
            panic!("the arguments of a test are valid");
        };
        let mut context = EngineContext::new(Arc::new(resolved.config), Recording::private(), Instant::now());
        let (post, results) = channel();
        let post = Mutex::new(post);
        context.work.set_poster(Arc::new(move |result| _ = post.lock().unwrap().send(result)));
        let server = Arc::new(Server { protocol, ..Server::default() });
        let connection = Connection::new(transport, Peer::Unix, server, &context);
        Self { connection, context, client, results }
    }

    /// The client sends `bytes`, and the reactor tells of it.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Step {
        self.client.write_all(bytes).unwrap();
        self.connection.handle_event(INPUT, &mut self.context)
    }

    /// Takes the next result for an exchange of what is done off the engine, as the engine does, and the changes
    /// for all before it; `None` if nobody waits for it.
    pub(super) fn take_result(&mut self) -> Option<Step> {
        loop {
            match self.results.recv_timeout(seconds(10)).expect("there is a result") {
                WorkResult::Exchange(_, served, resume) if self.connection.awaits_work(served) => {
                    return Some(self.connection.resume(resume, &mut self.context));
                }
                WorkResult::Exchange(..) => return None,
                WorkResult::Context(change) => change(&mut self.context),
            }
        }
    }

    /// Takes the next change for all of what is done off the engine.
    pub(super) fn take_change(&mut self) {
        match self.results.recv_timeout(seconds(10)).expect("there is a result") {
            WorkResult::Context(change) => change(&mut self.context),
            WorkResult::Exchange(..) => panic!("it is for an exchange"),
        }
    }

    /// Everything that has been sent to the client and not been read by it.
    pub(super) fn sent(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.client.read_to_end(&mut bytes);
        bytes
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.context.now += time;
    }

    /// Which deadline is set, and how far away it is.
    pub(super) fn due(&self) -> Option<(Deadline, Duration)> {
        self.connection.due().map(|(deadline, at)| (deadline, at.saturating_duration_since(self.context.now)))
    }

    /// The clock reaches the deadline that is set, which is this one.
    pub(super) fn pass(&mut self, expected: Deadline) -> Step {
        let (deadline, at) = self.connection.due().expect("a deadline is set");
        assert_eq!(deadline, expected);
        self.context.now = self.context.now.max(at);
        self.connection.handle_timeout(deadline, &mut self.context)
    }

    /// A thread takes the request.
    pub(super) fn begin_call(&mut self) -> Body {
        self.connection.begin_call(1, &mut self.context, || {}).expect("a request waits").body
    }

    pub(super) fn respond(&mut self, response: ResponsePart<'_>) -> Step {
        self.connection.respond(response, false, &mut self.context)
    }

    /// Begins a response of `length` bytes with `block`.
    pub(super) fn start(&mut self, length: Option<u64>, block: &[u8]) -> Step {
        let head = ResponseHead { status: 200, fields: Fields::new(), length, ..ResponseHead::default() };
        let flow = Arc::default();
        self.respond(ResponsePart::Start { head: Cow::Owned(head), block: Block::Borrowed(block), flow })
    }

    /// One whole exchange, after which the connection is kept.
    pub(super) fn exchange(&mut self) {
        assert_eq!(self.receive(GET), Step::Ready);
        self.begin_call();
        assert_eq!(self.start(Some(2), b"ok"), Step::Keep);
        assert_eq!(self.respond(ResponsePart::Finish), Step::Keep);
        assert!(self.connection.is_idle());
    }
}

/// Of these two there are 10,000 in a worker with as many idle clients.
const IDLE_BYTES_MAX: usize = 320;

/// What an idle client costs beside its place in the table: the connection and who it is. The exchange has gone.
#[test]
fn an_idle_connection_is_small() {
    let mut fixture = fixture(&[]);
    fixture.exchange();
    assert!(fixture.connection.exchange.is_none());
    assert!(fixture.connection.io.inbox.capacity() == 0 && fixture.connection.io.outbox.is_unused());
    let bytes = size_of::<Connection>() + size_of::<Client>();
    assert!(bytes <= IDLE_BYTES_MAX, "{bytes}: {} and {}", size_of::<Connection>(), size_of::<Client>());
}
