//! Ends a build for another system than Linux with one sentence, before anything of Portico is compiled: every
//! crate that asks the kernel for something is above this one.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let system = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if system != "linux" {
        println!(
            "cargo::error=Portico runs on Linux only, and this build is for {system}: use it in a Linux container \
             or virtual machine, or another WSGI server (waitress) here."
        );
    }
}
