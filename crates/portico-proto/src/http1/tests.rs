//! Tests of the connection as a whole.

use super::*;

#[test]
fn is_small() {
    assert!(size_of::<Connection>() <= 64, "{}", size_of::<Connection>());
}
