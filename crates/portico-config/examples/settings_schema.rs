//! Prints docs/reference/portico.schema.json; `make docs-settings` writes it.

fn main() {
    print!("{}", portico_config::schema());
}
