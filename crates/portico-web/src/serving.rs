//! The engine that serves the page, and its threads.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use portico_config::{PageOrder, Parsed, parse};
use portico_net::Listener;
use portico_server::{Lending, Recording};

use crate::access::Access;
use crate::application::WebApplication;
use crate::shown_server::ShownServer;

/// A page that is being served, until this is dropped.
pub struct PageServer {
    lending: Arc<Lending>,
    threads: Vec<JoinHandle<()>>,
    url: String,
}

/// Threads that answer: one looks at stacks, one does something that takes long, and the state is shown meanwhile
/// to several browsers.
const THREADS: &str = "4";

impl PageServer {
    /// Serves the page for `server` as `order` says, at an address that other machines do not reach.
    ///
    /// # Errors
    /// The address cannot be bound; the system has no memory, threads or random numbers left.
    pub fn start(server: Arc<dyn ShownServer>, order: PageOrder) -> io::Result<Self> {
        let PageOrder { address, trace_url } = order;
        let arguments = ["--bind", &address.to_string(), "--threads", THREADS].map(OsString::from);
        let Ok(Parsed::Run(resolved)) = parse(arguments.into_iter(), &|_| None) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let config = Arc::new(resolved.config);
        let listeners = Listener::bind_all(&config).map_err(io::Error::other)?;
        let bound = listeners.first().ok_or(io::ErrorKind::AddrNotAvailable)?.url().to_owned();
        let port = bound.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default();
        let application = Arc::new(WebApplication::new(server, Access::new(port)?, trace_url));
        let url = format!("{bound}/?token={}", application.token());
        let lending = Lending::new(Arc::clone(&config), Recording::private(), application, None, None, None)?;
        lending.listen(listeners)?;
        let mut serving = Self { lending, threads: Vec::new(), url };
        for _ in 0..config.threads {
            serving.start_thread("page", |lending| lending.run_thread())?;
        }
        serving.start_thread("page-standby", |lending| lending.run_standby())?;
        Ok(serving)
    }

    /// The address that lets one browser in.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Why it cannot go on, if that is so.
    pub fn failure(&self) -> Option<&str> {
        self.lending.failure()
    }

    fn start_thread(&mut self, name: &str, run: fn(&Arc<Lending>)) -> io::Result<()> {
        let lending = Arc::clone(&self.lending);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(&lending))?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for PageServer {
    /// Ends at once. An action that is being done is not waited for: the process ends.
    fn drop(&mut self) {
        self.lending.stop();
    }
}
