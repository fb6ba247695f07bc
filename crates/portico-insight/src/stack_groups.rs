//! Equal stacks, counted: where the threads of a server are.
//!
//! It is what an expert does first with the stacks of many threads, by hand: `pstack | sort | uniq -c`.

use std::collections::HashMap;

use serde::Serialize;

use crate::snapshot::ShownRequest;

/// A thread with its stack, and with its request if it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct StackOfThread {
    /// The slot of its worker.
    pub slot: u32,
    /// Its name.
    pub name: String,
    /// Its frames as Python prints them, the most recent one last; empty if it runs no Python.
    pub frames: String,
    /// The request that it is at.
    pub request: Option<ShownRequest>,
}

/// The threads that have the same stack.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StackGroup {
    /// How many there are.
    pub count: usize,
    /// Their frames as Python prints them, the most recent one last; empty if they run no Python.
    pub frames: String,
    /// The slots of their workers, each once.
    pub slots: Vec<u32>,
    /// The names of those that have no request, each once.
    pub names: Vec<String>,
    /// The requests that they are at, the oldest first.
    pub requests: Vec<ShownRequest>,
}

/// Groups threads by their stacks: the most threads first, then the oldest request. Threads that run no Python
/// come last, since they are idle.
pub fn group_stacks(threads: impl IntoIterator<Item = StackOfThread>) -> Vec<StackGroup> {
    let mut groups: Vec<StackGroup> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for thread in threads {
        let place = *known.entry(thread.frames.clone()).or_insert_with(|| {
            let frames = thread.frames.clone();
            let group = StackGroup { count: 0, frames, slots: vec![], names: vec![], requests: vec![] };
            groups.push(group);
            groups.len() - 1
        });
        groups[place].add(thread);
    }
    for group in &mut groups {
        group.slots.sort_unstable();
        group.requests.sort_by(|one, other| other.age_seconds.total_cmp(&one.age_seconds));
    }
    let oldest = |group: &StackGroup| group.requests.first().map_or(0.0, |request| request.age_seconds);
    groups.sort_by(|one, other| {
        let idle = one.frames.is_empty().cmp(&other.frames.is_empty());
        idle.then(other.count.cmp(&one.count)).then(oldest(other).total_cmp(&oldest(one)))
    });
    groups
}

impl StackGroup {
    fn add(&mut self, thread: StackOfThread) {
        self.count += 1;
        if !self.slots.contains(&thread.slot) {
            self.slots.push(thread.slot);
        }
        match thread.request {
            Some(request) => self.requests.push(request),
            None if !self.names.contains(&thread.name) => self.names.push(thread.name),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call_id::CallId;
    use crate::snapshot::RequestPhase;

    fn thread(slot: u32, name: &str, frames: &str, age: Option<f64>) -> StackOfThread {
        let request = age.map(|age_seconds| ShownRequest {
            id: CallId { slot, thread: 0, sequence: 2 },
            slot,
            thread: name.to_owned(),
            phase: RequestPhase::Running,
            age_seconds,
            queued_seconds: 0.0,
            peer: None,
            method: "GET".to_owned(),
            path: "/".to_owned(),
            ident: 0,
        });
        StackOfThread { slot, name: name.to_owned(), frames: frames.to_owned(), request }
    }

    #[test]
    fn equal_stacks_are_counted_over_all_workers() {
        let groups = group_stacks([
            thread(0, "MainThread", "", None),
            thread(0, "portico-1", "wait", Some(3.0)),
            thread(1, "portico-1", "wait", Some(9.0)),
            thread(1, "portico-2", "spin", Some(70.0)),
            thread(1, "MainThread", "", None),
            thread(1, "portico-3", "", None),
            thread(2, "Thread-7", "wait", None),
        ]);
        let told: Vec<_> = groups.iter().map(|group| (group.count, group.frames.as_str())).collect();
        assert_eq!(told, [(3, "wait"), (1, "spin"), (3, "")], "idle ones come last");
        assert_eq!((&groups[0].slots, &groups[0].names), (&vec![0, 1, 2], &vec!["Thread-7".to_owned()]));
        let ages: Vec<_> = groups[0].requests.iter().map(|request| request.age_seconds).collect();
        assert_eq!(ages, [9.0, 3.0]);
        assert_eq!(groups[2].names, ["MainThread", "portico-3"], "each once");
    }

    #[test]
    fn of_equally_many_the_oldest_request_comes_first() {
        let groups = group_stacks([
            thread(0, "a", "young", Some(1.0)),
            thread(0, "b", "none", None),
            thread(0, "c", "old", Some(2.0)),
        ]);
        let told: Vec<_> = groups.iter().map(|group| group.frames.as_str()).collect();
        assert_eq!(told, ["old", "young", "none"]);
        assert_eq!(group_stacks([]), []);
    }
}
