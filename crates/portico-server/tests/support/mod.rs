//! A server in this process around an application written in Rust, and a client that reads responses strictly.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use portico_config::{Config, LogTarget, Parsed, parse};
use portico_log::{AccessLog, Destination, LineConstants, Outputs};
use portico_metrics::Metrics;
use portico_net::Listener;
use portico_proto::{Fields, ResponseHead};
use portico_server::{Application, Lending, Recording, Sharing};

pub struct TestServer {
    pub address: SocketAddr,
    pub lending: Arc<Lending>,
    threads: Vec<JoinHandle<()>>,
}

impl TestServer {
    /// Serves `application` on a free port with these further arguments.
    pub fn start(application: impl Application, arguments: &[&str]) -> Self {
        Self::start_around(application, arguments, |run| run())
    }

    /// The same, with each application thread run by `around`.
    pub fn start_around(
        application: impl Application,
        arguments: &[&str],
        around: impl Fn(&dyn Fn()) + Clone + Send + 'static,
    ) -> Self {
        let config = config(arguments);
        let listeners = Listener::bind_all(&config).unwrap();
        let server = Self::start_silent(application, (config, None), &listeners, around);
        server.lending.listen(listeners).unwrap();
        server
    }

    /// The same without listening to `listeners`, perhaps as one of several.
    pub fn start_silent(
        application: impl Application,
        (config, sharing): (Arc<Config>, Option<Sharing>),
        listeners: &[Listener],
        around: impl Fn(&dyn Fn()) + Clone + Send + 'static,
    ) -> Self {
        let address = listeners[0].url().trim_start_matches("http://").parse().unwrap();
        let access_log = config.access_log.as_ref().map(|target| {
            let LogTarget::File(path) = target else { panic!("tests log to files") };
            let outputs = Outputs { lines: Some(Destination::File(path.clone())), ..Outputs::default() };
            AccessLog::open(outputs, &config.access_log_format, LineConstants::default()).unwrap()
        });
        let recording = Recording { access_log, ..Recording::private() };
        let lending =
            Lending::new(Arc::clone(&config), recording, Arc::new(application), None, None, sharing).unwrap();
        let mut threads: Vec<_> = (0..config.threads)
            .map(|_| {
                let (lending, around) = (Arc::clone(&lending), around.clone());
                thread::spawn(move || around(&|| lending.run_thread()))
            })
            .collect();
        let standby = Arc::clone(&lending);
        threads.push(thread::spawn(move || standby.run_standby()));
        Self { address, lending, threads }
    }

    /// Starts one application thread more.
    pub fn add_thread(&mut self) {
        let lending = Arc::clone(&self.lending);
        self.threads.push(thread::spawn(move || lending.run_thread()));
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Stops at once and lets calls that still run end by themselves.
    pub fn abandon(self) {
        self.lending.stop();
    }

    /// Stops gracefully and returns what has happened.
    pub fn stop(self) -> Metrics<'static> {
        self.lending.drain(Duration::from_secs(10));
        self.join()
    }

    /// Waits until it has stopped and returns what has happened.
    pub fn join(self) -> Metrics<'static> {
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.lending.close().expect("the engine lies in the slot at the end")
    }
}

pub fn config(arguments: &[&str]) -> Arc<Config> {
    let arguments = ["--bind", "127.0.0.1:0"].iter().chain(arguments).map(OsString::from);
    let Ok(Parsed::Run(resolved)) = parse(arguments, &|_| None) else {
        panic!("the arguments of a test are valid");
    };
    Arc::new(resolved.config)
}

pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn get(&mut self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        self.respond()
    }

    /// The next response, which must have a Content-Length: its status line and its body, joined by a blank.
    pub fn respond(&mut self) -> String {
        let head_end =
            self.fill_until(|bytes| bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4));
        let head = String::from_utf8(self.buffer.drain(..head_end).collect()).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let length: usize = length.parse().unwrap();
        self.fill_until(|bytes| (bytes.len() >= length).then_some(length));
        let body: Vec<u8> = self.buffer.drain(..length).collect();
        format!("{} {}", head.lines().next().unwrap(), String::from_utf8_lossy(&body))
    }

    /// Whether the server has closed or reset the connection, having sent no more than has been read.
    pub fn is_closed(&mut self) -> bool {
        self.stream
            .read(&mut [0; 1])
            .map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |n| n == 0)
    }

    /// Everything until the server closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let _ = self.stream.read_to_end(&mut self.buffer);
        std::mem::take(&mut self.buffer)
    }

    fn fill_until(&mut self, found: impl Fn(&[u8]) -> Option<usize>) -> usize {
        loop {
            if let Some(at) = found(&self.buffer) {
                return at;
            }
            let mut piece = [0; 4096];
            let count = self.stream.read(&mut piece).expect("a response in time");
            assert!(count > 0, "closed in the middle of {:?}", String::from_utf8_lossy(&self.buffer));
            self.buffer.extend_from_slice(&piece[..count]);
        }
    }
}

/// A head that announces `length` bytes of text.
pub fn head(length: usize) -> ResponseHead {
    let mut fields = Fields::new();
    fields.push(b"Content-Type", b"text/plain");
    ResponseHead {
        status: 200,
        reason: b"OK".to_vec(),
        fields,
        length: Some(length as u64),
        ..ResponseHead::default()
    }
}
