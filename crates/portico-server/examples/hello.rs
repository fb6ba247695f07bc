//! The engine with a fixed response and no Python: what the data plane costs by itself.
//!
//! `cargo run --release -p portico-server --example hello -- --bind 127.0.0.1:8000 --threads 4`

use std::error::Error;
use std::sync::Arc;
use std::thread;

use portico_config::{Parsed, parse};
use portico_net::Listener;
use portico_proto::{Fields, ResponseHead};
use portico_server::{Application, Lending, Recording, Request, Responder};

struct Hello {
    head: ResponseHead,
}

const BODY: &[u8] = b"Hello, world!";

impl Application for Hello {
    fn call(&self, _request: Request, responder: Responder) {
        responder.respond(&self.head, BODY);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let parsed = parse(std::env::args_os().skip(1), &|name| std::env::var_os(name))?;
    let Parsed::Run(resolved) = parsed else {
        return Err("only settings are understood here".into());
    };
    let config = Arc::new(resolved.config);
    let mut fields = Fields::new();
    fields.push(b"Content-Type", b"text/plain");
    let length = Some(BODY.len() as u64);
    let head =
        ResponseHead { status: 200, reason: b"OK".to_vec(), fields, length, ..ResponseHead::default() };
    let listeners = Listener::bind_all(&config)?;
    let recording = Recording::private();
    let lending = Lending::new(Arc::clone(&config), recording, Arc::new(Hello { head }), None, None, None)?;
    lending.listen(listeners)?;
    let threads: Vec<_> = (0..config.threads)
        .map(|_| {
            let lending = Arc::clone(&lending);
            thread::spawn(move || lending.run_thread())
        })
        .collect();
    lending.run_standby();
    threads.into_iter().try_for_each(|thread| thread.join()).map_err(|_| "a thread has failed")?;
    Ok(())
}
