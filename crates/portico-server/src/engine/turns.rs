//! Turns: what clients keep the engine busy with ends after a while, and goes on behind a look at the network.

use std::time::Duration;

use portico_net::{Event, Events};

use super::{Accepting, Engine, POLL_INTERVAL};
use crate::connection::{Connection, ConnectionId};

/// How long clients that keep the engine busy have a turn together before others get theirs.
pub(super) const TURN_MAX: Duration = POLL_INTERVAL;

impl Engine {
    /// Handles what the reactor has reported. The listeners come last: what comes with a new connection is read at
    /// once, and is not to overtake what others sent before. When that takes long, the rest is noted for
    /// [`Engine::advance`], which takes turns with looks at the network.
    pub(crate) fn handle_events(&mut self, events: &Events) {
        if let [event] = events.as_slice() {
            self.handle_event(*event);
            return self.write_unheld_sessions();
        }
        let mut is_over = false;
        self.context.may_have_taken_long = false; // What was done before is no part of this turn.
        for of_listeners in [false, true] {
            let turn = events.iter().filter(|event| Accepting::owns(event.token) == of_listeners);
            for event in turn {
                if is_over {
                    self.note_event(event);
                } else {
                    self.handle_event(event);
                    is_over = self.is_turn_over();
                }
            }
        }
        self.write_unheld_sessions();
    }

    /// Whether what has been done since the present moment was set takes so long that others are to have a turn.
    /// Only what may take long has the clock looked at.
    #[inline]
    pub(super) fn is_turn_over(&mut self) -> bool {
        std::mem::take(&mut self.context.may_have_taken_long) && self.context.now.elapsed() >= TURN_MAX
    }

    /// Goes on with what was put off, for one turn.
    pub(super) fn continue_turns(&mut self) {
        let mut again = std::mem::take(&mut self.again).into_iter();
        self.context.may_have_taken_long = false;
        for id in again.by_ref() {
            self.receive_on(id, Connection::proceed);
            if self.is_turn_over() {
                break;
            }
        }
        if again.len() > 0 {
            self.again.splice(..0, again);
        }
    }

    /// Handles one event.
    pub(crate) fn handle_event(&mut self, event: Event) {
        if Accepting::owns(event.token) {
            return self.accept(event.token);
        }
        let id = ConnectionId::from_token(event.token);
        self.receive_on(id, |connection, context| connection.handle_event(event, context));
    }

    /// Notes an event for [`Engine::advance`], which handles once what has been noted several times: a client that
    /// sends without a pause keeps nobody who has something else to do.
    pub(crate) fn note_event(&mut self, event: Event) {
        if Accepting::owns(event.token) {
            return self.accepting.note(event.token);
        }
        let id = ConnectionId::from_token(event.token);
        if let Some(mut connection) = self.table.take(id) {
            if connection.note_event(event) {
                self.again.push(id);
            }
            self.table.put_back(id, connection);
        }
    }
}
