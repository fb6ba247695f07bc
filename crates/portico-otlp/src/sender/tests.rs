//! The sender against collectors of its own: good ones, and each way in which one can be bad.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::channel;

use portico_config::{RootSampler, TraceParents, TraceSampler};

use super::*;
use crate::http::read_response;
use crate::queue::{BATCH_SPANS_MAX, BATCHES_MAX};
use crate::span::tests::span;
use crate::tracer::Tracer;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A collector that does what `serve` does with each connection, told its number.
fn collector(serve: impl Fn(usize, TcpStream) + Send + Clone + 'static) -> TraceSettings {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (number, socket) in listener.incoming().enumerate() {
            let (socket, serve) = (socket.unwrap(), serve.clone());
            thread::spawn(move || serve(number, socket));
        }
    });
    settings(port)
}

fn settings(port: u16) -> TraceSettings {
    TraceSettings {
        collector: CollectorUrl { host: "127.0.0.1".to_owned(), port, ..CollectorUrl::default() },
        headers: Vec::new(),
        timeout: Duration::from_millis(300),
        gzip: false,
        certificate: None,
        resource: Vec::new(),
        sampler: TraceSampler { is_parent_based: true, root: RootSampler::AlwaysOn },
        parents: TraceParents::Any,
    }
}

/// Reads one request; `None` at the end of the connection.
fn request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length =
        head.split("Content-Length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// The counters at the end: sent, dropped.
struct Counted(Metrics<'static>);

impl Counted {
    fn totals(&self) -> (u64, u64) {
        (self.0.total(Counter::SpansSent), self.0.total(Counter::SpansDropped))
    }

    fn wait_for(&self, what: &str, is_there: impl Fn((u64, u64)) -> bool) {
        let begun = Instant::now();
        while !is_there(self.totals()) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {:?}", self.totals());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn tracer(settings: &TraceSettings) -> (Tracer, Counted) {
    let metrics = Metrics::private();
    (Tracer::open(settings, metrics).unwrap(), Counted(metrics))
}

#[test]
fn spans_are_sent_together_on_one_connection_and_the_last_at_the_end() {
    let (sender, requests) = channel();
    let settings = collector(move |number, mut socket| {
        while let Some((head, body)) = request(&mut socket) {
            sender.send((number, head, body)).unwrap();
            socket.write_all(OK).unwrap();
        }
    });
    let (tracer, counted) = tracer(&settings);
    for count in [3, 2] {
        (0..count).for_each(|_| tracer.push(&span()));
        let before = counted.totals().0;
        counted.wait_for("all are sent", |(sent, _)| sent == before + count);
    }
    tracer.push(&span());
    let begun = Instant::now();
    drop(tracer);
    assert!(begun.elapsed() < GATHER, "the end waits for no more spans");
    assert_eq!(counted.totals(), (6, 0));
    let received: Vec<_> = requests.try_iter().collect();
    assert_eq!(received.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [0, 0, 0]);
    assert!(received[0].1.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{}", received[0].1);
    assert!(received[0].2.len() > received[1].2.len());
}

#[test]
fn a_connection_that_the_collector_has_closed_costs_no_span() {
    let settings = collector(|_, mut socket| {
        if request(&mut socket).is_some() {
            socket.write_all(OK).unwrap(); // And closes, without having said so.
        }
    });
    let (tracer, counted) = tracer(&settings);
    for number in 1..=2 {
        tracer.push(&span());
        counted.wait_for("it is sent", |(sent, _)| sent == number);
    }
    drop(tracer);
    assert_eq!(counted.totals(), (2, 0));
}

#[test]
fn what_is_compressed_is_the_same_message() {
    let (sender, requests) = channel();
    let plain = collector(move |_, mut socket| {
        while let Some(request) = request(&mut socket) {
            sender.send(request).unwrap();
            socket.write_all(OK).unwrap();
        }
    });
    for gzip in [false, true] {
        let (tracer, counted) = tracer(&TraceSettings { gzip, ..plain.clone() });
        tracer.push(&span());
        drop(tracer);
        assert_eq!(counted.totals(), (1, 0));
    }
    let (first, second) = (requests.recv().unwrap(), requests.recv().unwrap());
    assert!(second.0.contains("Content-Encoding: gzip\r\n") && !first.0.contains("Content-Encoding"));
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(second.1.as_slice()).read_to_end(&mut text).unwrap();
    assert_eq!(text, first.1);
}

#[test]
fn what_the_collector_asks_to_have_later_it_gets_later_and_what_it_refuses_it_gets_once() {
    let statuses = |first: &'static [u8]| {
        let (sender, requests) = channel();
        let settings = collector(move |_, mut socket| {
            let mut responses = [first, OK].into_iter();
            while let (Some(_), Some(response)) = (request(&mut socket), responses.next()) {
                sender.send(Instant::now()).unwrap();
                socket.write_all(response).unwrap();
            }
        });
        let (tracer, counted) = tracer(&settings);
        tracer.push(&span());
        counted.wait_for("it is decided", |totals| totals != (0, 0));
        drop(tracer);
        let times: Vec<Instant> = requests.try_iter().collect();
        (counted.totals(), times)
    };
    let later = b"HTTP/1.1 503 x\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    let (totals, times) = statuses(later);
    assert_eq!((totals, times.len()), ((1, 0), 2));
    assert!(times[1] - times[0] >= Duration::from_secs(1));
    for refusal in [
        &b"HTTP/1.1 400 x\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (totals, times) = statuses(refusal);
        assert_eq!((totals, times.len()), ((0, 1), 1));
    }
    let partial = b"HTTP/1.1 200 x\r\nContent-Type: application/x-protobuf\r\n\
        Content-Length: 5\r\n\r\n\x0a\x03\x08\x63\x12";
    // Malformed: it counts as nothing said.
    assert_eq!(statuses(partial).0, (1, 0));
    let partial = b"HTTP/1.1 200 x\r\nContent-Type: application/x-protobuf\r\n\
        Content-Length: 4\r\n\r\n\x0a\x02\x08\x63";
    assert_eq!(statuses(partial).0, (0, 1), "99 of 1 are all of them");
}

/// What an engine notices of a collector: how long it takes to give spans away, which are more than there is room
/// for, and to end.
fn ordeal(settings: &TraceSettings) -> (u64, u64) {
    let (tracer, counted) = tracer(settings);
    let pushed = (BATCHES_MAX as u64 + 4) * BATCH_SPANS_MAX;
    let mut longest = Duration::ZERO;
    for _ in 0..pushed {
        let begun = Instant::now();
        tracer.push(&span());
        longest = longest.max(begun.elapsed());
    }
    // A wait for the network would be the timeout of 300 ms, or many of them.
    assert!(longest < Duration::from_millis(200), "{longest:?}");
    let begun = Instant::now();
    drop(tracer);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let (sent, dropped) = counted.totals();
    assert_eq!(sent + dropped, pushed, "each span is counted, and once");
    (sent, dropped)
}

#[test]
fn a_collector_that_is_not_there_costs_nothing_but_spans() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(ordeal(&settings(port)).0, 0);
}

#[test]
fn a_collector_that_never_answers_costs_nothing_but_spans() {
    let sleeps = collector(|_, socket| {
        thread::sleep(Duration::from_secs(30));
        drop(socket);
    });
    assert_eq!(ordeal(&sleeps).0, 0);
    // The bound of the end holds also where the timeout is longer.
    assert_eq!(ordeal(&TraceSettings { timeout: Duration::from_secs(60), ..sleeps }).0, 0);
}

#[test]
fn a_collector_that_sends_a_byte_now_and_then_has_no_more_time() {
    let drips = collector(|_, mut socket| {
        for byte in OK.iter().cycle() {
            thread::sleep(Duration::from_millis(50));
            if socket.write_all(&[*byte]).is_err() {
                return;
            }
        }
    });
    assert_eq!(ordeal(&drips).0, 0);
}

#[test]
fn a_collector_that_sends_garbage_without_end_costs_nothing_but_spans() {
    for piece in
        [&b"\0\xff\0\xff"[..], b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 500 x\r\nA: b\r\nA: b\r\n"]
    {
        let floods = collector(move |_, mut socket| {
            let flood = piece.repeat(1000);
            while socket.write_all(&flood).is_ok() {}
        });
        assert_eq!(ordeal(&floods).0, 0);
    }
}

#[test]
fn an_endless_response_delivers_if_its_head_says_so() {
    let endless = collector(|_, mut socket| {
        if request(&mut socket).is_some() {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while socket.write_all(&[0; 4096]).is_ok() {}
        }
    });
    assert!(ordeal(&endless).0 >= BATCH_SPANS_MAX);
}

#[test]
fn https_is_spoken_with_whom_the_certificate_names_and_with_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let [trusted, other] = ["trusted.pem", "other.pem"].map(|name| folder.path().join(name));
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&trusted, certified.cert.pem()).unwrap();
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&other, stranger.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let tls = Arc::new(tls);
    let plain = collector(move |_, socket| {
        let session = rustls::ServerConnection::new(Arc::clone(&tls)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, socket);
        while request(&mut stream).is_some() {
            stream.write_all(OK).unwrap();
        }
    });
    let exported = |host: &str, certificate: &PathBuf| {
        let url = CollectorUrl { tls: true, host: host.to_owned(), ..plain.collector.clone() };
        let (tracer, counted) = tracer(&TraceSettings {
            collector: url,
            certificate: Some(certificate.clone()),
            timeout: Duration::from_secs(5),
            ..plain.clone()
        });
        tracer.push(&span());
        drop(tracer);
        counted.totals()
    };
    assert_eq!(exported("localhost", &trusted), (1, 0));
    assert_eq!(exported("localhost", &other), (0, 1), "an authority that is not trusted");
    assert_eq!(exported("127.0.0.1", &trusted), (0, 1), "a certificate of somebody else");
    let told = told_of(&TraceSettings {
        collector: CollectorUrl { tls: true, host: "localhost".to_owned(), ..plain.collector.clone() },
        certificate: Some(other.clone()),
        timeout: Duration::from_secs(5),
        ..plain.clone()
    });
    assert!(told.contains("TLS handshake") && told.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"), "{told}");
    let missing = TraceSettings {
        collector: CollectorUrl { tls: true, ..plain.collector.clone() },
        certificate: Some(folder.path().join("missing.pem")),
        ..plain.clone()
    };
    let refused = Tracer::open(&missing, Metrics::private()).unwrap_err().to_string();
    assert!(
        refused.contains("missing.pem") && refused.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"),
        "{refused}"
    );
}

/// What is told of a collector that gives no response.
fn told_of(settings: &TraceSettings) -> String {
    let mut collector = Collector::new(settings.clone(), Arc::default()).unwrap();
    collector.post(b"").unwrap_err().to_string()
}

#[test]
fn each_way_to_give_no_response_is_told_apart() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert!(told_of(&settings(port)).starts_with("cannot be reached: Connection refused"));
    let silent = collector(|_, socket| {
        thread::sleep(Duration::from_secs(5));
        drop(socket);
    });
    assert_eq!(told_of(&silent), "has not answered within 0.3 s (OTEL_EXPORTER_OTLP_TIMEOUT)");
    let closes = collector(|_, mut socket| drop(request(&mut socket)));
    assert_eq!(told_of(&closes), "has closed the connection without a response");
    let grpc = collector(|_, mut socket| {
        let _ = socket.write_all(b"\0\0\x12\x04\0\0\0\0\0");
        thread::sleep(Duration::from_secs(5));
    });
    assert!(told_of(&grpc).contains("gRPC"));
}

#[test]
fn a_response_s_problem_is_told_with_what_to_look_at() {
    let problem = |response: &[u8]| problem_of(&read_response(&mut &*response).unwrap());
    let own = b"HTTP/1.1 400 x\r\nContent-Type: application/x-protobuf\r\n\
        Content-Length: 9\r\n\r\n\x08\x03\x12\x05b\na\"d";
    assert_eq!(problem(own), "has answered 400: \"b a\\\"d\"");
    assert!(problem(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n").contains("/v1/traces"));
    assert!(problem(b"HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n").contains("OTEL_EXPORTER_OTLP_HEADERS"));
    let page = b"HTTP/1.1 500 x\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    assert_eq!(problem(page), "has answered 500");
}

#[test]
fn parents_are_those_that_the_settings_name() {
    let value = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let of = |parents, is_trusted| {
        let (mut tracer, _) = tracer(&TraceSettings { parents, ..settings(9) });
        tracer.begin(Some(value), is_trusted)
    };
    for (parents, is_trusted, follows) in [
        (TraceParents::Any, false, true),
        (TraceParents::Any, true, true),
        (TraceParents::Trusted, true, true),
        (TraceParents::Trusted, false, false),
    ] {
        let context = of(parents, is_trusted);
        assert_eq!(context.parent.is_some(), follows);
        assert_eq!(context.own.text().trace_id() == &value[3..35], follows);
        assert!(context.own.is_sampled());
    }
    let (mut tracer, _) = tracer(&settings(9));
    assert_eq!(tracer.begin(Some(b"nonsense"), true).parent, None);
    let unsampled = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let context = tracer.begin(Some(unsampled), true);
    assert!(!context.own.is_sampled() && context.parent.is_some(), "it is passed on, and not sent");
}
