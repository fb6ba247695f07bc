//! Prints docs/reference/metrics.md; `make docs-metrics` writes it.

fn main() {
    print!("{}", portico_metrics::reference());
}
