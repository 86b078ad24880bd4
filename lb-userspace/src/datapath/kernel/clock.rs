//! The packet path's clock: jiffies, whose rate and zero the kernel does not tell userspace.

use anyhow::{Context as _, Result};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use lb_common::Timeouts;
use nix::time::{ClockId, clock_getres};

/// The idle times of a service that says nothing of them (DESIGN.md 1.2), in jiffies.
pub(super) fn timeouts(hertz: u32) -> Timeouts {
    // RFC 5382: two hours and four minutes at least.
    Timeouts { syn: 60 * hertz, established: 130 * 60 * hertz, fin: 30 * hertz }
}

/// Jiffies a second. The coarse clocks tick once a jiffy, and their resolution says so.
pub(super) fn hertz() -> Result<u32> {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).context("cannot ask for the resolution of the clock")?;
    u32::try_from((1_000_000_000 + tick.tv_nsec() / 2).checked_div(tick.tv_nsec()).unwrap_or_default())
        .ok()
        .filter(|hertz| (24..=10_000).contains(hertz))
        .with_context(|| format!("the clock ticks every {tick}, which is no rate of jiffies"))
}

/// The low half of jiffies, from a program that writes them into the packet it is run on: the kernel has
/// no other door to them. It takes some ten microseconds, so nothing is calibrated or extrapolated.
pub(super) fn jiffies(clock: &Xdp) -> Result<u32> {
    let mut packet = [0_u8; 64];
    let options = TestRunOptions { data_in: Some(&[0; 64]), data_out: Some(&mut packet), ..TestRunOptions::new() };
    clock.test_run(options).context("cannot read the kernel's jiffies")?;
    let [a, b, c, d, ..] = packet;
    Ok(u32::from_ne_bytes([a, b, c, d]))
}
