//! What the tests of connections share: a connection with its client, and a clock that is set by hand.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs::File;
use std::hash::RandomState;
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use portico_config::{Parsed, WireProtocol, parse};
use portico_edge::EdgeRouter;
use portico_edge::limit::{CONCURRENCY_WORDS, table_words};
use portico_proto::{Fields, ResponseHead};

use super::*;
use crate::body::Body;
use crate::limits::{LimitMemory, SharedLimits};

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

/// A file of users: Bob, whose password is "secret", with few rounds.
const BOB: &[u8] = b"bob:$2y$04$KBCwKxOzLha2MUKvKBCwKui0nTY/vM1SuWl0DVv6yR50jmX2M4Ya.\n";

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
        Some(extension) if extension == "htpasswd" => Ok(BOB.to_vec()),
        Some(_) => Ok(path.display().to_string().into_bytes()),
        None => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
    };
    let router = EdgeRouter::build(&resolved.config.edge, names_application, &mut read).unwrap();
    let now = fixture.context.now;
    let routes = Routes::new(router, Path::new("/"), &resolved.config, limits(), now);
    fixture.context.routes = Some(Box::new(routes));
    fixture
}

/// `file`, whose pages are in memory.
pub(super) fn warm(mut file: File) -> Arc<File> {
    file.rewind().unwrap();
    std::io::copy(&mut file, &mut std::io::sink()).unwrap();
    Arc::new(file)
}

/// What one worker counts alone.
pub(super) fn limits() -> SharedLimits {
    SharedLimits { memory: Arc::new(OwnMemory::default()), keys: RandomState::new() }
}

#[derive(Debug)]
struct OwnMemory {
    table: Vec<AtomicU64>,
    row: Vec<AtomicU64>,
}

impl Default for OwnMemory {
    fn default() -> Self {
        let words = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self { table: words(table_words(1024)), row: words(CONCURRENCY_WORDS) }
    }
}

impl LimitMemory for OwnMemory {
    fn table(&self) -> &[AtomicU64] {
        &self.table
    }

    fn own_row(&self) -> &[AtomicU64] {
        &self.row
    }

    fn visit_other_rows(&self, _visit: &mut dyn FnMut(&[AtomicU64])) {}

    fn now_nanos(&self) -> u64 {
        1 << 40
    }

    fn is_of_this_process(&self) -> bool {
        true
    }
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
            match self.next_result() {
                WorkResult::Context(change) => change(&mut self.context),
                result => return self.take(result),
            }
        }
    }

    /// Takes the next change for all of what is done off the engine.
    pub(super) fn take_change(&mut self) {
        match self.next_result() {
            WorkResult::Context(change) => change(&mut self.context),
            WorkResult::Exchange(..) | WorkResult::Exchanges(_) => panic!("it is for an exchange"),
        }
    }

    /// The next result of what is done off the engine.
    pub(super) fn next_result(&self) -> WorkResult {
        self.results.recv_timeout(seconds(10)).expect("there is a result")
    }

    /// Takes a result, as the engine does; `None` if nobody waits for it. All that is for some exchange is for
    /// this one.
    pub(super) fn take(&mut self, result: WorkResult) -> Option<Step> {
        match result {
            WorkResult::Exchange(_, served, resume) if self.connection.awaits_work(served) => {
                Some(self.connection.resume(resume, &mut self.context))
            }
            WorkResult::Exchange(..) => None,
            WorkResult::Context(change) => {
                change(&mut self.context);
                None
            }
            WorkResult::Exchanges(finish) => {
                let exchanges = finish(&mut self.context);
                let results = exchanges
                    .into_iter()
                    .map(|(id, served, resume)| self.take(WorkResult::Exchange(id, served, resume)));
                results.last().flatten()
            }
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
