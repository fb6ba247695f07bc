//! What probes are told of the server's health: the checks of each of three endpoints, and the forms in which a
//! response says them.
//!
//! Who knows the state of the server answers to [`HealthSource`]; which requests are probes is
//! `connection/health.rs`'s.

use std::fmt::{self, Write};
use std::sync::Arc;

use portico_config::HEALTH_ENDPOINTS;
use portico_edge::FlatRoute;
use serde_json::{Map, Value, json};

/// One of the endpoints below `--health-path`. Orchestrators do something else about the failure of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthProbe {
    /// `livez`: a failure says that only a restart helps.
    Live,
    /// `readyz`: a failure says that requests are better sent elsewhere.
    Ready,
    /// `startupz`: the server has not been ready yet.
    Started,
}

/// One condition of an endpoint, and whether it is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What it is about, one word.
    pub name: &'static str,
    /// Whether it is met.
    pub passes: bool,
    /// How it stands with it, for people; one line.
    pub text: String,
}

/// Whoever knows the state of the server. It is asked on the thread that drives the engine: it must not block.
pub trait HealthSource: fmt::Debug + Send + Sync {
    /// The checks of `probe`; it passes where all do.
    fn check(&self, probe: HealthProbe) -> Vec<HealthCheck>;
}

/// The endpoints of an engine.
#[derive(Debug)]
pub struct Health {
    /// The path that their names are appended to: empty, or begins with `/` and does not end with it.
    path: String,
    /// Whether the access log is told of requests for them.
    pub(crate) is_logged: bool,
    /// The application is not there yet: other requests are refused.
    pub(crate) is_starting: bool,
    /// The route of requests for them, which nothing is set for.
    pub(crate) route: Arc<FlatRoute>,
    source: Arc<dyn HealthSource>,
}

/// The form in which a response says how it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HealthForm {
    /// `ok`, or what is wrong.
    Short,
    /// Each check.
    Verbose,
    /// application/health+json (draft-inadarei-api-health-check-06).
    Json,
}

impl HealthProbe {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Live, Self::Ready, Self::Started];

    /// The last segment of its path.
    pub fn name(self) -> &'static str {
        HEALTH_ENDPOINTS[self as usize]
    }
}

impl Health {
    /// Endpoints below `path`, which is empty, or begins with `/` and does not end with it. `is_logged`: the
    /// access log is told of requests for them.
    pub fn new(path: &str, is_logged: bool, source: Arc<dyn HealthSource>) -> Self {
        let route = Arc::new(FlatRoute::unset());
        Self { path: path.to_owned(), is_logged, is_starting: false, route, source }
    }

    /// The same for an engine that serves until there is an application: other requests are refused.
    pub fn without_application(mut self) -> Self {
        self.is_starting = true;
        self
    }

    /// The endpoint at this path, as it was sent.
    #[inline]
    pub(crate) fn probe(&self, path: &[u8]) -> Option<HealthProbe> {
        let name = path.strip_prefix(self.path.as_bytes())?.strip_prefix(b"/")?;
        HealthProbe::ALL.into_iter().find(|probe| probe.name().as_bytes() == name)
    }

    /// The status and the content of the response to `probe`.
    pub(crate) fn respond(&self, probe: HealthProbe, form: HealthForm) -> (u16, String) {
        let checks = self.source.check(probe);
        let passes = checks.iter().all(|check| check.passes);
        let content = match form {
            HealthForm::Json => json(&checks, passes),
            HealthForm::Verbose => verbose(probe, &checks, passes),
            HealthForm::Short if passes => "ok\n".to_owned(),
            HealthForm::Short => failures(&checks),
        };
        (if passes { 200 } else { 503 }, content)
    }
}

impl HealthForm {
    /// The form that a request asks for by its query and its Accept.
    pub(crate) fn asked(query: &[u8], accept: Option<&[u8]>) -> Self {
        if accept.is_some_and(takes_health_json) {
            return Self::Json;
        }
        let is_verbose = query.split(|byte| *byte == b'&').any(|pair| {
            let name = pair.split(|byte| *byte == b'=').next();
            name == Some(b"verbose")
        });
        if is_verbose { Self::Verbose } else { Self::Short }
    }
}

pub(crate) const HEALTH_JSON: &str = "application/health+json";

/// Whether an Accept names the media type. Weights are of no matter: whoever names it can read it, and nobody
/// else asks for it.
fn takes_health_json(accept: &[u8]) -> bool {
    accept.split(|byte| *byte == b',').any(|range| {
        let media_type = range.split(|byte| *byte == b';').next().unwrap_or_default();
        media_type.trim_ascii().eq_ignore_ascii_case(HEALTH_JSON.as_bytes())
    })
}

fn failures(checks: &[HealthCheck]) -> String {
    checks.iter().filter(|check| !check.passes).fold(String::new(), |mut told, check| {
        let _ = writeln!(told, "{}: {}", check.name, check.text);
        told
    })
}

/// As the probes of kube-apiserver say it.
fn verbose(probe: HealthProbe, checks: &[HealthCheck], passes: bool) -> String {
    let mut told = String::new();
    for check in checks {
        let sign = if check.passes { '+' } else { '-' };
        let _ = writeln!(told, "[{sign}]{}: {}", check.name, check.text);
    }
    let _ = writeln!(told, "{} check {}", probe.name(), if passes { "passed" } else { "failed" });
    told
}

fn json(checks: &[HealthCheck], passes: bool) -> String {
    let status = |passes: bool| if passes { "pass" } else { "fail" };
    let mut by_name = Map::new();
    for check in checks {
        let observed = json!([{ "status": status(check.passes), "output": check.text }]);
        by_name.insert(check.name.to_owned(), observed);
    }
    let mut report = Map::new();
    report.insert("status".to_owned(), Value::from(status(passes)));
    if !passes {
        report.insert("output".to_owned(), Value::from(failures(checks).trim_end()));
    }
    report.insert("checks".to_owned(), Value::Object(by_name));
    format!("{}\n", Value::Object(report))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Told(Vec<HealthCheck>);

    impl HealthSource for Told {
        fn check(&self, _: HealthProbe) -> Vec<HealthCheck> {
            self.0.clone()
        }
    }

    fn check(name: &'static str, passes: bool, text: &str) -> HealthCheck {
        HealthCheck { name, passes, text: text.to_owned() }
    }

    fn health(path: &str, checks: &[HealthCheck]) -> Health {
        Health::new(path, false, Arc::new(Told(checks.to_vec())))
    }

    #[test]
    fn endpoints_are_found_by_their_exact_path() {
        let health = health("/-", &[]);
        for (path, probe) in [
            ("/-/livez", Some(HealthProbe::Live)),
            ("/-/readyz", Some(HealthProbe::Ready)),
            ("/-/startupz", Some(HealthProbe::Started)),
            ("/-/livez/", None),
            ("/-/LIVEZ", None),
            ("/-//livez", None),
            ("/livez", None),
            ("/-", None),
            ("/-/", None),
            ("/-/healthz", None),
            ("/%2d/livez", None),
            ("*", None),
        ] {
            assert_eq!(health.probe(path.as_bytes()), probe, "{path}");
        }
        assert_eq!(self::health("", &[]).probe(b"/readyz"), Some(HealthProbe::Ready));
    }

    #[test]
    fn each_form_says_what_fails() {
        let checks = [check("serving", true, "yes"), check("workers", false, "0 of 1 \"ready\"")];
        let failing = health("", &checks);
        let say = |form| failing.respond(HealthProbe::Ready, form).1;
        assert_eq!(
            failing.respond(HealthProbe::Ready, HealthForm::Short),
            (503, "workers: 0 of 1 \"ready\"\n".to_owned())
        );
        assert_eq!(
            say(HealthForm::Verbose),
            "[+]serving: yes\n[-]workers: 0 of 1 \"ready\"\nreadyz check failed\n"
        );
        let told: Value = serde_json::from_str(&say(HealthForm::Json)).unwrap();
        assert_eq!((&told["status"], &told["output"]), (&json!("fail"), &json!("workers: 0 of 1 \"ready\"")));
        assert_eq!(told["checks"]["serving"][0], json!({"status": "pass", "output": "yes"}));
        let well = health("", &checks[..1]);
        assert_eq!(well.respond(HealthProbe::Live, HealthForm::Short), (200, "ok\n".to_owned()));
        let told: Value = serde_json::from_str(&well.respond(HealthProbe::Live, HealthForm::Json).1).unwrap();
        assert_eq!((&told["status"], told.get("output")), (&json!("pass"), None));
    }

    #[test]
    fn the_form_follows_the_request() {
        let asked = |query: &str, accept: &str| HealthForm::asked(query.as_bytes(), Some(accept.as_bytes()));
        assert_eq!(HealthForm::asked(b"", None), HealthForm::Short);
        assert_eq!(asked("verbose", "*/*"), HealthForm::Verbose);
        assert_eq!(asked("a=b&verbose=1", ""), HealthForm::Verbose);
        assert_eq!(asked("verbosely", "application/json"), HealthForm::Short);
        assert_eq!(asked("verbose", "text/html, Application/Health+JSON;q=0.5"), HealthForm::Json);
    }
}
