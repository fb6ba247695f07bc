//! Where the server's health is told, and what it takes to be ready.

use std::time::Duration;

use crate::error::ParseError;

/// The settings of the endpoints for probes: where they are, and when a server counts as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// `--health-path`: what the names of the endpoints are appended to. Empty, or begins with `/` and does not
    /// end with it; `None` turns the endpoints off.
    pub path: Option<String>,
    /// `--health-log`
    pub log: bool,
    /// `--ready-min`: at least 1.
    pub ready_min: u32,
    /// `--ready-max-wait`: zero turns it off.
    pub ready_max_wait: Duration,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self { path: None, log: false, ready_min: 1, ready_max_wait: Duration::ZERO }
    }
}

/// The last segments of the endpoints' paths: those of kube-apiserver, but for the last, which it has not.
pub const HEALTH_ENDPOINTS: [&str; 3] = ["livez", "readyz", "startupz"];

impl HealthSettings {
    /// The paths of the endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = String> {
        let path = self.path.as_deref();
        path.into_iter().flat_map(|path| HEALTH_ENDPOINTS.iter().map(move |name| format!("{path}/{name}")))
    }
}

/// Reads the path of the endpoints.
pub(crate) fn path(text: &str) -> Result<Option<String>, ParseError> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let path = text.strip_suffix('/').unwrap_or(text);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
    let segments = path.strip_prefix('/').map(|rest| rest.split('/'));
    let is_path = match segments {
        None => text == "/",
        Some(mut segments) => segments.all(|segment| {
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(is_plain)
        }),
    };
    if !is_path {
        // Clients and proxies write others in several ways, of which one would be an endpoint.
        return Err(format!(
            "{text} is no path for endpoints: it begins with /, as in /-/, and has letters, digits and marks \
             that need no escape"
        )
        .into());
    }
    Ok(Some(path.to_owned()))
}
