//! The page over a real socket: who gets in, what they may do, and what each response says to a browser.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use portico_config::PageOrder;
use portico_insight::{ReadTime, Snapshot};
use portico_supervisor::{Scoreboard, SupervisorField, SupervisorState};
use portico_web::{Done, GroupedStacks, PageAction, PageServer, ShownServer};

/// A server that notes what is done to it.
struct Noting {
    board: Scoreboard,
    done: Mutex<Vec<PageAction>>,
}

impl ShownServer for Noting {
    fn snapshot(&self) -> Snapshot {
        Snapshot::read(&self.board, ReadTime::now())
    }

    fn stacks(&self) -> Result<GroupedStacks, String> {
        Err("no worker told".to_owned())
    }

    fn settings(&self) -> Option<String> {
        Some("[{\"name\": \"workers\", \"value\": \"2\", \"origin\": \"default\"}]".to_owned())
    }

    fn actions(&self) -> &'static [&'static str] {
        &["reload", "cancel", "add"]
    }

    fn perform(&self, action: PageAction) -> Result<Done, String> {
        self.done.lock().unwrap().push(action);
        match action {
            PageAction::AddWorker => Err("it stops".to_owned()),
            _ => Ok(Done { told: "Reloaded.".to_owned(), collapsed: None }),
        }
    }
}

struct Page {
    serving: PageServer,
    server: Arc<Noting>,
    /// `127.0.0.1:PORT`
    host: String,
    token: String,
}

impl Page {
    fn start() -> Self {
        let board = Scoreboard::create(1, 1).unwrap();
        board.set(SupervisorField::State, SupervisorState::Serving as u64);
        let trace_url = Some("https://traces.example/{trace_id}".to_owned());
        let order = PageOrder { trace_url, ..PageOrder::default() };
        let server = Arc::new(Noting { board, done: Mutex::default() });
        let serving = PageServer::start(Arc::clone(&server) as Arc<dyn ShownServer>, order);
        let serving = serving.unwrap();
        let (host, token) = serving.url().strip_prefix("http://").unwrap().split_once("/?token=").unwrap();
        let (host, token) = (host.to_owned(), token.to_owned());
        Self { serving, server, host, token }
    }

    /// The response to `METHOD TARGET` with these fields beside Host.
    fn ask(&self, request: &str, fields: &[&str]) -> Response {
        self.ask_host(request, &self.host, fields)
    }

    fn ask_host(&self, request: &str, host: &str, fields: &[&str]) -> Response {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let text = format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        Response { head: head.to_owned(), body: body.to_owned() }
    }

    /// The field with which a browser that was let in comes again.
    fn cookie(&self) -> String {
        let response = self.ask(&format!("GET /?token={}", self.token), &[]);
        assert_eq!(response.status(), "200");
        let cookie = response.field("Set-Cookie").unwrap();
        format!("Cookie: {}", cookie.split(';').next().unwrap())
    }

    fn done(&self) -> Vec<PageAction> {
        self.server.done.lock().unwrap().clone()
    }
}

struct Response {
    head: String,
    body: String,
}

impl Response {
    fn status(&self) -> &str {
        &self.head[9..12]
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

#[test]
fn a_browser_is_let_in_once() {
    let page = Page::start();
    assert_eq!(page.ask("GET /", &[]).status(), "401");
    let first = page.ask(&format!("GET /?token={}", page.token), &[]);
    assert_eq!(first.status(), "200");
    assert!(first.body.starts_with("<!doctype html>"));
    let set = first.field("Set-Cookie").unwrap();
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{set}");
    let cookie = format!("Cookie: {}", set.split(';').next().unwrap());
    let again = page.ask(&format!("GET /?token={}", page.token), &[]);
    assert_eq!((again.status(), again.field("Set-Cookie")), ("403", None));
    let reloaded = page.ask(&format!("GET /?token={}", page.token), &[&cookie]);
    assert_eq!((reloaded.status(), reloaded.field("Set-Cookie")), ("200", None));
    assert_eq!(page.ask("GET /", &[&cookie]).status(), "200");
}

#[test]
fn a_wrong_token_uses_the_right_one_not_up() {
    let page = Page::start();
    for token in ["", "x", &page.token[1..], &format!("{}0", page.token), &page.token.to_uppercase()] {
        assert_eq!(page.ask(&format!("GET /?token={token}"), &[]).status(), "403", "{token}");
    }
    assert!(page.cookie().starts_with("Cookie: portico-"));
}

#[test]
fn nothing_is_shown_without_the_cookie() {
    let page = Page::start();
    let cookie = page.cookie();
    let forged = format!("{}0", &cookie[..cookie.len() - 1]);
    for request in [
        "GET /state.json",
        "GET /settings.json",
        "POST /stacks",
        "POST /reload",
        "POST /requests/0-1-2/cancel",
    ] {
        let method = page.ask(request, &["X-Portico: 1"]);
        assert_eq!(method.status(), "401", "{request}");
        assert!(!method.body.contains("serving"), "{}", method.body);
        let is_changed = forged != cookie;
        assert!(!is_changed || page.ask(request, &["X-Portico: 1", &forged]).status() == "401");
    }
    assert_eq!(page.done(), []);
}

#[test]
fn a_name_that_was_made_to_lead_here_is_refused() {
    let page = Page::start();
    let cookie = page.cookie();
    for host in ["evil.example", "127.0.0.1.evil.example", "192.0.2.1"] {
        for request in ["GET /", "GET /state.json", "POST /reload"] {
            let response = page.ask_host(request, host, &[&cookie, "X-Portico: 1"]);
            assert_eq!(response.status(), "421", "{request} of {host}");
        }
    }
    assert_eq!(page.ask_host("GET /state.json", "localhost:9000", &[&cookie]).status(), "200", "a tunnel");
    assert_eq!(page.done(), []);
}

#[test]
fn another_page_acts_on_nothing() {
    let page = Page::start();
    let cookie = page.cookie();
    let own = format!("Origin: http://{}", page.host);
    for fields in [
        &[][..],
        &["X-Portico: 1", "Origin: http://evil.example"],
        &["X-Portico: 1", "Origin: null"],
        &["X-Portico: 1", "Sec-Fetch-Site: cross-site"],
        &["X-Portico: 1", "Sec-Fetch-Site: same-site"],
        &[&own, "Sec-Fetch-Site: same-origin"],
    ] {
        let fields: Vec<&str> = fields.iter().copied().chain([cookie.as_str()]).collect();
        assert_eq!(page.ask("POST /reload", &fields).status(), "403", "{fields:?}");
    }
    assert_eq!(page.ask("GET /state.json", &[&cookie, "Sec-Fetch-Site: cross-site"]).status(), "403");
    let link = page.ask("GET /reload", &[&cookie]);
    assert_eq!((link.status(), link.field("Allow")), ("405", Some("POST")));
    assert_eq!(page.done(), []);
    let fields = [&*own, "X-Portico: 1", "Sec-Fetch-Site: same-origin", &cookie];
    let response = page.ask("POST /reload", &fields);
    assert_eq!((response.status(), response.body.as_str()), ("200", "{\"told\":\"Reloaded.\"}"));
    assert_eq!(page.done(), [PageAction::Reload]);
}

#[test]
fn each_response_says_that_it_is_private() {
    let page = Page::start();
    let cookie = page.cookie();
    for request in ["GET /", "GET /state.json", "GET /nothing", "POST /stacks", "POST /reload", "HEAD /"] {
        let response = page.ask(request, &[&cookie, "X-Portico: 1"]);
        for (name, value) in [
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ] {
            assert_eq!(response.field(name), Some(value), "{request}");
        }
    }
    let policy = page.ask("GET /", &[&cookie]);
    let policy = policy.field("Content-Security-Policy").unwrap();
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
}

#[test]
fn what_goes_wrong_is_told() {
    let page = Page::start();
    let cookie = page.cookie();
    let ask = |request: &str| {
        let response = page.ask(request, &[&cookie, "X-Portico: 1"]);
        (response.status().to_owned(), response.body)
    };
    let told = |status: &str, error: &str| (status.to_owned(), format!("{{\"error\":\"{error}\"}}"));
    assert_eq!(ask("POST /stacks"), told("503", "no worker told"));
    assert_eq!(ask("POST /workers/add"), told("409", "it stops"));
    assert_eq!(ask("POST /profile"), told("404", "this server cannot do that"));
    assert_eq!(ask("GET /nothing"), told("404", "there is nothing of that name"));
    assert_eq!(page.done(), [PageAction::AddWorker]);
}

#[test]
fn the_state_has_the_snapshot_and_the_sentence() {
    let page = Page::start();
    let cookie = page.cookie();
    for _ in 0..2 {
        let response = page.ask("GET /state.json", &[&cookie]);
        assert_eq!(response.field("Content-Type"), Some("application/json"));
        let state: serde_json::Value = serde_json::from_str(&response.body).unwrap();
        assert_eq!((&state["state"], &state["slots"]), (&"serving".into(), &serde_json::json!([])));
        assert_eq!(state["sentence"]["level"], "trouble");
        assert_eq!(state["sentence"]["text"], "No worker runs.");
        assert_eq!(state["trace_url"], "https://traces.example/{trace_id}");
        assert_eq!(state["actions"], serde_json::json!(["reload", "cancel", "add"]));
    }
    let settings: serde_json::Value =
        serde_json::from_str(&page.ask("GET /settings.json", &[&cookie]).body).unwrap();
    assert_eq!(settings[0]["name"], "workers");
    assert!(page.serving.failure().is_none());
}
