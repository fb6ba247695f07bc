//! `redirect://`: every request is told to come again by https.

use std::borrow::Cow;

use portico_proto::Framing;
use portico_proto::http1::is_authority;

use super::{Block, Connection, EngineContext, Phase, ResponsePart, Step, plain_head};

/// Body of the response.
const TEXT: &[u8] = b"308 Permanent Redirect: this server is to be asked by https\n";

/// The port that an https URL need not name.
const USUAL_PORT: &str = "443";

impl Connection {
    /// Answers the request whose head has come, and ends the connection.
    pub(super) fn redirect(&mut self, context: &mut EngineContext) -> Step {
        let Some(request) = self.request().cloned() else { return Step::Close };
        let asked = &request.head;
        // A host that is none is refused before; what this sends to browsers is looked at all the same.
        let host = request.host().filter(|host| is_authority(host)).map(host);
        let Some(host) = host else {
            return self.refuse(400, "the request names no host to redirect to", context);
        };
        let mut location = b"https://".to_vec();
        location.extend_from_slice(host);
        if let Some(port) =
            context.https_port.as_deref().filter(|port| *port != USUAL_PORT && !port.is_empty())
        {
            location.extend_from_slice(b":");
            location.extend_from_slice(port.as_bytes());
        }
        if asked.path().first() != Some(&b'/') {
            location.push(b'/'); // `*`, or an absolute form without a path.
        } else {
            location.extend_from_slice(asked.path());
        }
        if !asked.query().is_empty() {
            location.push(b'?');
            location.extend_from_slice(asked.query());
        }
        // Its body is not read, but a reset must not overtake the response.
        self.framing_lost = !matches!(asked.framing, Framing::None | Framing::Length(0));
        let mut head = plain_head(308, TEXT);
        head.fields.push(b"Location", &location);
        let exchange = self.exchange_or_new();
        exchange.begin(context);
        exchange.is_last = true;
        self.phase = Phase::Calling;
        self.respond(
            ResponsePart::Whole { head: Cow::Owned(head), body: Block::Borrowed(TEXT) },
            false,
            context,
        )
    }
}

/// An authority without its port.
fn host(authority: &[u8]) -> &[u8] {
    let after_bracket = authority.iter().rposition(|byte| *byte == b']').map_or(0, |at| at + 1);
    let colon = authority[after_bracket..].iter().position(|byte| *byte == b':');
    colon.map_or(authority, |at| &authority[..after_bracket + at])
}
