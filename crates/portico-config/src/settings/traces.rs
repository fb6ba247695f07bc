//! Settings of traces. What OpenTelemetry has a variable for is in `traces.rs`, beside this folder.

use crate::setting::{Area, Setting, ValueType};
use crate::traces::{self, TraceParents};

pub(super) const SETTINGS: &[Setting] = &[OTLP, OTLP_ENDPOINT, OTLP_PARENTS];

pub(crate) const OTLP: Setting = Setting {
    name: "otlp",
    flags: &["otlp"],
    value: ValueType::Switch { given: true, set: |config, on| config.telemetry.otlp = on },
    default: "false",
    area: Area::Logging,
    help: "Send a span for each request to an OpenTelemetry collector",
    details: "By OTLP over HTTP. OpenTelemetry's own variables say the rest: OTEL_EXPORTER_OTLP_ENDPOINT or \
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT (http://localhost:4318/v1/traces by default), \
        OTEL_EXPORTER_OTLP_HEADERS, _TIMEOUT, _COMPRESSION and _CERTIFICATE, OTEL_SERVICE_NAME, \
        OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG. Without this option none \
        of them is looked at, because they configure the application's SDK as well. A value that cannot be \
        used stops the start.\n\n\
        The span's id is the parent in the application's `HTTP_TRACEPARENT`. Spans that the collector does \
        not accept in time are dropped and counted; no request waits for it. The guide on traces says more.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn otlp() {
    use crate::testing::config;
    assert_eq!(config(&[]).telemetry.traces, None);
    let traces = config(&["--otlp"]).telemetry.traces.map(|traces| traces.collector.to_string());
    assert_eq!(traces.as_deref(), Some("http://localhost:4318/v1/traces"));
}

pub(crate) const OTLP_ENDPOINT: Setting = Setting {
    name: "otlp_endpoint",
    flags: &["otlp-endpoint"],
    value: ValueType::Form {
        metavar: "URL",
        form: "http://HOST:PORT or https://HOST:PORT, with the path of traces if it is not /v1/traces",
        set: |config, text| {
            config.telemetry.otlp_endpoint = Some(traces::endpoint(text)?);
            Ok(())
        },
    },
    area: Area::Logging,
    help: "Where spans are sent, if not where OpenTelemetry's variables say",
    details: "For an application whose SDK sends over gRPC, or elsewhere: its variables can stay as they \
        are. OTEL_EXPORTER_OTLP_PROTOCOL is not looked at then.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn otlp_endpoint() {
    use crate::testing::{config, refusal, resolved};
    let endpoint = |text| config(&["--otlp", "--otlp-endpoint", text]).telemetry.traces.unwrap().collector;
    assert_eq!(endpoint("http://a:4318").to_string(), "http://a:4318/v1/traces");
    assert_eq!(endpoint("https://a/b").to_string(), "https://a/b");
    assert!(refusal(&["--otlp-endpoint", "a:4318"]).contains("write http://HOST:4318"));
    let warnings = resolved(&[], &["--otlp-endpoint", "http://a"]).warnings;
    assert_eq!(warnings, ["--otlp-endpoint does nothing without --otlp; set that too"]);
}

pub(crate) const OTLP_PARENTS: Setting = Setting {
    name: "otlp_parents",
    flags: &["otlp-parents"],
    value: ValueType::Choice {
        of: &[
            ("any", |config| config.telemetry.otlp_parents = TraceParents::Any),
            ("trusted", |config| config.telemetry.otlp_parents = TraceParents::Trusted),
        ],
        alone: None,
    },
    default: "any",
    area: Area::Logging,
    help: "Whose `traceparent` counts: that of any client, or of trusted peers only",
    details: "`any` is how W3C Trace Context works: spans continue the trace of whoever calls. But a client on \
        the internet can then choose ids of traces and, with a sampler that follows the parent, have each of \
        its requests sampled. With `trusted`, only gateways and peers of --forwarded-allow-ips are followed; \
        the requests of others begin traces of their own, and their `traceparent` and `tracestate` do not \
        reach the application.",
    ..Setting::BLANK
};

#[cfg(test)]
#[test]
fn otlp_parents() {
    use crate::testing::{config, refusal};
    let parents = |args: &[&str]| config(args).telemetry.traces.unwrap().parents;
    assert_eq!(parents(&["--otlp"]), TraceParents::Any);
    assert_eq!(parents(&["--otlp", "--otlp-parents", "trusted"]), TraceParents::Trusted);
    assert!(refusal(&["--otlp-parents", "none"]).contains("trusted"));
}
