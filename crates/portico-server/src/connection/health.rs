//! Requests that ask for the server's health: found at their head, before routes and their guards, and answered by
//! whoever drives the engine. They wait in no queue and need no thread.
//!
//! A probe comes to an address and says so in its Host, so neither `--allowed-hosts` nor the hosts of routes are
//! asked. What bounds other requests that the server responds to by itself bounds these, too: connections, memory,
//! deadlines, and the turns of one client.

use std::sync::Arc;

use bytes::Bytes;

use super::router::Routed;
use super::{Connection, EngineContext, Reply, Step};
use crate::health::{Health, HealthForm};

/// The methods that the endpoints take.
const METHODS: [&str; 2] = ["GET", "HEAD"];

impl Connection {
    /// The response to the request whose head has come, if that is for one of the endpoints; `None` if others
    /// decide about it. A request without a body gets its response at its end, which follows.
    #[inline(never)]
    pub(super) fn respond_to_probe(&mut self, context: &mut EngineContext) -> Option<Step> {
        let (health, request) = (context.health.as_deref()?, self.request()?);
        let head = &request.head;
        let reply = match health.probe(head.path()) {
            None if health.is_starting => Reply::Starting,
            None => return None,
            Some(_) if !METHODS.iter().any(|method| method.as_bytes() == head.method()) => {
                Reply::MethodNotAllowed(METHODS.map(str::to_owned).to_vec())
            }
            Some(probe) => {
                let form = HealthForm::asked(head.query(), head.field(b"accept"));
                let (status, content) = health.respond(probe, form);
                Reply::Health { status, is_json: form == HealthForm::Json, content: Bytes::from(content) }
            }
        };
        let routed = Routed {
            route: Arc::clone(&health.route),
            reply: Some(reply),
            file: None,
            awaits_login: false,
            rewritten: None,
        };
        Some(self.take_route(Box::new(routed), context).unwrap_or(Step::Keep))
    }
}

impl EngineContext {
    /// From now on requests for the server's health are answered.
    pub(crate) fn set_health(&mut self, health: Health) {
        self.health = Some(Box::new(health));
    }

    /// Whether a request with this route is told to nobody: it has asked for the server's health.
    #[inline]
    pub(super) fn is_unlogged(&self, routed: Option<&Routed>) -> bool {
        let Some(health) = self.health.as_deref().filter(|health| !health.is_logged) else { return false };
        routed.is_some_and(|routed| Arc::ptr_eq(&routed.route, &health.route))
    }
}

#[cfg(test)]
mod tests;
