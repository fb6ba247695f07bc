//! The same for a FastCGI connection that carries several requests.

use std::collections::BTreeMap;

use portico_proto::{Event, IoProgress, Limits, Protocol, Session, StreamEvent, StreamIo, fastcgi};

use super::{Request, Transcript, encode_response};

const SETTINGS: fastcgi::Settings = fastcgi::Settings { connections_max: 9, requests_max: 4 };

/// A session and its streams.
pub struct Shared {
    session: Session,
    streams: BTreeMap<u32, Stream>,
}

struct Stream {
    protocol: Protocol,
    io: StreamIo,
    inbox: Vec<u8>,
    /// Which of the transcript's requests it is, once its head has come.
    request: Option<usize>,
}

impl Shared {
    /// Goes on with a connection of which this has been written down.
    pub fn new(mut protocol: Protocol, transcript: &Transcript) -> Self {
        let mut session = fastcgi::Session::new(&SETTINGS);
        let mut streams = BTreeMap::new();
        let connection = protocol.as_fastcgi().expect("only FastCGI is shared");
        if connection.is_in_request() {
            let (number, io) = session.adopt(connection);
            let request = transcript.requests.iter().position(|request| !request.complete);
            let io = StreamIo::Fastcgi(io);
            streams.insert(number, Stream { protocol, io, inbox: Vec::new(), request });
        }
        Self { session: Session::Fastcgi(session), streams }
    }

    pub fn is_at_rest(&self) -> bool {
        self.session.is_at_rest()
    }

    pub fn is_idle(&self) -> bool {
        let Session::Fastcgi(session) = &self.session else { return false };
        session.is_idle()
    }

    /// Answers each request as soon as it is complete, and writes down what comes.
    pub fn take_events(&mut self, bytes: &[u8], limits: &Limits, transcript: &mut Transcript) {
        self.session
            .receive(bytes, std::time::Duration::ZERO, &Limits::default())
            .expect("it is looked at later");
        let mut out = Vec::new();
        while transcript.error.is_none() && !transcript.closed {
            match self.session.next_event(limits) {
                Ok(Some(StreamEvent::Opened(number, stream))) => {
                    let (protocol, io) = (stream.protocol, stream.io);
                    let stream = Stream { protocol, io, inbox: Vec::new(), request: None };
                    assert!(self.streams.insert(number, stream).is_none());
                    assert!(self.streams.len() <= SETTINGS.requests_max as usize);
                }
                Ok(Some(StreamEvent::Body(number))) => self.work(number, limits, transcript),
                Ok(Some(StreamEvent::Reset(number, _))) => {
                    let stream = self.streams.remove(&number).expect("an open one");
                    assert!(stream.io.is_gone());
                    self.session.forget(number, false);
                }
                Ok(Some(StreamEvent::Room(number) | StreamEvent::Arriving(number, _))) => {
                    panic!("{number} has not wanted room, and its records are told of as they come")
                }
                Ok(None) => break,
                Err(violation) => {
                    let portico_proto::ProtocolViolation::Fastcgi(error) = violation else {
                        panic!("{violation}")
                    };
                    transcript.error = Some(error);
                    assert!(self.session.is_closed());
                }
            }
            out.clear();
            self.session.output(&mut out);
            transcript.closed = transcript.error.is_none() && self.session.is_closed();
        }
        self.session.output(&mut out);
        transcript.closed = transcript.error.is_none() && self.session.is_closed();
    }

    fn work(&mut self, number: u32, limits: &Limits, transcript: &mut Transcript) {
        let stream = self.streams.get_mut(&number).expect("an open one");
        let mut buffer = [0; 100];
        while let IoProgress::Bytes(count) = stream.io.read(&mut buffer) {
            stream.inbox.extend_from_slice(&buffer[..count]);
            let mut input = &stream.inbox[..];
            loop {
                match stream.protocol.next_event(&mut input, limits) {
                    Ok(Some(Event::Head(head))) => {
                        stream.request = Some(transcript.requests.len());
                        transcript.requests.push(Request::new(&head));
                    }
                    Ok(Some(Event::Body(bytes))) => {
                        let request = stream.request.expect("a head comes first");
                        transcript.requests[request].body.extend_from_slice(bytes);
                    }
                    Ok(Some(Event::End)) => {
                        transcript.requests[stream.request.expect("a head comes first")].complete = true;
                        let response = encode_response(&mut stream.protocol);
                        assert!(stream.protocol.response_complete() && !stream.protocol.can_keep_alive());
                        assert_eq!(stream.io.write(&response), IoProgress::Bytes(response.len()));
                        self.streams.remove(&number);
                        self.session.forget(number, true);
                        return;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        transcript.error = Some(error);
                        return;
                    }
                }
            }
            let used = stream.inbox.len() - input.len();
            stream.inbox.drain(..used);
        }
    }
}
