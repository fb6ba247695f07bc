//! Each variable alone, and what comes before what.

use super::*;
use crate::parse::parse;
use crate::testing::{environment, resolved};

fn of(variables: &[(&str, &str)]) -> TraceSettings {
    of_args(variables, &[])
}

fn of_args(variables: &[(&str, &str)], args: &[&str]) -> TraceSettings {
    let config = resolved(variables, &[&["--otlp"], args].concat()).config;
    *config.telemetry.traces.expect("--otlp is given")
}

/// Why a start with these variables is refused.
fn refusal(variables: &[(&str, &str)]) -> String {
    let args = [OsString::from("--otlp")].into_iter();
    match parse(args, &environment(variables)) {
        Err(error) => {
            assert_eq!(error.exit_status(), 1);
            error.to_string()
        }
        Ok(_) => panic!("{variables:?} is not refused"),
    }
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const ARG: &str = "OTEL_TRACES_SAMPLER_ARG";

#[test]
fn without_the_option_no_variable_is_looked_at() {
    let config = resolved(&[(ENDPOINT, "nonsense"), (SAMPLER, "nonsense")], &[]).config;
    assert_eq!(config.telemetry.traces, None);
}

#[test]
fn without_variables_the_defaults_of_the_specification_hold() {
    let settings = of(&[(ENDPOINT, ""), (HEADERS, " ")]);
    assert_eq!(settings.collector.to_string(), "http://localhost:4318/v1/traces");
    assert_eq!((settings.timeout, settings.gzip), (Duration::from_secs(10), false));
    assert_eq!((settings.headers, settings.certificate), (Vec::new(), None));
    assert_eq!(settings.resource, [("service.name".to_owned(), "unknown_service:portico".to_owned())]);
    let all = TraceSampler { is_parent_based: true, root: RootSampler::AlwaysOn };
    assert_eq!((settings.sampler, settings.parents), (all, TraceParents::Any));
}

#[test]
fn the_endpoint_of_all_signals_gets_a_path_and_that_of_traces_is_taken_as_it_is() {
    for (text, shown) in [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://collector", "https://collector/v1/traces"),
        ("HTTPS://collector:443/otlp/", "https://collector/otlp/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
        ("http://[::1]", "http://[::1]/v1/traces"),
    ] {
        assert_eq!(of(&[(ENDPOINT, text)]).collector.to_string(), shown, "{text}");
    }
    for (text, target) in [
        ("http://collector:4318", "/"),
        ("http://collector:4318/a/b?key=c", "/a/b?key=c"),
        ("http://collector:4318?key=c", "/?key=c"),
    ] {
        let both = [(ENDPOINT, "http://other"), (TRACES_ENDPOINT, text)];
        assert_eq!(of(&both).collector.target, target, "{text}");
    }
    assert_eq!(of(&[(ENDPOINT, "http://a/x?key=c")]).collector.target, "/x/v1/traces?key=c");
}

#[test]
fn portico_s_own_option_comes_before_the_variables() {
    let variables = [(ENDPOINT, "http://other:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    let url = |text| of_args(&variables, &["--otlp-endpoint", text]).collector.to_string();
    assert_eq!(url("http://collector:4318"), "http://collector:4318/v1/traces");
    assert_eq!(url("http://collector:4318/x"), "http://collector:4318/x");
}

#[test]
fn variables_of_traces_come_before_those_of_all_signals_and_those_of_env_before_both() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2000"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/ca.pem"),
        ("OTEL_SERVICE_NAME", "shop"),
    ];
    let settings =
        of_args(&variables, &["--env", "OTEL_SERVICE_NAME=first", "--env", "OTEL_SERVICE_NAME=till"]);
    assert_eq!((settings.timeout, settings.gzip), (Duration::from_secs(2), true));
    assert_eq!(settings.certificate, Some(PathBuf::from("/etc/ca.pem")));
    assert_eq!(settings.resource, [("service.name".to_owned(), "till".to_owned())]);
}

#[test]
fn values_of_headers_are_decoded_and_kept_secret() {
    let settings = of(&[(HEADERS, "Authorization=Basic%20dXNlcjpw%3D=, x-a = b%2Cc%C3%A4 ,")]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(settings.headers, [pair("Authorization", "Basic dXNlcjpw=="), pair("x-a", "b,cä")]);
    assert!(!format!("{settings:?}").contains("dXNl"), "{settings:?}");
    for (text, told) in [
        ("secret", "item 1 has no \"=\""),
        ("a=b,secret", "item 2 has no \"=\""),
        ("a=secret%2", "item 1 has a \"%\""),
        ("a=secret%zz", "item 1 has a \"%\""),
        ("a=secret%ff", "item 1 has a \"%\""),
        ("=secret", "item 1 has no name"),
        ("a b=secret", "\"a b\" cannot be a header's name"),
        ("a%0Ab=secret", "cannot be a header's name"),
        ("a=secret%0D%0AX: y", "the value of a has a control character"),
        ("content-Length=secret", "content-Length is set by Portico itself"),
    ] {
        let refused = refusal(&[(HEADERS, text)]);
        assert!(refused.starts_with(&format!("{HEADERS}: ")) && refused.contains(told), "{refused}");
        assert!(!refused.contains("secret"), "{refused}");
    }
}

#[test]
fn resource_attributes_have_the_service_s_name() {
    let resource = |text: &str, name: &str| {
        let said = [("OTEL_RESOURCE_ATTRIBUTES", text), ("OTEL_SERVICE_NAME", name)];
        let pairs = of(&said).resource;
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(resource("a=b%20c,service.name=x", ""), "a=b c service.name=x");
    assert_eq!(resource("service.name=x,a=b,a=c", "shop"), "service.name=shop a=c");
    assert_eq!(resource("a=b", "shop"), "service.name=shop a=b");
    assert!(refusal(&[("OTEL_RESOURCE_ATTRIBUTES", "a")]).starts_with("OTEL_RESOURCE_ATTRIBUTES: item 1"));
}

#[test]
fn timeouts_are_milliseconds_and_small_ones_python_s_seconds() {
    let timeout = |text| of(&[("OTEL_EXPORTER_OTLP_TIMEOUT", text)]).timeout;
    for (text, millis) in [("10000", 10_000), ("100", 100), ("99", 99_000), ("10", 10_000), ("0.5", 500)] {
        assert_eq!(timeout(text), Duration::from_millis(millis), "{text}");
    }
    for text in ["0", "-1", "1e9", "x", "nan", "inf", "10s"] {
        assert!(refusal(&[("OTEL_EXPORTER_OTLP_TIMEOUT", text)]).starts_with("OTEL_EXPORTER_OTLP_TIMEOUT: "));
    }
}

#[test]
fn samplers_are_those_of_the_specification() {
    let sampler = |name, arg| of(&[(SAMPLER, name), (ARG, arg)]).sampler;
    let half = RootSampler::Below(1 << 63);
    for (name, arg, is_parent_based, root) in [
        ("always_on", "", false, RootSampler::AlwaysOn),
        ("always_off", "nonsense is not looked at", false, RootSampler::AlwaysOff),
        ("traceidratio", "0.5", false, half),
        ("traceidratio", "", false, RootSampler::AlwaysOn),
        ("traceidratio", "0", false, RootSampler::AlwaysOff),
        ("parentbased_always_on", "", true, RootSampler::AlwaysOn),
        ("parentbased_always_off", "", true, RootSampler::AlwaysOff),
        ("parentbased_traceidratio", "0.5", true, half),
        ("parentbased_traceidratio", "1.0", true, RootSampler::AlwaysOn),
    ] {
        assert_eq!(sampler(name, arg), TraceSampler { is_parent_based, root }, "{name} {arg}");
    }
    for (name, arg, told) in [
        ("traceidratio", "2", ARG),
        ("traceidratio", "-0.1", ARG),
        ("parentbased_traceidratio", "x", ARG),
        ("traceidratio", "nan", ARG),
        ("jaeger_remote", "", SAMPLER),
        ("parentbased_xray", "", SAMPLER),
        ("parentbased_parentbased_always_on", "", SAMPLER),
    ] {
        assert!(refusal(&[(SAMPLER, name), (ARG, arg)]).starts_with(&format!("{told}: ")), "{name} {arg}");
    }
}

#[test]
fn what_cannot_be_used_is_told_by_its_variable() {
    for (name, text, told) in [
        (ENDPOINT, "collector:4318", "write http://HOST:4318"),
        (ENDPOINT, "grpc://collector:4317", "write http://HOST:4318"),
        (ENDPOINT, "http://", "write http://HOST:4318"),
        (ENDPOINT, "http://a:0", "write http://HOST:4318"),
        (ENDPOINT, "http://a:99999", "write http://HOST:4318"),
        (ENDPOINT, "http://a:+1", "write http://HOST:4318"),
        (ENDPOINT, "http://a b", "write http://HOST:4318"),
        (ENDPOINT, "http://a/b#c", "write http://HOST:4318"),
        (ENDPOINT, "http://a/\u{e4}", "write http://HOST:4318"),
        (ENDPOINT, "http://[::1", "write http://HOST:4318"),
        (ENDPOINT, "http://[x]", "write http://HOST:4318"),
        (TRACES_ENDPOINT, "/v1/traces", "write http://HOST:4318"),
        (ENDPOINT, "http://user:secret@a", "OTEL_EXPORTER_OTLP_HEADERS"),
        (ENDPOINT, "http:/a?key=secret", "write http://HOST:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "--otlp-endpoint"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http", "write http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "write gzip or none"),
    ] {
        let refused = refusal(&[(name, text)]);
        assert!(refused.starts_with(&format!("{name}: ")) && refused.contains(told), "{refused}");
        assert!(!refused.contains("secret") && !refused.contains('\n'), "{refused}");
    }
}
