//! The project's commands: `cargo xtask NAME`. One file each.

mod bench;
mod cargo;
mod check;
mod demo;
mod floor;
mod kernel;
mod kernels;
mod linker;
mod network;
mod root;
mod setup;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// What developers and CI do with Tidegate.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Gets what the build needs: rust-src, and bpf-linker built against rustc's own LLVM. No root, once.
    Setup,
    /// Runs the real balancer between a client and three backends, and shows what it promises.
    Demo(demo::Options),
    /// Everything that CI runs: setup, check, kernel, network.
    Test,
    /// Format, lints, and every test that needs no root.
    Check(cargo::Filter),
    /// Packet cases in this machine's kernel. Needs root, asks for it.
    Kernel(cargo::Filter),
    /// Packet cases in the kernels of Debian's releases, emulated: 5.10, 6.1, 6.12. Minutes; no root, installs nothing.
    Kernels(kernels::Options),
    /// Real TCP in network namespaces. Needs root, asks for it.
    Network(cargo::Filter),
    /// Net nanoseconds per packet. Needs root, asks for it.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        // Its last line is the count, so it says itself what failed.
        Command::Test => return test::run(),
        Command::Setup => setup::run(),
        Command::Demo(options) => demo::run(&options),
        Command::Check(filter) => check::run(&filter).and_then(cargo::Tally::into_result),
        Command::Kernel(filter) => kernel::run(&filter).and_then(cargo::Tally::into_result),
        Command::Kernels(options) => kernels::run(&options),
        Command::Network(filter) => network::run(&filter).and_then(cargo::Tally::into_result),
        Command::Bench(options) => bench::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
