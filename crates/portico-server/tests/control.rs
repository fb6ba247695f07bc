//! Clients that come without a listener, and what a server that is about to stop says to its clients.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

#[expect(dead_code, reason = "each test uses its part")]
mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use portico_net::Server;
use portico_server::{Application, Request, Responder};
use support::{TestServer, head};

/// Answers with the name of the server that it was asked as.
struct Named;

impl Application for Named {
    fn call(&self, request: Request, responder: Responder) {
        let name = request.context.client.listener.name.as_bytes();
        responder.respond(&head(name.len()), name);
    }
}

#[test]
fn a_client_over_a_socket_pair_is_served_as_one_of_the_server_that_is_named() {
    let server = TestServer::start(Named, &["--threads", "1"]);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let named = Arc::new(Server { name: "named".into(), port: "80".into(), ..Server::default() });
    server.lending.adopt(ours, named).unwrap();
    theirs.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    theirs.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\nnamed"), "{response}");
    server.stop();
}

#[test]
fn an_announced_close_ends_each_connection_with_its_response_and_accepting_goes_on() {
    let server = TestServer::start(Named, &["--threads", "1"]);
    let mut kept = server.connect();
    assert_eq!(kept.get("/"), "HTTP/1.1 200 OK 127.0.0.1");
    server.lending.announce_close();
    let mut new = server.connect();
    for client in [&mut kept, &mut new] {
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let response = String::from_utf8(client.rest()).unwrap();
        assert!(response.contains("\r\nConnection: close\r\n"), "{response}");
    }
    server.stop();
}
