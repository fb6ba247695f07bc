//! `--allowed-hosts`: requests for other hosts are answered before anything is done for them.

use portico_proto::RequestHead;

use super::{Connection, EngineContext, Step};
use crate::forwarded::Scheme;

/// The field in which proxies pass on which host was asked for, and that some applications read themselves.
const FORWARDED_HOST: &[u8] = b"x-forwarded-host";

impl Connection {
    /// The host that the application will take for the one asked for: a believed proxy's word, or the request's
    /// own. A gateway that tells of none has another variable, which takes its place.
    pub(super) fn asked_host<'h>(&'h self, head: &'h RequestHead) -> Option<&'h [u8]> {
        let forwarded = self.forwarded.as_deref().and_then(|forwarded| forwarded.host.as_deref());
        let own =
            || head.authority().or_else(|| head.variable(b"SERVER_NAME").filter(|name| !name.is_empty()));
        forwarded.or_else(own)
    }

    /// Why the request for `head` is refused, if it is: the first host that is not allowed of those that the
    /// application could see. One that names none is for whoever listens here.
    pub(super) fn find_foreign_host<'h>(
        &'h self,
        head: &'h RequestHead,
        context: &EngineContext,
    ) -> Option<&'h [u8]> {
        let allowed = &context.config.allowed_hosts;
        let usual_port = self.usual_port();
        let passed_on = || {
            let fields = head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(FORWARDED_HOST));
            let hosts = fields.flat_map(|(_, value)| value.split(|byte| *byte == b','));
            hosts.map(<[u8]>::trim_ascii).filter(|host| !host.is_empty())
        };
        let mut hosts = self.asked_host(head).into_iter().chain(passed_on());
        hosts.find(|host| !allowed.allows(host, usual_port))
    }

    /// The port of a host that is told without one.
    fn usual_port(&self) -> u16 {
        let forwarded = self.forwarded.as_deref();
        let is_https = match forwarded.and_then(|forwarded| forwarded.scheme) {
            Some(scheme) => scheme == Scheme::Https,
            None => self.server.tls,
        };
        let told = forwarded.and_then(|forwarded| forwarded.server_port);
        told.unwrap_or(if is_https { 443 } else { 80 })
    }

    /// Answers 421 (RFC 9110, section 15.5.20).
    #[cold]
    pub(super) fn refuse_host(&mut self, host: &[u8], context: &mut EngineContext) -> Step {
        context.reports.foreign_host(self.peer, host);
        self.refuse(421, "this server does not serve the host that was asked for", context)
    }
}
