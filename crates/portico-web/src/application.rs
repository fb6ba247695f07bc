//! The [`Application`] that answers the page's requests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use portico_insight::{FrequentStack, Sentence, ServerRates, Snapshot};
use portico_proto::{Fields, ResponseHead};
use portico_server::{Application, Request, Responder};
use serde::Serialize;
use serde_json::Value;

use crate::access::{Access, PageRefusal};
use crate::page::{PAGE, policy};
use crate::routes::{NoPageRoute, PageRoute, route};
use crate::shown_server::{GroupedStacks, PageAction, ShownServer};

/// Answers requests for one server that is shown.
pub(crate) struct WebApplication {
    server: Arc<dyn ShownServer>,
    access: Access,
    policy: String,
    trace_url: Option<String>,
    past: Mutex<Past>,
}

/// What has been seen of the server.
#[derive(Default)]
struct Past {
    /// Snapshots, about one a second, of the last [`WINDOW`].
    snapshots: VecDeque<Snapshot>,
    /// The stack of most threads, and when that was.
    stacks: Option<(Instant, FrequentStack)>,
}

/// The time over which rates are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// Snapshots that are kept for that: one a second, and some room.
const SNAPSHOTS_MAX: usize = 16;

/// How long it may be said where the threads are after somebody has looked.
const STACKS_COUNT_FOR: Duration = Duration::from_secs(30);

/// What the page shows.
#[derive(Serialize)]
struct PageState<'a> {
    #[serde(flatten)]
    snapshot: &'a Snapshot,
    sentence: Sentence,
    may_act: bool,
    actions: &'static [&'static str],
    trace_url: Option<&'a str>,
}

/// What an error says, as JSON.
#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
}

/// A response before the headers that all have.
struct PageReply {
    status: u16,
    media_type: &'static str,
    body: Vec<u8>,
    fields: Vec<(&'static str, String)>,
}

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// Headers of every response: nobody keeps it, frames it, guesses its type or is told where it was.
const ALWAYS: [(&str, &str); 5] = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
];

impl WebApplication {
    pub(crate) fn new(server: Arc<dyn ShownServer>, access: Access, trace_url: Option<String>) -> Self {
        Self { server, access, policy: policy(), trace_url, past: Mutex::default() }
    }

    /// The token that lets one browser in.
    pub(crate) fn token(&self) -> &str {
        self.access.token()
    }

    fn reply(&self, request: &Request) -> PageReply {
        let head = request.head();
        if let Err(refusal) = self.access.check_sender(head) {
            return PageReply::refused(refusal);
        }
        let route = match route(head.method(), head.path()) {
            Ok(route) => route,
            Err(NoPageRoute::Unknown) => return PageReply::failed(404, "there is nothing of that name"),
            Err(NoPageRoute::Method(methods)) => {
                let reply = PageReply::failed(405, "this method is not for it");
                return reply.with("Allow", methods.to_owned());
            }
        };
        if route == PageRoute::Page
            && let Some(token) = token_in(head.query())
        {
            return match self.access.exchange(token) {
                // The page itself, not a redirect to it: after a click in another page a browser would send no
                // strict cookie with the next request. The script removes the token from the address.
                Ok(cookie) => self.page().with("Set-Cookie", cookie),
                Err(_) if self.access.check_session(head).is_ok() => self.page(),
                Err(refusal) => PageReply::refused(refusal),
            };
        }
        if let Err(refusal) = self.access.check_session(head) {
            return PageReply::refused(refusal);
        }
        match route {
            PageRoute::Page => self.page(),
            PageRoute::State => self.state(),
            PageRoute::Settings => self.settings(),
            PageRoute::GroupedStacks => self.stacks(),
            PageRoute::Act(action) => self.act(action),
        }
    }

    fn page(&self) -> PageReply {
        let (media_type, body) = (HTML, PAGE.as_bytes().to_vec());
        let policy = vec![("Content-Security-Policy", self.policy.clone())];
        PageReply { status: 200, media_type, body, fields: policy }
    }

    fn state(&self) -> PageReply {
        let snapshot = self.server.snapshot();
        let sentence = self.sentence(&snapshot);
        let actions = self.server.actions();
        PageReply::json(&PageState {
            snapshot: &snapshot,
            sentence,
            may_act: true,
            actions,
            trace_url: self.trace_url.as_deref(),
        })
    }

    fn sentence(&self, now: &Snapshot) -> Sentence {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let rates = past.rates(now);
        let stacks = past.stacks.as_ref().filter(|(at, _)| at.elapsed() < STACKS_COUNT_FOR);
        Sentence::of(now, rates.as_ref(), stacks.map(|(_, stack)| stack))
    }

    fn settings(&self) -> PageReply {
        // Read and written anew: whatever comes from another process leaves here as JSON.
        let settings = self.server.settings().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        PageReply::json(&settings.unwrap_or_else(|| Value::Array(Vec::new())))
    }

    fn stacks(&self) -> PageReply {
        match self.server.stacks() {
            Ok(stacks) => {
                let frequent = most_frequent(&stacks).map(|stack| (Instant::now(), stack));
                self.past.lock().unwrap_or_else(PoisonError::into_inner).stacks = frequent;
                PageReply::json(&stacks)
            }
            Err(error) => PageReply::failed(503, &error),
        }
    }

    fn act(&self, action: PageAction) -> PageReply {
        if !self.server.actions().contains(&action.word()) {
            return PageReply::failed(404, "this server cannot do that");
        }
        match self.server.perform(action) {
            Ok(done) => PageReply::json(&done),
            Err(error) => PageReply::failed(409, &error),
        }
    }
}

impl Application for WebApplication {
    fn call(&self, request: Request, responder: Responder) {
        let PageReply { status, media_type, body, fields } = self.reply(&request);
        let mut head = ResponseHead { status, length: Some(body.len() as u64), ..ResponseHead::default() };
        head.fields = Fields::new();
        head.fields.push(b"Content-Type", media_type.as_bytes());
        ALWAYS.iter().for_each(|(name, value)| head.fields.push(name.as_bytes(), value.as_bytes()));
        fields.iter().for_each(|(name, value)| head.fields.push(name.as_bytes(), value.as_bytes()));
        responder.respond_shared(&head, body.into());
    }
}

impl Past {
    /// What the server did in the last [`WINDOW`], as far as it has been seen; `now` is seen from now on.
    fn rates(&mut self, now: &Snapshot) -> Option<ServerRates> {
        let age = |seen: &Snapshot| now.uptime_seconds - seen.uptime_seconds;
        // Several pages may be open: one snapshot a second is enough. A server of another time is another server.
        if self.snapshots.back().is_some_and(|last| age(last) < 0.0 || last.pid != now.pid) {
            self.snapshots.clear();
        }
        while self.snapshots.front().is_some_and(|first| age(first) > WINDOW.as_secs_f64() + 1.0)
            || self.snapshots.len() >= SNAPSHOTS_MAX
        {
            self.snapshots.pop_front();
        }
        let rates = self.snapshots.front().and_then(|first| ServerRates::between(first, now));
        if self.snapshots.back().is_none_or(|last| age(last) > 0.8) {
            self.snapshots.push_back(now.clone());
        }
        rates
    }
}

impl PageReply {
    fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self { status: 200, media_type: JSON, body, fields: Vec::new() },
            Err(_) => Self::failed(500, "this cannot be written as JSON"),
        }
    }

    fn failed(status: u16, error: &str) -> Self {
        let body = serde_json::to_vec(&Failure { error }).unwrap_or_default();
        Self { status, media_type: JSON, body, fields: Vec::new() }
    }

    fn refused(refusal: PageRefusal) -> Self {
        Self::failed(refusal.status(), refusal.told())
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.fields.push((name, value));
        self
    }
}

fn token_in(query: &[u8]) -> Option<&[u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(b"token="))
}

/// Where most of the threads are that answer requests.
fn most_frequent(stacks: &GroupedStacks) -> Option<FrequentStack> {
    let group = stacks.groups.iter().max_by_key(|group| group.requests.len())?;
    let threads = group.requests.len() as u64;
    (threads > 0).then(|| FrequentStack::of(&group.frames, threads))
}
