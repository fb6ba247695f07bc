//! What becomes of headers under a route's rules: set, set if absent, removed.

use portico_config::{HeaderAction, HeaderRule};

/// The rules of one route for the headers of responses, or of requests. The one that a route inherits counts where
/// it has none of its own for that name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderPlan {
    rules: Vec<HeaderRule>,
}

/// A header that means something over HTTPS alone: RFC 6797, section 7.2, forbids to send it otherwise.
const HTTPS_ONLY: &str = "strict-transport-security";

impl HeaderPlan {
    /// Adds the rules of a route that contains this one: those that this one has count already.
    pub(crate) fn inherit(&mut self, rules: &[HeaderRule]) {
        let own = self.rules.len();
        for rule in rules {
            let is_said = self.rules[..own].iter().any(|own| own.name.eq_ignore_ascii_case(&rule.name));
            if !is_said {
                self.rules.push(rule.clone());
            }
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the header `name`, which is there, is taken out or replaced.
    pub fn removes(&self, name: &[u8]) -> bool {
        self.rules.iter().any(|rule| {
            rule.name.as_bytes().eq_ignore_ascii_case(name)
                && !matches!(rule.action, HeaderAction::SetIfAbsent(_))
        })
    }

    /// The headers that are added: `has` tells which are there. It is asked before any is taken out.
    pub fn added(&self, https: bool, has: impl Fn(&str) -> bool) -> impl Iterator<Item = (&str, &str)> {
        self.rules.iter().filter_map(move |rule| {
            let value = match &rule.action {
                HeaderAction::Set(value) => value,
                HeaderAction::SetIfAbsent(value) if !has(&rule.name) => value,
                HeaderAction::SetIfAbsent(_) | HeaderAction::Remove => return None,
            };
            let is_sent = https || !rule.name.eq_ignore_ascii_case(HTTPS_ONLY);
            is_sent.then_some((rule.name.as_str(), value.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rules: &[(&str, HeaderAction)]) -> HeaderPlan {
        let mut plan = HeaderPlan::default();
        plan.inherit(&self::rules(rules));
        plan
    }

    fn rules(rules: &[(&str, HeaderAction)]) -> Vec<HeaderRule> {
        let rule = |(name, action): &(&str, HeaderAction)| HeaderRule {
            name: (*name).to_owned(),
            action: action.clone(),
        };
        rules.iter().map(rule).collect()
    }

    fn set(value: &str) -> HeaderAction {
        HeaderAction::Set(value.to_owned())
    }

    #[test]
    fn headers_are_set_set_if_absent_and_taken_out() {
        let plan = plan(&[
            ("X-A", set("1")),
            ("X-B", HeaderAction::SetIfAbsent("2".to_owned())),
            ("Server", HeaderAction::Remove),
        ]);
        assert!(plan.removes(b"x-a") && plan.removes(b"SERVER") && !plan.removes(b"x-b"));
        let added = |has: &str| plan.added(false, |name| name == has).collect::<Vec<_>>();
        assert_eq!(added(""), [("X-A", "1"), ("X-B", "2")]);
        assert_eq!(added("X-B"), [("X-A", "1")]);
    }

    /// RFC 6797, section 7.2.
    #[test]
    fn hsts_is_sent_over_https_alone() {
        let plan = plan(&[("strict-Transport-Security", set("max-age=1"))]);
        assert_eq!(plan.added(false, |_| false).count(), 0);
        assert_eq!(plan.added(true, |_| false).count(), 1);
        assert!(plan.removes(b"Strict-Transport-Security"), "the application's is taken out all the same");
    }

    #[test]
    fn names_are_inherited_one_by_one() {
        let mut plan = plan(&[("X-A", set("own")), ("X-C", HeaderAction::Remove)]);
        plan.inherit(&rules(&[("x-a", set("theirs")), ("X-B", set("theirs")), ("x-c", set("theirs"))]));
        plan.inherit(&rules(&[("X-B", set("farther"))]));
        let added: Vec<_> = plan.added(false, |_| false).collect();
        assert_eq!(added, [("X-A", "own"), ("X-B", "theirs")]);
    }
}
