//! Each rule by itself, and that whoever is not believed has no say.

use std::ffi::OsString;

use portico_config::{Parsed, parse};
use portico_proto::{Event, Limits, http1};
use proptest::prelude::*;

use super::*;

const FACTS: &str = "--forwarded-headers=for,proto,host,port,prefix,forwarded";

fn policy(arguments: &[&str]) -> Policy {
    match parse(arguments.iter().map(OsString::from), &|_| None) {
        Ok(Parsed::Run(resolved)) => Policy::new(&resolved.config),
        other => panic!("{arguments:?} gave {other:?}"),
    }
}

fn head(fields: &[(&str, &str)]) -> Box<RequestHead> {
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let mut input = request.as_bytes();
    match http1::Connection::new().next_event(&mut input, &Limits::default()) {
        Ok(Some(Event::Head(head))) => head,
        other => panic!("{fields:?} gave {other:?}"),
    }
}

fn evaluate(
    policy: &Policy,
    peer: &str,
    fields: &[(&str, &str)],
) -> (Result<Evaluation, ForwardedRefusal>, Vec<String>) {
    judge_after(policy, peer, Heard::default(), fields)
}

/// As [`judge`], where believed peers have sent something before.
fn judge_after(
    policy: &Policy,
    peer: &str,
    mut heard: Heard,
    fields: &[(&str, &str)],
) -> (Result<Evaluation, ForwardedRefusal>, Vec<String>) {
    let peer = peer.parse().map_or(Peer::Unix, |ip: IpAddr| Peer::Inet((ip, 9).into()));
    let mut head = head(fields);
    let judged = match policy.concerns(&head) {
        true => policy.evaluate(policy.trusts(peer), &mut head, &mut heard),
        false => Ok(Evaluation::default()),
    };
    let left = head.fields().skip(1).map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    (judged, left)
}

/// What 127.0.0.1, a believed proxy, says in `fields`.
fn told(arguments: &[&str], fields: &[(&str, &str)]) -> Result<Forwarded, ForwardedRefusal> {
    let (judged, _) = evaluate(&policy(arguments), "127.0.0.1", fields);
    judged.map(|judgement| judgement.forwarded.map_or_else(Forwarded::default, |told| (*told).clone()))
}

fn client(arguments: &[&str], fields: &[(&str, &str)]) -> String {
    let told = told(arguments, fields).unwrap();
    let port = told.port.map_or(String::new(), |port| format!(" {port}"));
    told.address.map_or("-".to_owned(), |address| format!("{address}{port}"))
}

#[test]
fn the_walk_goes_from_the_right_to_the_first_that_is_not_believed() {
    let walk = |value: &str| {
        client(
            &["--forwarded-allow-ips", "127.0.0.1,10.0.0.0/8,2001:db8::/32"],
            &[("X-Forwarded-For", value)],
        )
    };
    for (value, expected) in [
        ("203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("203.0.113.7,10.0.0.3 ,\t10.0.0.2", "203.0.113.7"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("203.0.113.7:4711", "203.0.113.7 4711"),
        ("2001:db9::7", "2001:db9::7"),
        ("[2001:db9::7]", "2001:db9::7"),
        ("[2001:db9::7]:4711", "2001:db9::7 4711"),
        ("203.0.113.7, [2001:db8::1]:80", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, ::ffff:10.0.0.2", "203.0.113.7"),
        ("203.0.113.7, ,", "203.0.113.7"),
        ("nonsense", "-"),
        ("unknown", "-"),
        ("203.0.113.7, nonsense, 10.0.0.2", "10.0.0.2"),
        ("203.0.113.7, nonsense", "-"),
        ("203.0.113.7, 1.2.3.4.5", "-"),
        ("203.0.113.007", "-"),
        ("localhost", "-"),
        ("fe80::1%eth0", "-"),
        ("203.0.113.7:99999", "-"),
        ("\"203.0.113.7\"", "-"),
        ("", "-"),
    ] {
        assert_eq!(walk(value), expected, "{value:?}");
    }
    let lines = [("X-Forwarded-For", "1.1.1.1"), ("x-forwarded-for", "203.0.113.7, 10.0.0.2")];
    assert_eq!(client(&["--forwarded-allow-ips", "127.0.0.1,10.0.0.2"], &lines), "203.0.113.7");
}

#[test]
fn everybody_is_believed_of_whom_he_got_it_and_no_further() {
    let fields = [("X-Forwarded-For", "6.6.6.6, 203.0.113.7")];
    assert_eq!(client(&["--forwarded-allow-ips=*"], &fields), "203.0.113.7");
    assert_eq!(client(&["--forwarded-allow-ips=*,203.0.113.0/24"], &fields), "6.6.6.6");
}

#[test]
fn schemes() {
    let scheme = |fields: &[(&str, &str)]| told(&[], fields).map(|told| told.scheme);
    let (http, https) = (Ok(Some(Scheme::Http)), Ok(Some(Scheme::Https)));
    assert_eq!(scheme(&[("X-Forwarded-Proto", "https")]), https);
    assert_eq!(scheme(&[("X-Forwarded-Proto", "HTTPS")]), https);
    assert_eq!(scheme(&[("X-Forwarded-Proto", "http")]), http);
    assert_eq!(scheme(&[("X-Forwarded-Proto", "")]), http);
    assert_eq!(scheme(&[("X-Forwarded-Ssl", "on")]), https);
    assert_eq!(scheme(&[("X-Forwarded-Protocol", "ssl"), ("X-Forwarded-Proto", "https")]), https);
    assert_eq!(
        scheme(&[("X-Forwarded-Ssl", "on"), ("X-Forwarded-Proto", "http")]),
        Err(ForwardedRefusal::SchemeConflict)
    );
    let twice = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "http")];
    assert_eq!(scheme(&twice), Err(ForwardedRefusal::SchemeConflict));
    assert_eq!(scheme(&[]), Ok(None));
    // A list: beside the client's address if it is as long as that of the addresses, else the nearest proxy's.
    let list = |addresses, schemes| {
        let fields = [("X-Forwarded-For", addresses), ("X-Forwarded-Proto", schemes)];
        told(&["--forwarded-allow-ips=127.0.0.1,10.0.0.2"], &fields).map(|told| told.scheme)
    };
    assert_eq!(list("203.0.113.7, 10.0.0.2", "https, http"), https);
    assert_eq!(list("6.6.6.6, 203.0.113.7, 10.0.0.2", "https, http, http"), http);
    assert_eq!(list("203.0.113.7", "https, http"), http);
    let own = ["--secure-scheme-headers", "X-Scheme=tls"];
    assert_eq!(told(&own, &[("X-Scheme", "tls")]).unwrap().scheme, Some(Scheme::Https));
    assert_eq!(told(&own, &[("X-Forwarded-Proto", "https")]).unwrap().scheme, None);
    let off = ["--forwarded-headers", "for"];
    assert_eq!(told(&off, &[("X-Forwarded-Proto", "https")]), Ok(Forwarded::default()));
}

#[test]
fn hosts_ports_and_prefixes() {
    let said = |name: &str, value: &str| told(&[FACTS], &[(name, value)]);
    let host = |value| said("X-Forwarded-Host", value).map(|told| told.host.map(|host| host.into_vec()));
    assert_eq!(host("shop.example:8443"), Ok(Some(b"shop.example:8443".to_vec())));
    assert_eq!(host("a.example, b.example"), Ok(Some(b"b.example".to_vec())));
    for bad in ["", "a b", "a/b", "u@h", "a:99999", "<x>"] {
        assert_eq!(host(bad), Err(ForwardedRefusal::Malformed), "{bad:?}");
    }
    assert_eq!(said("X-Forwarded-Port", "8443").unwrap().server_port, Some(8443));
    for bad in ["", "0", "-1", "+1", "65536", "x"] {
        assert_eq!(said("X-Forwarded-Port", bad), Err(ForwardedRefusal::Malformed), "{bad:?}");
    }
    let path = |value| said("X-Forwarded-Prefix", value).map(|told| told.prefix.map(|path| path.into_vec()));
    assert_eq!(path("/shop/"), Ok(Some(b"/shop".to_vec())));
    assert_eq!(path("/a/b, /c"), Ok(Some(b"/c".to_vec())));
    assert_eq!(path("/"), Ok(None));
    for bad in ["shop", "//evil.example", "/\\evil.example", "/a?b", "/a#b", "/a b", "/\u{e4}", "http://x/"] {
        assert_eq!(path(bad), Err(ForwardedRefusal::Malformed), "{bad:?}");
    }
    let twice = |name| told(&[FACTS], &[(name, "1"), (name, "2")]);
    assert_eq!(twice("X-Forwarded-Host"), Err(ForwardedRefusal::HostConflict));
    assert_eq!(twice("X-Forwarded-Port"), Err(ForwardedRefusal::ValueConflict));
    assert_eq!(
        told(&[FACTS], &[("X-Forwarded-Port", "1"), ("X-Forwarded-Port", "1")]).unwrap().server_port,
        Some(1)
    );
    // Not by default: proxies pass on what clients send of them.
    let all = [("X-Forwarded-Host", "<x>"), ("X-Forwarded-Port", "x"), ("X-Forwarded-Prefix", "x")];
    assert_eq!(told(&[], &all), Ok(Forwarded::default()));
}

#[test]
fn rfc_7239_by_the_letter() {
    let read = |value: &str| told(&[FACTS], &[("Forwarded", value)]);
    for (value, address) in [
        ("for=203.0.113.7", "203.0.113.7"),
        ("For=\"203.0.113.7:4711\";Proto=https", "203.0.113.7 4711"),
        ("for=\"[2001:db8::7]:4711\"", "2001:db8::7 4711"),
        ("for=\"[2001:db8::7]\"; by=203.0.113.43", "2001:db8::7"),
        ("for=6.6.6.6, for=203.0.113.7", "203.0.113.7"),
        ("for=203.0.113.7, for=127.0.0.1", "203.0.113.7"),
        ("for=203.0.113.7;by=_proxy;secret=\"a\\\"b,;c\", for=127.0.0.1", "203.0.113.7"),
        ("for=unknown", "-"),
        ("for=_hidden, for=127.0.0.1", "127.0.0.1"),
        ("for=203.0.113.7, for=\"_gazonk:_p\"", "-"),
        ("for=\"203.0.113.7:_x\"", "203.0.113.7"),
        ("proto=https", "-"),
        (";;, ,for=203.0.113.7;,", "203.0.113.7"),
        ("", "-"),
    ] {
        assert_eq!(client(&[], &[("Forwarded", value)]), address, "{value:?}");
    }
    for bad in [
        "for",
        "for=",
        "for =1.2.3.4",
        "for= 1.2.3.4",
        "for=1.2.3.4:80",
        "for=[::1]",
        "for=\"::1\"",
        "for=\"[::1\"",
        "for=\"[::1]80\"",
        "for=\"[::1]:\"",
        "for=\"[1.2.3.4]\"",
        "for=\"1.2.3.4",
        "for=\"1.2.3.4\\",
        "for=1.2.3.4;for=1.2.3.4",
        "for=1.2.3.4 proto=https",
        "for=localhost",
        "for=\"\"",
        "for=_",
        "for=\"1.2.3.4:99999\"",
        "for=\"1.2.3.4:123456\"",
        "proto=\"ht tp\"",
        "proto=1x",
        "host=\"a b\"",
        "=x",
        "by=x",
        "for=1.2.3.4;=",
    ] {
        assert_eq!(read(bad), Err(ForwardedRefusal::Malformed), "{bad:?}");
    }
    let both =
        read("for=203.0.113.7;proto=http;host=a.example, for=127.0.0.1;proto=https;host=b.example").unwrap();
    assert_eq!((both.scheme, both.host.as_deref()), (Some(Scheme::Http), Some(&b"a.example"[..])));
    // Whoever is not believed may have written what is left of him.
    let spoofed = read("for=6.6.6.6;proto=https;host=evil.example, for=203.0.113.7;proto=http").unwrap();
    assert_eq!((spoofed.scheme, spoofed.host), (Some(Scheme::Http), None));
    let lines = [("Forwarded", "for=6.6.6.6"), ("Forwarded", "for=203.0.113.7;proto=wss")];
    let told = told(&[], &lines).unwrap();
    assert_eq!((told.address, told.scheme), (Some([203, 0, 113, 7].into()), Some(Scheme::Https)));
    assert_eq!(client(&["--forwarded-headers=for,proto"], &[("Forwarded", "for=")]), "-");
}

#[test]
fn what_both_kinds_say_must_agree_where_the_proxy_speaks_both() {
    let policy = policy(&[FACTS]);
    let check = |fields: &[(&str, &str)], expected: Result<(), ForwardedRefusal>| {
        let heard = Heard { forwarded_alone: true };
        let (judged, left) = judge_after(&policy, "127.0.0.1", heard, fields);
        assert_eq!(judged.map(|judgement| assert!(!judgement.forwarded_ignored)), expected, "{fields:?}");
        assert_eq!(left.len(), fields.len(), "{fields:?}");
    };
    let with = |name, value, forwarded| [(name, value), ("Forwarded", forwarded)];
    check(&with("X-Forwarded-For", "1.2.3.4", "for=1.2.3.4"), Ok(()));
    check(&with("X-Forwarded-For", "1.2.3.4", "for=\"1.2.3.4:80\""), Ok(()));
    check(&with("X-Forwarded-For", "1.2.3.4", "for=unknown"), Ok(()));
    check(&with("X-Forwarded-For", "1.2.3.4", "for=6.6.6.6"), Err(ForwardedRefusal::ClientConflict));
    check(&with("X-Forwarded-Proto", "http", "proto=https"), Err(ForwardedRefusal::SchemeConflict));
    check(&with("X-Forwarded-Host", "A.example", "host=a.example"), Ok(()));
    check(&with("X-Forwarded-Host", "a.example", "host=b.example"), Err(ForwardedRefusal::HostConflict));
    check(&with("X-Forwarded-Host", "a.example", "nonsense"), Err(ForwardedRefusal::Malformed));
}

#[test]
fn a_forwarded_that_the_proxy_has_not_made_is_taken_away() {
    let policy = policy(&[FACTS]);
    let check = |name: &'static str, value: &'static str, forwarded: &'static str, ignored: bool| {
        let alone = evaluate(&policy, "127.0.0.1", &[(name, value)]).0;
        let (judged, left) = evaluate(&policy, "127.0.0.1", &[(name, value), ("Forwarded", forwarded)]);
        let expected = alone.map(|alone| Evaluation { forwarded_ignored: ignored, ..alone });
        assert_eq!(judged, expected, "{name}: {value} beside {forwarded}");
        assert_eq!(left.contains(&"Forwarded".to_owned()), !ignored, "{name}: {value} beside {forwarded}");
    };
    check("X-Forwarded-For", "1.2.3.4", "for=1.2.3.4", false);
    check("X-Forwarded-For", "1.2.3.4", "for=unknown", false);
    check("X-Forwarded-Host", "A.example", "host=a.example", false);
    check("X-Forwarded-For", "1.2.3.4", "for=6.6.6.6", true);
    check("X-Forwarded-For", "nonsense", "for=6.6.6.6", true);
    check("X-Forwarded-For", "1.2.3.4", "for=1.2.3.4;host=evil.example", true);
    check("X-Forwarded-For", "1.2.3.4", "proto=https", true);
    check("X-Forwarded-For", "1.2.3.4", "for=2001:db8::7", true);
    check("X-Forwarded-Proto", "http", "proto=https", true);
    check("X-Forwarded-Proto", "https", "for=6.6.6.6;proto=https", true);
    check("X-Forwarded-Port", "444", "for=6.6.6.6", true);
}

#[test]
fn which_way_a_proxy_speaks_is_heard_from_requests_that_have_one_alone() {
    let policy = policy(&[]);
    let mut heard = Heard::default();
    let both = [("X-Forwarded-For", "1.2.3.4"), ("Forwarded", "for=6.6.6.6")];
    let mut hear = |trusted, fields: &[(&str, &str)]| {
        policy.evaluate(trusted, &mut head(fields), &mut heard).map(|judgement| judgement.forwarded_ignored)
    };
    assert_eq!(hear(true, &both), Ok(true));
    assert_eq!(hear(false, &both[1..]), Ok(false), "nobody whose word counts");
    assert_eq!(hear(true, &both), Ok(true));
    assert_eq!(hear(true, &both[..1]), Ok(false));
    assert_eq!(hear(true, &both), Ok(true));
    assert_eq!(hear(true, &both[1..]), Ok(false));
    assert_eq!(hear(true, &both), Err(ForwardedRefusal::ClientConflict), "the other may be the client's");
}

#[test]
fn peers() {
    let fields = [("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "https")];
    let believed = |arguments: &[&str], peer| {
        let (judged, _) = evaluate(&policy(arguments), peer, &fields);
        judged.unwrap().forwarded.is_some()
    };
    for peer in ["127.0.0.1", "::1", "unix"] {
        assert!(believed(&[], peer), "{peer}");
        assert!(!believed(&["--forwarded-allow-ips=none"], peer), "{peer}");
    }
    assert!(!believed(&[], "10.0.0.1") && believed(&["--forwarded-allow-ips=*"], "10.0.0.1"));
    assert!(believed(&["--forwarded-allow-ips=private"], "10.0.0.1"));
    assert!(!believed(&["--forwarded-allow-ips=unix"], "127.0.0.1"));
    assert!(believed(&["--forwarded-allow-ips=10.0.0.1"], "unix"));
}

#[test]
fn what_an_unbelieved_peer_says_of_its_client_is_taken_away() {
    let policy =
        policy(&["--secure-scheme-headers=X-Scheme=https", "--forwarder-headers=Remote-User,OIDC_*"]);
    let fields = [
        ("Forwarded", "for=1.2.3.4;"),
        ("x-forwarded-for", "1.2.3.4"),
        ("X-FORWARDED-ANYTHING", "1"),
        ("X-Real-IP", "1.2.3.4"),
        ("X-Scheme", "https"),
        ("Remote-User", "root"),
        ("REMOTE_USER", "root"),
        ("OIDC-sub", "1"),
        ("OIDC_sub", "1"),
        ("X-Request-ID", "kept"),
        ("CF-Connecting-IP", "kept"),
        ("From", "kept"),
    ];
    let (judged, left) = evaluate(&policy, "10.0.0.1", &fields);
    assert_eq!(judged, Ok(Evaluation { scheme_ignored: true, ..Evaluation::default() }));
    assert_eq!(left, ["X-Request-ID", "CF-Connecting-IP", "From"]);
    let (judged, left) = evaluate(&policy, "10.0.0.1", &[("X-Requested-With", "kept"), ("X-Scheme", "http")]);
    assert_eq!((judged, left), (Ok(Evaluation::default()), vec!["X-Requested-With".to_owned()]));
}

#[test]
fn agreed_names_come_from_believed_peers_as_they_are_spelled() {
    let left = |arguments: &[&str], fields: &[(&str, &str)]| evaluate(&policy(arguments), "::1", fields).1;
    let names = &["--forwarder-headers", "OIDC_CLAIM_*,REMOTE_USER,X-Auth-User"];
    assert_eq!(
        left(names, &[("oidc_claim_sub", "1"), ("REMOTE_USER", "a"), ("X-Auth-User", "b")]),
        ["X-Auth-User", "oidc_claim_sub", "REMOTE_USER"]
    );
    let likes =
        [("OIDC-CLAIM-sub", "1"), ("OIDC-CLAIM_sub", "2"), ("Remote-User", "3"), ("X_AUTH_USER", "4")];
    assert_eq!(left(names, &likes), [""; 0]);
    assert_eq!(left(names, &[("REMOTE_USER2", "1"), ("X_Other", "1")]), [""; 0]);
    let (judged, _) = evaluate(&policy(names), "::1", &[("OIDC_CLAIM_a-b", "1"), ("OIDC_CLAIM_A_B", "1")]);
    assert_eq!(judged, Err(ForwardedRefusal::ValueConflict));
    let any = &["--forwarder-headers=*"];
    let fields =
        [("X_Y", "1"), ("X-Y", "2"), ("X_Forwarded_For", "3"), ("Content_Length", "4"), ("X-Z", "5")];
    assert_eq!(left(any, &fields), ["X-Z", "X_Y"]);
    assert_eq!(evaluate(&policy(any), "10.0.0.1", &fields).1, ["X-Y", "X-Z"]);
}

#[test]
fn script_names() {
    let script = |value: &str| {
        told(&[], &[("SCRIPT_NAME", value)]).map(|told| told.script_name.map(|path| path.into_vec()))
    };
    assert_eq!(script("/shop"), Ok(Some(b"/shop".to_vec())));
    assert_eq!(script("/"), Ok(Some(Vec::new())));
    assert_eq!(script("shop"), Err(ForwardedRefusal::Malformed));
    assert_eq!(told(&["--forwarder-headers="], &[("SCRIPT_NAME", "/x")]), Ok(Forwarded::default()));
    assert_eq!(told(&[], &[("Script-Name", "/x")]), Ok(Forwarded::default()));
    let (judged, left) = evaluate(&policy(&[]), "10.0.0.1", &[("SCRIPT_NAME", "/x")]);
    assert_eq!((judged, left.len()), (Ok(Evaluation::default()), 0));
}

#[test]
fn underscores() {
    let fields =
        [("X_Y", "1"), ("X-Y", "2"), ("X_Forwarded_For", "6.6.6.6"), ("Transfer_Encoding", "chunked")];
    for peer in ["127.0.0.1", "10.0.0.1"] {
        let with = |word| evaluate(&policy(&["--header-map", word]), peer, &fields);
        assert_eq!(with("drop"), (Ok(Evaluation::default()), vec!["X-Y".to_owned()]));
        assert_eq!(with("refuse").0, Err(ForwardedRefusal::Underscore));
        assert_eq!(with("dangerous"), (Ok(Evaluation::default()), vec!["X-Y".to_owned(), "X_Y".to_owned()]));
    }
    let named = policy(&["--header-map=refuse", "--forwarder-headers=X_Y"]);
    assert!(evaluate(&named, "::1", &fields[..1]).0.is_ok());
    assert_eq!(evaluate(&named, "10.0.0.1", &fields[..1]).0, Err(ForwardedRefusal::Underscore));
}

#[test]
fn presets() {
    let gclb = ["--behind=gclb"];
    let walk = |value| client(&gclb, &[("X-Forwarded-For", value), ("X-Forwarded-Proto", "https")]);
    assert_eq!(walk("6.6.6.6, 203.0.113.7, 198.51.100.1"), "203.0.113.7");
    assert_eq!(walk("198.51.100.1"), "-");
    let fields = [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-Proto", "https")];
    assert_eq!(told(&gclb, &fields).unwrap().scheme, Some(Scheme::Https));
    assert!(policy(&gclb).trusts(Peer::Inet(([35, 191, 9, 9], 1).into())));
    let cloudflare = ["--behind=cloudflare", "--forwarded-allow-ips=127.0.0.1"];
    let fields = [("X-Forwarded-For", "6.6.6.6"), ("CF-Connecting-IP", "203.0.113.7")];
    assert_eq!(client(&cloudflare, &fields), "203.0.113.7");
    assert_eq!(client(&cloudflare, &fields[..1]), "-");
    assert_eq!(client(&cloudflare, &[fields[1], fields[1]]), "-");
    assert_eq!(evaluate(&policy(&cloudflare), "10.0.0.1", &fields).1, [""; 0]);
}

/// Names that tell of the client, and likes of them.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Forwarded-Protocol",
            "X-Forwarded-Ssl",
            "X-Forwarded-Host",
            "X-Forwarded-Port",
            "X-Forwarded-Prefix",
            "X-Real-IP",
            "SCRIPT_NAME",
            "X_Forwarded_For",
            "X_FORWARDED-PROTO",
            "CF-Connecting-IP",
            "REMOTE_USER",
        ])
        .prop_map(str::to_owned),
        "[A-Za-z_-]{1,12}",
    ]
}

/// Whether a field is the parser's affair.
fn is_control(name: &str) -> bool {
    ["host", "expect", "content-length", "transfer-encoding"].contains(&&*name.to_ascii_lowercase())
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{1,3}(\\.[0-9]{1,3}){3}(, 127\\.0\\.0\\.1)?",
        Just("https".to_owned()),
        Just("on".to_owned()),
        Just("/evil".to_owned()),
        Just("for=6.6.6.6;proto=https;host=evil".to_owned()),
        "[ -~]{0,24}",
    ]
}

proptest! {
    #[test]
    fn an_unbelieved_peer_has_no_say(
        fields in prop::collection::vec((name(), value()), 0..12),
        map in prop::sample::select(vec!["drop", "dangerous"]),
        by_name in any::<bool>(),
    ) {
        let more = if by_name { "REMOTE_USER,X_*" } else { "SCRIPT_NAME" };
        let policy = policy(&[FACTS, "--header-map", map, "--forwarder-headers", more]);
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| !is_control(name))
            .collect();
        let (judged, left) = evaluate(&policy, "203.0.113.9", &fields);
        prop_assert_eq!(judged.unwrap().forwarded, None);
        for name in left {
            let key = name.to_ascii_lowercase().replace('_', "-");
            prop_assert!(!key.starts_with("x-forwarded-") && key != "forwarded" && key != "x-real-ip", "{}", name);
            prop_assert!(!by_name || (key != "remote-user" && !key.starts_with("x-")), "{}", name);
        }
    }

    #[test]
    fn what_stands_left_of_an_unbelieved_address_changes_nothing(
        left in prop::collection::vec("[ -+--~]{0,16}", 0..4),
        own in 0usize..3,
    ) {
        let policy = ["--forwarded-allow-ips=127.0.0.1,10.0.0.0/8"];
        let mut entries = left;
        entries.push("203.0.113.9".to_owned());
        entries.extend((0..own).map(|number| format!("10.0.0.{number}")));
        let list = entries.join(",");
        prop_assert_eq!(client(&policy, &[("X-Forwarded-For", list.trim())]), "203.0.113.9");
    }

    #[test]
    fn nothing_panics(fields in prop::collection::vec((name(), value()), 0..8), forwarded in "[ -~]{0,48}") {
        let mut fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        fields.retain(|(name, _)| !is_control(name));
        fields.push(("Forwarded", &forwarded));
        let _ = evaluate(&policy(&[FACTS, "--forwarder-headers=*"]), "127.0.0.1", &fields);
    }
}
