//! What is asked: from method and path to a [`PageRoute`].

use crate::shown_server::PageAction;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageRoute {
    /// The page.
    Page,
    /// What it shows.
    State,
    /// The settings that somebody has set.
    Settings,
    /// The stacks of all threads. It is a POST, since the workers work for it: no link causes it.
    GroupedStacks,
    /// Something that is done to the server.
    Act(PageAction),
}

/// The reason for which there is no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPageRoute {
    /// There is nothing of that name.
    Unknown,
    /// There is, and these methods are for it.
    Method(&'static str),
}

const READ: &str = "GET, HEAD";
const ACT: &str = "POST";

/// The route of a request.
pub(crate) fn route(method: &[u8], path: &[u8]) -> Result<PageRoute, NoPageRoute> {
    let path =
        std::str::from_utf8(path).ok().and_then(|path| path.strip_prefix('/')).ok_or(NoPageRoute::Unknown)?;
    let parts: Vec<&str> = path.split('/').collect();
    let (route, methods) = match parts[..] {
        [""] => (PageRoute::Page, READ),
        ["state.json"] => (PageRoute::State, READ),
        ["settings.json"] => (PageRoute::Settings, READ),
        ["stacks"] => (PageRoute::GroupedStacks, ACT),
        ["reload"] => (PageRoute::Act(PageAction::Reload), ACT),
        ["workers", "add"] => (PageRoute::Act(PageAction::AddWorker), ACT),
        ["workers", "remove"] => (PageRoute::Act(PageAction::RemoveWorker), ACT),
        ["logs", "reopen"] => (PageRoute::Act(PageAction::ReopenLogs), ACT),
        ["profile"] => (PageRoute::Act(PageAction::Profile), ACT),
        ["slots", number, "replace"] => {
            (PageRoute::Act(PageAction::Replace(number.parse().map_err(|_| NoPageRoute::Unknown)?)), ACT)
        }
        ["requests", id, "cancel"] => {
            (PageRoute::Act(PageAction::Cancel(id.parse().map_err(|_| NoPageRoute::Unknown)?)), ACT)
        }
        _ => return Err(NoPageRoute::Unknown),
    };
    let is_allowed = methods.split(", ").any(|allowed| allowed.as_bytes() == method);
    if is_allowed { Ok(route) } else { Err(NoPageRoute::Method(methods)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_has_a_path() {
        let post = |path: &str| route(b"POST", path.as_bytes());
        for (path, action) in [
            ("/reload", PageAction::Reload),
            ("/workers/add", PageAction::AddWorker),
            ("/workers/remove", PageAction::RemoveWorker),
            ("/logs/reopen", PageAction::ReopenLogs),
            ("/profile", PageAction::Profile),
            ("/slots/31/replace", PageAction::Replace(31)),
            ("/requests/2-1-48/cancel", PageAction::Cancel("2-1-48".parse().unwrap())),
        ] {
            assert_eq!(post(path), Ok(PageRoute::Act(action)), "{path}");
            assert_eq!(route(b"GET", path.as_bytes()), Err(NoPageRoute::Method("POST")), "{path}: a link");
        }
        assert_eq!(post("/stacks"), Ok(PageRoute::GroupedStacks));
        assert_eq!(route(b"GET", b"/"), Ok(PageRoute::Page));
        assert_eq!(route(b"HEAD", b"/state.json"), Ok(PageRoute::State));
        assert_eq!(route(b"GET", b"/settings.json"), Ok(PageRoute::Settings));
        assert_eq!(post("/state.json"), Err(NoPageRoute::Method("GET, HEAD")));
    }

    #[test]
    fn nothing_else_is_there() {
        let others =
            ["/x", "//", "/state.json/", "/slots/x/replace", "/slots//replace", "/slots/-1/replace", "*"];
        for path in
            others.into_iter().chain(["/slots/4294967296/replace", "/requests/1-2/cancel", "/../state.json"])
        {
            assert_eq!(route(b"GET", path.as_bytes()), Err(NoPageRoute::Unknown), "{path}");
        }
        assert_eq!(route(b"GET", b"/\xff"), Err(NoPageRoute::Unknown));
    }
}
