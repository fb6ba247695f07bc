//! The house rules as one test; see `tests`.
