//! Accesses for a log that is not the server's own: those of requests that the application has not answered, which
//! its gateway cannot tell of.

use std::fmt;

use portico_proto::{Peer, Version};

use super::batch::Batch;
use super::plan::{METHOD, Plan, TARGET};
use super::{Reason, Times};

/// A function that is called on the log's thread for each response that the server made itself. It must not block
/// for long: lines wait behind it.
pub struct AccessObserver(Box<dyn FnMut(&ServerResponse<'_>) + Send>);

/// A request that the server has answered, or that has died with its worker.
#[derive(Clone, Copy, Debug)]
pub struct ServerResponse<'a> {
    /// Its method; `None` where what came was no request.
    pub method: Option<&'a [u8]>,
    /// Its target.
    pub target: Option<&'a [u8]>,
    /// Its version.
    pub version: Option<Version>,
    /// Its fields, each with a line end.
    pub fields: &'a [u8],
    /// Who sent it.
    pub peer: Peer,
    /// Status of the response.
    pub status: u16,
    /// Bytes of the response's body that were sent.
    pub body_bytes: u64,
    /// How long it took, in nanoseconds.
    pub nanos: u64,
}

impl AccessObserver {
    /// Has `tell` called, on the log's thread.
    pub fn new(tell: impl FnMut(&ServerResponse<'_>) + Send + 'static) -> Self {
        Self(Box::new(tell))
    }

    /// Tells of those in `batch` that the server has answered.
    pub(super) fn tell(&mut self, batch: &Batch, plan: &Plan) {
        for line in batch.lines(plan).filter(|line| line.entry.reason.is_some_and(Reason::is_servers)) {
            (self.0)(&ServerResponse {
                method: line.text(METHOD),
                target: line.text(TARGET),
                version: line.entry.version,
                fields: plan.fields_at().and_then(|at| line.text(at)).unwrap_or_default(),
                peer: line.entry.peer,
                status: line.entry.status,
                body_bytes: line.entry.body_bytes,
                nanos: line.entry.times.as_ref().map_or(0, Times::whole),
            });
        }
    }
}

impl fmt::Debug for AccessObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use portico_config::AccessLogFormat;

    use super::super::testing::Sample;
    use super::super::{AccessLog, LineConstants, Outputs};
    use super::*;

    #[test]
    fn what_the_server_has_answered_is_told_and_nothing_else() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let observer = {
            let told = Arc::clone(&told);
            AccessObserver::new(move |it| {
                let text =
                    |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                let line = (text(it.method), text(it.target), text(Some(it.fields)), it.status, it.nanos);
                told.lock().unwrap().push(line);
            })
        };
        let outputs = Outputs { observer: Some(observer), ..Outputs::default() };
        let log = AccessLog::open(outputs, &AccessLogFormat::Combined, LineConstants::default()).unwrap();
        let mut sample = Sample::of(b"GET /a HTTP/1.1\r\nHost: x\r\nA: b\r\nA: c\r\n\r\n");
        log.push(&sample.record());
        sample.reason = Some(Reason::WriteTimeout);
        log.push(&sample.record());
        sample.reason = Some(Reason::QueueFull);
        log.push(&sample.record());
        let mut malformed = Sample::of(b"\0");
        (malformed.reason, malformed.times) = (Some(Reason::Refused), None);
        log.push(&malformed.record());
        drop(log);
        let fields = Some("Host: x\r\nA: b\r\nA: c\r\n".to_owned());
        let first = (Some("GET".to_owned()), Some("/a".to_owned()), fields, 200, 2_500_003_000);
        assert_eq!(*told.lock().unwrap(), [first, (None, None, Some(String::new()), 200, 0)]);
    }
}
