//! `--allowed-hosts`: requests for other hosts are answered before anything is done for them.

use super::{Connection, EngineContext, Step};

/// The field in which proxies pass on which host was asked for, and that some applications read themselves.
const FORWARDED_HOST: &[u8] = b"x-forwarded-host";

impl Connection {
    /// Why the present request is refused, if it is: the first host that is not allowed of those that the
    /// application could see. One that names none is for whoever listens here.
    pub(super) fn find_foreign_host(&self, context: &EngineContext) -> Option<Vec<u8>> {
        let allowed = &context.config.allowed_hosts;
        let request = self.request()?;
        let default_port = request.default_port();
        let passed_on = || {
            let fields = request.head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(FORWARDED_HOST));
            let hosts = fields.flat_map(|(_, value)| value.split(|byte| *byte == b','));
            hosts.map(<[u8]>::trim_ascii).filter(|host| !host.is_empty())
        };
        let mut hosts = request.host().into_iter().chain(passed_on());
        hosts.find(|host| !allowed.allows(host, default_port)).map(<[u8]>::to_vec)
    }

    /// Answers 421 (RFC 9110, section 15.5.20).
    #[cold]
    pub(super) fn refuse_host(&mut self, host: &[u8], context: &mut EngineContext) -> Step {
        context.reports.foreign_host(self.client.peer, host);
        self.refuse(421, "this server does not serve the host that was asked for", context)
    }
}
