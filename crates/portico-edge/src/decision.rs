//! What follows from a request's head: the value that the router returns, and the server performs.

use std::path::PathBuf;
use std::sync::Arc;

use crate::flat::FlatRoute;

/// The route of a request, and what responds. Whoever performs it first asks the route's guards: `allow` and
/// `deny`, `limit`, `auth`, `concurrent`; its headers go into whatever response comes of it.
#[derive(Debug)]
pub struct RouteDecision<'r> {
    /// The route that counts.
    pub route: &'r Arc<FlatRoute>,
    /// What responds.
    pub action: RouteAction<'r>,
}

/// What responds to a request.
#[derive(Debug, PartialEq, Eq)]
pub enum RouteAction<'r> {
    /// An application.
    Call(ApplicationCall<'r>),
    /// A file, if it is there.
    Serve(FileLookup<'r>),
    /// Another place.
    Redirect {
        /// A status of a redirect.
        status: u16,
        /// Visible ASCII.
        location: String,
    },
    /// This status, with the route's page if it has one.
    Respond {
        /// 200 to 599.
        status: u16,
    },
    /// The server's own refusal.
    Refuse(Refusal),
}

/// An application and the path that it is called with.
#[derive(Debug, PartialEq, Eq)]
pub struct ApplicationCall<'r> {
    /// `None` is the main application.
    pub target: Option<&'r str>,
    /// What of the path, as it was sent, is SCRIPT_NAME; below `--root-path`.
    pub script_name: &'r str,
    /// The decoded path that it gets in place of what was sent.
    pub rewritten: Option<Vec<u8>>,
}

/// Where to look for a file.
#[derive(Debug, PartialEq, Eq)]
pub struct FileLookup<'r> {
    /// The first that has it counts.
    pub folders: &'r [PathBuf],
    /// Below them: decoded, without dots and duplicate slashes. It begins with `/`; at its end there is one
    /// where a folder is meant. It may be empty where the mount itself was asked for, without a slash at its end.
    pub path: Vec<u8>,
}

/// Why the server itself refuses a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: the path or the host can be read in two ways, or in none.
    BadRequest(&'static str),
    /// 404: nothing is there, or nothing that a client may see.
    NotFound,
    /// 405, with the methods that are taken.
    MethodNotAllowed(Vec<String>),
    /// 421: no route is for that host.
    Misdirected,
}

impl Refusal {
    /// What the client is told, in a line.
    pub fn text(&self) -> &'static str {
        match self {
            Self::BadRequest(text) => text,
            Self::NotFound => "nothing is here",
            Self::MethodNotAllowed(_) => "the method is not among those that are taken here",
            Self::Misdirected => "this server does not serve the host that was asked for",
        }
    }

    /// Its status.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed(_) => 405,
            Self::Misdirected => 421,
        }
    }
}
