//! Prints docs/reference/settings.md; `make docs-settings` writes it.

fn main() {
    print!("{}", portico_config::reference());
}
