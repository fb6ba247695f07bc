//! How a command waits: as whoever runs it says.

use std::time::Duration;

/// Lets this time pass, in which the operator may end the command: with what is returned then.
pub(crate) type Pause<'a, E> = &'a mut dyn FnMut(Duration) -> Result<(), E>;

/// How often a command looks for what it waits for.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);
