//! What becomes of a request: decided at its head, before its body, the queue and a thread.
//!
//! A router is pure: it sees the head and its sender, does no I/O and keeps nothing. A listener without one passes
//! every request to the application, at no cost but the question. There are two: that of `redirect://`, and the
//! configuration's routes.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use portico_config::WireProtocol;
use portico_edge::path::encode;
use portico_edge::{FlatRoute, HeaderPlan};
use portico_log::Reason;
use portico_metrics::Counter;
use portico_proto::http1::is_authority;
use portico_proto::{Framing, RequestHead};

use super::exchange::RequestExchange;
use super::static_files::FileRequest;
use super::{Connection, EngineContext, Phase, Reply, ResponsePart, Routes, Step};
use crate::client::RequestContext;

/// Decides what becomes of requests.
pub(super) trait Router: fmt::Debug + Send + Sync {
    /// What becomes of `request`. Called on the thread that drives the engine: it must not block.
    fn route(&self, request: &RequestContext) -> Decision;
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Decision {
    /// The application answers it.
    Application,
    /// The server answers it at once, and closes the connection: the request's body is not read.
    Reply(Reply),
    /// A route decides.
    Routed(Box<Routed>),
}

/// What a route makes of a request.
#[derive(Debug)]
pub(crate) struct Routed {
    /// Its headers go into the response, whoever makes that.
    pub route: Arc<FlatRoute>,
    /// The server's response in place of the application's, which a guard of the route may have refused. The
    /// connection is kept unless a body is unread.
    pub reply: Option<Reply>,
    /// The file that responds, or what there is in its place.
    pub file: Option<FileRequest>,
    /// Who the request is from is being found out.
    pub awaits_login: bool,
    /// The decoded path that the application gets in place of what was sent.
    pub rewritten: Option<Vec<u8>>,
}

impl Routed {
    /// Whether the server refuses the request.
    pub(super) fn is_refused(&self) -> bool {
        self.reply.as_ref().is_some_and(Reply::is_refusal)
    }

    /// Whether the application may get the request.
    fn may_be_for_application(&self) -> bool {
        self.reply.is_none() && (self.file.is_none() || FileRequest::may_be_for_application(&self.route))
    }
}

/// The router of `redirect://`: every request is told to come again by https.
#[derive(Debug, Default)]
pub(crate) struct HttpsRedirect {
    /// The port of the first listener where TLS is spoken.
    pub port: Option<String>,
}

/// The port that an https URL need not name.
const DEFAULT_HTTPS_PORT: &str = "443";

impl Router for HttpsRedirect {
    fn route(&self, request: &RequestContext) -> Decision {
        let head = &request.head;
        // A host that is none is refused before; what this sends to browsers is looked at all the same.
        let Some(host) = request.host().filter(|host| is_authority(host)).map(host) else {
            return Decision::Reply(Reply::Refused(400, "the request names no host to redirect to".into()));
        };
        let mut location = b"https://".to_vec();
        location.extend_from_slice(host);
        if let Some(port) =
            self.port.as_deref().filter(|port| *port != DEFAULT_HTTPS_PORT && !port.is_empty())
        {
            location.extend_from_slice(b":");
            location.extend_from_slice(port.as_bytes());
        }
        if head.path().first() != Some(&b'/') {
            location.push(b'/'); // `*`, or an absolute form without a path.
        } else {
            location.extend_from_slice(head.path());
        }
        if !head.query().is_empty() {
            location.push(b'?');
            location.extend_from_slice(head.query());
        }
        Decision::Reply(Reply::Redirect(location))
    }
}

impl Connection {
    /// Has the router of the listener, if there is one, decide what becomes of the request whose head has come.
    #[inline]
    pub(super) fn route(&self, context: &mut EngineContext) -> Decision {
        let Some(request) = self.request() else { return Decision::Application };
        match self.client.listener.protocol {
            WireProtocol::Redirect => context.https_redirect.route(request),
            WireProtocol::Http | WireProtocol::Uwsgi | WireProtocol::Scgi | WireProtocol::Fastcgi => {
                if context.routes.as_ref().is_some_and(|routes| routes.is_look_due(context.now)) {
                    context.look_at_files();
                }
                match &mut context.routes {
                    None => Decision::Application,
                    Some(routes) => {
                        let decision = routes.route(request);
                        match decision {
                            Decision::Routed(mut routed) => {
                                let is_admitted = self.handover_count() > 0;
                                routes.ask_guards(&mut routed, request, is_admitted, context.now);
                                Decision::Routed(routed)
                            }
                            decision => decision,
                        }
                    }
                }
            }
        }
    }

    /// Notes the route of the request whose head has come; if that responds to a request whose body would be left
    /// unread, responds at once and ends the connection.
    pub(super) fn take_route(&mut self, routed: Box<Routed>, context: &mut EngineContext) -> Option<Step> {
        let exchange = self.exchange_or_new();
        let is_whole =
            matches!(exchange.head().map(|head| head.framing), Some(Framing::None | Framing::Length(0)));
        let routed = exchange.routed.insert(routed);
        if routed.may_be_for_application()
            && let Some(request) = &mut exchange.request
        {
            // Nobody else has it yet, so that nothing is copied.
            let request = Arc::make_mut(request);
            if let Some(path) = routed.rewritten.take() {
                rewrite(&mut request.head, &path);
            }
            set_request_headers(request, &routed.route.request_headers);
            request.route = Some(Arc::clone(&routed.route));
            exchange.head_bytes = u32::try_from(request.head.memory_bytes()).unwrap_or(u32::MAX);
        }
        // The request's end follows, and then the response if there is one; none before it is known for whom.
        if is_whole || routed.awaits_login {
            return None;
        }
        let is_for_application = routed.file.is_none() || FileRequest::may_be_for_application(&routed.route);
        if routed.reply.is_none() && is_for_application {
            return None; // Which is to have the body then.
        }
        if routed.route.concurrent.is_some() {
            self.take_place(context);
        }
        let routed = self.exchange_or_new().routed.as_mut()?;
        if let Some(reply) = routed.reply.take() {
            return Some(self.reply_at_head(reply, context));
        }
        let file = routed.file.take()?;
        self.begin_at_head(context);
        Some(self.serve_file(file, context))
    }

    /// The route of the present request; of what was refused before it had one, that of all requests.
    pub(super) fn present_route<'r>(&'r self, routes: &'r Routes) -> &'r Arc<FlatRoute> {
        let routed = self.exchange.as_ref().and_then(|exchange| exchange.routed.as_ref());
        routed.map_or(routes.root(), |routed| &routed.route)
    }

    /// The page for the server's own response with this status to the present request.
    #[cold]
    pub(super) fn error_page<'r>(&'r self, status: u16, context: &'r EngineContext) -> Option<&'r Arc<[u8]>> {
        let routes = context.routes.as_ref()?;
        let pages = self.present_route(routes).error_pages.as_ref()?;
        if status >= 400 { pages.page(status) } else { None }
    }

    /// Gives the request that is to run a place among those of its route that run at once. Where there is none the
    /// route's response is a refusal.
    #[cold]
    pub(super) fn take_place(&mut self, context: &mut EngineContext) {
        let is_admitted = self.handover_count() > 0;
        let (Some(exchange), Some(routes)) = (self.exchange.as_deref_mut(), &mut context.routes) else {
            return;
        };
        let (Some(routed), Some(request)) = (&mut exchange.routed, &mut exchange.request) else { return };
        if routed.is_refused() || request.place.is_some() {
            return;
        }
        match routes.place(&routed.route, is_admitted) {
            // Nobody else has the request yet, so that nothing is copied.
            Ok(place) => Arc::make_mut(request).place = place,
            Err(reply) => routed.reply = Some(reply),
        }
    }

    /// Whether the request has come whole that the server itself responds to.
    #[inline]
    pub(super) fn has_reply(&self) -> bool {
        self.phase == Phase::Calling && self.exchange.as_ref().is_some_and(|exchange| exchange.has_reply())
    }

    /// Responds to the request that has come whole, and keeps the connection.
    pub(crate) fn respond_by_route(&mut self, context: &mut EngineContext) -> Step {
        let exchange = self.exchange_or_new();
        let Some(routed) = &mut exchange.routed else { return Step::Keep };
        let Some(reply) = routed.reply.take() else {
            let Some(file) = routed.file.take() else { return Step::Keep };
            exchange.begin(context);
            return self.serve_file(file, context);
        };
        note_refusal(exchange, &reply, context);
        exchange.begin(context);
        self.respond(ResponsePart::Own(reply), false, context)
    }

    /// Answers the request whose head has come, and ends the connection.
    #[cold]
    pub(super) fn reply_at_head(&mut self, reply: Reply, context: &mut EngineContext) -> Step {
        if let Reply::Refused(status, reason) = reply {
            return self.refuse(status, reason, context);
        }
        note_refusal(self.exchange_or_new(), &reply, context);
        self.begin_at_head(context);
        self.respond(ResponsePart::Own(reply), false, context)
    }

    /// The response begins to the request whose head has come, and ends the connection: its body is not read.
    fn begin_at_head(&mut self, context: &mut EngineContext) {
        // A reset must not overtake the response.
        let framing = self.request().map(|request| request.head.framing);
        self.framing_lost = !matches!(framing, Some(Framing::None | Framing::Length(0)));
        let exchange = self.exchange_or_new();
        exchange.begin(context);
        exchange.is_last = true;
        self.phase = Phase::Calling;
    }
}

/// Counts a response that refuses its request, and has the access log tell so.
pub(super) fn note_refusal(exchange: &mut RequestExchange, reply: &Reply, context: &mut EngineContext) {
    if reply.is_refusal() {
        exchange.note_reason(Reason::Refused);
    }
    match reply {
        Reply::Refused(..) | Reply::MethodNotAllowed(_) => context.metrics.add(Counter::Refused, 1),
        Reply::TooManyRequests { .. } => context.metrics.add(Counter::Limited, 1),
        Reply::TooManyAtOnce => context.metrics.add(Counter::TooManyAtOnce, 1),
        _ => {}
    }
}

/// Has the application be called with the decoded `path`. A gateway's is told it as gateways do, without what its
/// SCRIPT_NAME takes off; one that is not below that has none.
fn rewrite(head: &mut RequestHead, path: &[u8]) {
    head.set_path(&encode(path));
    if !head.is_gateway() {
        return;
    }
    let script = head.variable(b"SCRIPT_NAME").unwrap_or_default();
    let below = path.strip_prefix(script).filter(|rest| rest.is_empty() || rest.starts_with(b"/"));
    let is_below = below.is_some();
    let path_info = below.unwrap_or(path).to_vec();
    head.set_variable(b"PATH_INFO", &path_info);
    if !is_below {
        head.set_variable(b"SCRIPT_NAME", b"");
    }
}

/// Does to the headers of `request` what a route says.
fn set_request_headers(request: &mut RequestContext, plan: &HeaderPlan) {
    let is_https = request.is_https();
    let head = &request.head;
    let has = |name: &str| head.fields().any(|(other, _)| is_same_key(other, name.as_bytes()));
    let added: Vec<(&str, &str)> = plan.added(is_https, has).collect();
    // The application cannot tell `X_A` from `X-A` (`--header-map dangerous`).
    request.head.retain_fields(|name, _| !plan.removes(&with_hyphens(name)));
    request.head.add_fields(added.into_iter());
}

/// Whether both names make the same key of environ.
fn is_same_key(one: &[u8], other: &[u8]) -> bool {
    with_hyphens(one).eq_ignore_ascii_case(&with_hyphens(other))
}

fn with_hyphens(name: &[u8]) -> Cow<'_, [u8]> {
    match name.contains(&b'_') {
        true => Cow::Owned(name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect()),
        false => Cow::Borrowed(name),
    }
}

/// An authority without its port.
fn host(authority: &[u8]) -> &[u8] {
    let after_bracket = authority.iter().rposition(|byte| *byte == b']').map_or(0, |at| at + 1);
    let colon = authority[after_bracket..].iter().position(|byte| *byte == b':');
    colon.map_or(authority, |at| &authority[..after_bracket + at])
}

#[cfg(test)]
mod tests {
    use portico_net::Server;
    use portico_proto::{Event, Limits, Peer, http1};

    use super::*;
    use crate::client::Client;

    fn route(port: Option<&str>, request: &str) -> Decision {
        let mut input = request.as_bytes();
        let event = http1::Connection::new().next_event(&mut input, &Limits::default());
        let Ok(Some(Event::Head(head))) = event else { panic!("{request:?} is no head") };
        let listener = Arc::new(Server { protocol: WireProtocol::Redirect, ..Server::default() });
        let client = Client { peer: Peer::Unix, trusted: false, tls: None, destination: None, listener };
        let context = RequestContext {
            head,
            client: Arc::new(client),
            trusted: false,
            forwarded: None,
            route: None,
            place: None,
            user: None,
            trace: None,
        };
        HttpsRedirect { port: port.map(str::to_owned) }.route(&context)
    }

    #[test]
    fn requests_are_redirected_to_the_same_target_by_https() {
        for (port, line, host, location) in [
            (None, "GET /a?b=c", "x.example", "https://x.example/a?b=c"),
            (Some("443"), "GET /", "x.example:80", "https://x.example/"),
            (Some("8443"), "POST /a", "[::1]:8080", "https://[::1]:8443/a"),
            (Some(""), "OPTIONS *", "x", "https://x/"),
            (None, "GET http://y.example:8/z", "x", "https://y.example/z"),
        ] {
            let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let Decision::Reply(reply) = route(port, &request) else { panic!("{request:?}") };
            assert_eq!(reply, Reply::Redirect(location.as_bytes().to_vec()), "{request:?}");
        }
    }

    #[test]
    fn a_request_without_a_host_is_refused() {
        let decision = route(None, "GET / HTTP/1.0\r\n\r\n");
        assert!(matches!(decision, Decision::Reply(Reply::Refused(400, _))), "{decision:?}");
    }
}
