//! Values of nginx's directives: times, rates, addresses, and where redirects lead.

use ipnet::IpNet;
use toml::Value as Toml;

use super::syntax::NginxDirective;

/// Seconds of a time such as `60`, `1h30m`, `30d`.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let (mut total, mut number, mut letters) = (0_i64, String::new(), text.chars().peekable());
    while let Some(letter) = letters.next() {
        if letter.is_ascii_digit() {
            number.push(letter);
            continue;
        }
        let count: i64 = std::mem::take(&mut number).parse().ok()?;
        let unit = match letter {
            's' => 1,
            'm' if letters.peek() == Some(&'s') => return None,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            'M' => 30 * 86_400,
            'y' => 365 * 86_400,
            _ => return None,
        };
        total = total.checked_add(count.checked_mul(unit)?)?;
    }
    if number.is_empty() {
        return (!text.is_empty()).then_some(total);
    }
    total.checked_add(number.parse().ok()?)
}

/// A size, which is written the same way here.
pub(super) fn size(text: &str) -> Toml {
    text.parse::<i64>().map_or_else(|_| Toml::from(text.to_ascii_lowercase()), Toml::Integer)
}

/// Whose requests are served, and whose are not: `None` for all and nobody.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AccessRules {
    pub allow: Option<Vec<String>>,
    pub deny: Vec<String>,
}

/// `allow` and `deny` in their order, of which the first that fits counts.
///
/// # Errors
/// Why a route cannot say it.
pub(super) fn access(rules: &[&NginxDirective]) -> Result<AccessRules, &'static str> {
    let (mut allow, mut deny): (Vec<IpNet>, Vec<IpNet>) = (Vec::new(), Vec::new());
    let mut others = true;
    for rule in rules {
        let is_allowed = rule.name == "allow";
        if rule.first() == "all" {
            others = is_allowed;
            break;
        }
        let network = network(rule.first()).ok_or("it names neither an address nor a network")?;
        // Of a route both count. In nginx what stands first does.
        let other = if is_allowed { &deny } else { &allow };
        if !is_allowed && other.iter().any(|other| other.contains(&network) || network.contains(other)) {
            return Err("an address is allowed within a network that is denied behind it");
        }
        if is_allowed { allow.push(network) } else { deny.push(network) }
    }
    let texts = |networks: Vec<IpNet>| networks.iter().map(shown).collect::<Vec<_>>();
    Ok(AccessRules { allow: (!others).then(|| texts(allow)), deny: texts(deny) })
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

fn shown(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

/// `limit_req` with the zone that it names, as the value of `limit`, and what is different of it.
///
/// # Errors
/// Why a route cannot say it.
pub(super) fn limit(
    directive: &NginxDirective,
    zones: &[&NginxDirective],
    dry_run: bool,
) -> Result<(Toml, Vec<&'static str>), &'static str> {
    let argument = |directive: &NginxDirective, name: &str| {
        let start = format!("{name}=");
        directive.arguments.iter().find_map(|it| it.strip_prefix(&start).map(str::to_owned))
    };
    let name = argument(directive, "zone").ok_or("it names no zone")?;
    let is_named = |zone: &&&NginxDirective| {
        argument(zone, "zone").is_some_and(|zone| zone.split(':').next() == Some(&name))
    };
    let zone = zones.iter().find(is_named).ok_or("its limit_req_zone is not in this file")?;
    let key = zone.first();
    let by = match key {
        "$binary_remote_addr" | "$remote_addr" => None,
        _ => Some(key.strip_prefix("$http_").ok_or("it counts neither by client nor by a header")?),
    };
    let rate = argument(zone, "rate").ok_or("its zone has no rate")?;
    let (number, unit) = rate.split_once("r/").ok_or("its zone has no rate")?;
    let burst: i64 = argument(directive, "burst").map_or(Ok(0), |it| it.parse()).map_err(|_| "its burst")?;
    let rate = format!("{number}/{unit}");
    let mut remarks = Vec::new();
    if burst > 0 && !directive.arguments.iter().any(|it| it == "nodelay") {
        remarks.push("nginx delays the requests of the burst, Portico lets them pass at once");
    }
    // nginx counts those beyond the first.
    let burst = burst.saturating_add(1);
    if by.is_none() && !dry_run {
        return Ok((Toml::from(format!("{rate} burst {burst}")), remarks));
    }
    let mut table = toml::Table::new();
    table.insert("rate".to_owned(), rate.into());
    table.insert("burst".to_owned(), burst.into());
    if let Some(header) = by {
        table.insert("by".to_owned(), format!("header:{}", header.replace('_', "-")).into());
    }
    if dry_run {
        table.insert("dry_run".to_owned(), true.into());
    }
    Ok((Toml::Table(table), remarks))
}

/// Where a redirect leads, with `{path}` for the path and this host for `$host`; `None` where it has other
/// variables.
pub(super) fn target(text: &str, host: Option<&str>, scheme: &str) -> Option<String> {
    // The query is kept in any case.
    let mut to = text.trim_end_matches('?').replace("$is_args$args", "").replace("?$args", "");
    to = to.replace("?$query_string", "").replace("$scheme", scheme);
    for path in ["$request_uri", "$document_uri", "$uri"] {
        to = to.replace(path, "{path}");
    }
    for name in ["$host", "$http_host", "$server_name"] {
        if to.contains(name) {
            to = to.replace(name, host?);
        }
    }
    Some(to.replace("/{path}", "{path}"))
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            ("60", Some(60)),
            ("30d", Some(2_592_000)),
            ("1h30m", Some(5400)),
            ("1m30", Some(90)),
            ("1y", Some(31_536_000)),
            ("500ms", None),
            ("max", None),
            ("", None),
            ("d", None),
            ("99999999999999999999", None),
            ("9223372036854775807y", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn addresses() {
        let check = |text: &str| {
            let rules = parse(text, "").unwrap();
            access(&rules.iter().collect::<Vec<_>>())
                .map(|rules| (rules.allow.map(|it| it.join(" ")), rules.deny))
        };
        let deny = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        for (text, allow, denied) in [
            ("allow 10.0.0.0/8; allow ::1; deny all;", Some("10.0.0.0/8 ::1"), &[][..]),
            ("deny 192.0.2.1;", None, &["192.0.2.1"]),
            ("deny 10.0.0.1; allow 10.0.0.0/8; deny all;", Some("10.0.0.0/8"), &["10.0.0.1"]),
            ("deny all;", Some(""), &[]),
            ("allow all;", None, &[]),
            ("allow 10.0.0.0/8;", None, &[]),
            ("deny 10.0.0.1; allow all; deny all;", None, &["10.0.0.1"]),
        ] {
            assert_eq!(check(text), Ok((allow.map(str::to_owned), deny(denied))), "{text}");
        }
        assert!(check("allow 10.0.0.1; deny 10.0.0.0/8;").is_err());
        assert!(check("allow unix:; deny all;").is_err());
    }

    #[test]
    fn rates() {
        let check = |zone: &str, limit_req: &str, dry_run: bool| {
            let (zone, directive) = (parse(zone, "").unwrap(), parse(limit_req, "").unwrap());
            limit(&directive[0], &zone.iter().collect::<Vec<_>>(), dry_run)
                .map(|(value, _)| value.to_string())
        };
        let zone = "limit_req_zone $binary_remote_addr zone=l:10m rate=5r/m;";
        for (limit_req, expected) in [
            ("limit_req zone=l burst=5 nodelay;", "\"5/m burst 6\""),
            ("limit_req zone=l;", "\"5/m burst 1\""),
        ] {
            assert_eq!(check(zone, limit_req, false).as_deref(), Ok(expected));
        }
        let by_header = "limit_req_zone $http_x_api_key zone=l:10m rate=5r/s;";
        let written = check(by_header, "limit_req zone=l;", true).unwrap();
        for part in ["rate = \"5/s\"", "burst = 1", "by = \"header:x-api-key\"", "dry_run = true"] {
            assert!(written.contains(part), "{part} in {written}");
        }
        for (zone, limit_req) in [
            (zone, "limit_req zone=other;"),
            ("limit_req_zone $server_name zone=l:1m rate=1r/s;", "limit_req zone=l;"),
            ("limit_req_zone $remote_addr zone=l:1m;", "limit_req zone=l;"),
        ] {
            assert!(check(zone, limit_req, false).is_err(), "{zone}");
        }
    }

    #[test]
    fn redirects() {
        for (text, host, expected) in [
            ("https://$host$request_uri", Some("a.example"), Some("https://a.example{path}")),
            ("https://b.example$request_uri", None, Some("https://b.example{path}")),
            ("$scheme://b.example/$uri?", None, Some("https://b.example{path}")),
            ("/new$is_args$args", None, Some("/new")),
            ("https://$host/", None, None),
        ] {
            assert_eq!(target(text, host, "https").as_deref(), expected, "{text}");
        }
    }
}
