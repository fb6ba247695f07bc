//! The headers of responses: the one place where the server adds any to what the application, or the server itself
//! ([`Reply`](super::Reply)), has given.
//!
//! Every head passes here, whatever its status and its protocol: refusals, 304 and those to gateways, too. So a
//! rule for headers has its place in [`Connection::send_head`], which has the request, its response's head and the
//! context. The protocols add nothing but what frames the message on their wire: Content-Length and, in HTTP/1,
//! Transfer-Encoding and Connection. Interim responses (100, 103) have no head of their own and get nothing.

use std::borrow::Cow;
use std::sync::Arc;

use portico_edge::FlatRoute;
use portico_log::{REQUEST_ID_FIELD, RequestId};
use portico_proto::{AddedFields, Fields, Part, ResponseHead};

use super::exchange::RequestExchange;
use super::{Connection, EngineContext, Routes};

impl Connection {
    /// Sends the head of the present response into `out`: with all that is added to it, and noted for the log.
    #[inline]
    pub(super) fn send_head(
        &mut self,
        head: Cow<'_, ResponseHead>,
        context: &mut EngineContext,
        out: &mut Vec<u8>,
    ) {
        let close = self.closes(context);
        let rules = match &context.routes {
            Some(routes) => self.header_rules(routes),
            None => None,
        };
        let head = match &rules {
            Some(rules) => rules.apply(head),
            None => head,
        };
        let head = match &mut self.exchange {
            Some(exchange) => exchange.note_head(head, rules.as_ref(), context),
            None => head,
        };
        // A gateway adds its own to what its client gets.
        let mut added = match self.protocol.is_gateway() {
            true => AddedFields::NONE,
            false => context.added_fields().beside(&head.fields),
        };
        if let Some(rules) = &rules {
            rules.withhold(&mut added);
        }
        self.protocol.send(Part::Head { head: &head, close, added: &added }, out);
    }
}

/// What a route does to the headers of one response.
struct HeaderRules {
    /// It has some.
    route: Arc<FlatRoute>,
    /// Whether the request has come by https.
    is_https: bool,
}

impl HeaderRules {
    /// `head` with what is set, without what is taken out.
    fn apply<'h>(&self, head: Cow<'h, ResponseHead>) -> Cow<'h, ResponseHead> {
        let (plan, mut head) = (&self.route.headers, head.into_owned());
        let mut fields = Fields::new();
        for (name, value) in head.fields.iter().filter(|(name, _)| !plan.removes(name)) {
            fields.push(name, value);
        }
        for (name, value) in plan.added(self.is_https, |name| head.fields.get(name.as_bytes()).is_some()) {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        head.fields = fields;
        Cow::Owned(head)
    }

    /// Takes out of `added` what is not to be there. What has been set is not among it, and no rule names Date.
    fn withhold(&self, added: &mut AddedFields) {
        if self.route.headers.removes(b"server") {
            added.server = "";
        }
    }
}

impl Connection {
    /// The rules of the present request's route; of one that was refused before it had a route, those that hold
    /// for all. `None` if there are none.
    fn header_rules(&self, routes: &Routes) -> Option<HeaderRules> {
        let route = self.present_route(routes);
        if route.headers.is_empty() {
            return None;
        }
        let listener = &self.client.listener;
        let is_https = self.request().map_or(listener.tls, |request| request.is_https());
        Some(HeaderRules { route: Arc::clone(route), is_https })
    }
}

impl RequestExchange {
    /// Notes what the access log is to tell of the response, and adds the request's id if it is to have that.
    #[inline]
    fn note_head<'h>(
        &mut self,
        mut head: Cow<'h, ResponseHead>,
        rules: Option<&HeaderRules>,
        context: &EngineContext,
    ) -> Cow<'h, ResponseHead> {
        self.outcome.status = Some(head.status);
        if let Some(log) = &context.access_log {
            log.note_response(&head, &mut self.outcome.fields);
        }
        if context.config.telemetry.request_id
            && self.id != RequestId::None
            && head.fields.get(REQUEST_ID_FIELD).is_none()
            && rules.is_none_or(|rules| !rules.route.headers.removes(REQUEST_ID_FIELD))
            && let Some(id) = self.head().and_then(|asked| self.id.text(asked))
        {
            head.to_mut().fields.push(b"X-Request-Id", id);
        }
        head
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use portico_config::WireProtocol;
    use portico_proto::{Fields, ResponseHead};

    use super::super::tests::{Fixture, GET, fixture, fixture_of};
    use crate::connection::{Block, Deadline, Reply, ResponsePart, Step};

    /// What one response of this status, to one request, has of each header that the server may add, beside these
    /// of the application's.
    fn respond(fixture: &mut Fixture<std::os::unix::net::UnixStream>, status: u16, own: &[(&[u8], &[u8])]) {
        fixture.begin_call();
        let mut fields = Fields::new();
        own.iter().for_each(|(name, value)| fields.push(name, value));
        let head = ResponseHead { status, fields, length: Some(0), ..ResponseHead::default() };
        fixture.respond(ResponsePart::Whole { head: Cow::Owned(head), body: Block::Borrowed(b"") });
    }

    fn count(response: &[u8], name: &str) -> usize {
        let text = String::from_utf8_lossy(response).to_ascii_lowercase();
        text.lines().filter(|line| line.starts_with(&format!("{name}:"))).count()
    }

    #[test]
    fn every_status_gets_what_is_added_and_the_applications_headers_stand() {
        for status in [200, 204, 304, 404, 500] {
            for own in [&[][..], &[(&b"date"[..], &b"d"[..]), (b"SERVER", b"s"), (b"x-request-id", b"i")]] {
                let mut fixture = fixture(&["--request-id"]);
                assert_eq!(fixture.receive(GET), Step::Ready);
                respond(&mut fixture, status, own);
                let response = fixture.sent();
                let counts = ["date", "server", "x-request-id"].map(|name| count(&response, name));
                assert_eq!(counts, [1; 3], "{status} {}", String::from_utf8_lossy(&response));
            }
        }
    }

    /// Those that are given without a call, for whatever reason.
    #[test]
    fn the_servers_own_responses_get_it_too() {
        let mut fixture = fixture(&["--queue-timeout", "3"]);
        assert_eq!(fixture.receive(GET), Step::Ready);
        assert_eq!(fixture.pass(Deadline::Queue), Step::Keep);
        let unavailable = fixture.sent();
        assert_eq!(fixture.receive(GET), Step::Ready);
        fixture.begin_call();
        fixture.respond(ResponsePart::Own(Reply::ApplicationFailed));
        let failed = fixture.sent();
        assert_eq!(fixture.receive(b"GET / HTTP/1.1\r\n\r\n"), Step::Again);
        let refused = fixture.sent();
        for (response, status) in [(unavailable, "503"), (failed, "500"), (refused, "400")] {
            let text = String::from_utf8_lossy(&response);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert_eq!(["date", "server"].map(|name| count(&response, name)), [1; 2], "{text}");
            assert_eq!(count(&response, "retry-after"), usize::from(status == "503"), "{text}");
        }
    }

    #[test]
    fn gateways_add_date_and_server_themselves() {
        let mut fixture = fixture_of(WireProtocol::Scgi, &["--request-id"]);
        let request = b"43:CONTENT_LENGTH\x000\0SCGI\x001\0REQUEST_METHOD\0GET\0,";
        assert_eq!(fixture.receive(request), Step::Ready);
        respond(&mut fixture, 200, &[]);
        let response = fixture.sent();
        let counts = ["status", "date", "server", "x-request-id"].map(|name| count(&response, name));
        assert_eq!(counts, [1, 0, 0, 1], "{}", String::from_utf8_lossy(&response));
    }
}
