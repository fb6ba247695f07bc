//! A process whose descriptors somebody else has closed: it cannot do its work any more, and whatever is opened
//! next gets the numbers. It says so and ends, for another to take its place.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::logging;

/// For the operator: why, and what to look for.
pub fn crippled_message(reason: &str) -> String {
    format!(
        "this process cannot go on: {reason}; the application, or a library, closes descriptors that are not its \
         own (os.close, os.closerange)"
    )
}

/// Ends the process, for this reason. What runs is cut: with descriptors that may be anybody's, a response could
/// go to another client.
pub fn end_crippled(reason: &str) -> ! {
    static ENDING: AtomicBool = AtomicBool::new(false);
    if !ENDING.swap(true, Ordering::SeqCst) {
        log::error!("{}", crippled_message(reason));
        logging::exit(1);
    }
    loop {
        thread::park(); // Another thread has noticed it as well.
    }
}
