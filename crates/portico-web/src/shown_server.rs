//! The seam to the server that is shown: what the page asks of it, and what it may do.

use portico_insight::{CallId, Snapshot, StackGroup};
use serde::Serialize;

/// A running server, as whoever serves the page reaches it. Called on several threads at once; a call may take as
/// long as what it does.
pub trait ShownServer: Send + Sync + 'static {
    /// The server as it is now.
    fn snapshot(&self) -> Snapshot;

    /// The Python stacks of all threads.
    ///
    /// # Errors
    /// Why there are none, for people.
    fn stacks(&self) -> Result<GroupedStacks, String>;

    /// The settings that somebody has set, as JSON: an array of objects with `name`, `value` and `origin`. `None`
    /// if they are not known.
    fn settings(&self) -> Option<String>;

    /// The words of the actions that it knows, see [`PageAction::word`].
    fn actions(&self) -> &'static [&'static str];

    /// Does `action`, and says what it has done.
    ///
    /// # Errors
    /// Why it was not done, for people.
    fn perform(&self, action: PageAction) -> Result<Done, String>;
}

/// What somebody can have done from the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageAction {
    /// Replace all workers by ones that import the application anew.
    Reload,
    /// Start one worker more.
    AddWorker,
    /// Stop one worker.
    RemoveWorker,
    /// Open the log files anew.
    ReopenLogs,
    /// Replace the worker in this slot.
    Replace(u32),
    /// End this call, and no other.
    Cancel(CallId),
    /// Look at the running calls for ten seconds.
    Profile,
}

impl PageAction {
    /// The word by which the page knows whether it can be done.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::AddWorker => "add",
            Self::RemoveWorker => "remove",
            Self::ReopenLogs => "reopen",
            Self::Replace(_) => "replace",
            Self::Cancel(_) => "cancel",
            Self::Profile => "profile",
        }
    }
}

/// What an action has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// In a sentence.
    pub told: String,
    /// Of a profile: its stacks, one a line, each with its number of samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collapsed: Option<String>,
}

/// What all threads are at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupedStacks {
    /// Equal stacks together, the most frequent first.
    pub groups: Vec<StackGroup>,
    /// What could not be had, one sentence each.
    pub missing: Vec<String>,
}
