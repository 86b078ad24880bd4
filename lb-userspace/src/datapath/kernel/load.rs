//! The object that is embedded in this binary, loaded on the maps of a directory.

use std::{fs, io, io::Read as _, path::Path};

use anyhow::{Context as _, Result};
use aya::{Ebpf, EbpfLoader, programs::ProgramError};
use lb_common::{LAYOUT, Settings, limits};

use super::{OpenError, driver, pins, program};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tidegate-ebpf"));

/// The program that reads the kernel's clock; it is run, never attached.
pub(super) const CLOCK: &str = "clock";

/// Settings for maps that are to be made.
pub(super) fn settings(max_flows: u32) -> Result<Settings> {
    let mut seed = [0; 8];
    fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut seed))
        .context("cannot read /dev/urandom")?;
    Ok(Settings { layout: LAYOUT, flow_sets: limits::flow_sets(max_flows), flow_seed: u64::from_ne_bytes(seed) })
}

/// Loads both programs on the maps in `layout`; those that are not there are made and pinned there.
pub(super) fn load(layout: &Path, settings: &Settings, hertz: u32) -> Result<Ebpf> {
    if !layout.is_dir() {
        fs::create_dir(layout).with_context(|| format!("cannot make {}", layout.display()))?;
    }
    let specs = pins::specs(settings.flow_sets);
    let mut loader = EbpfLoader::new();
    for spec in &specs {
        loader.map_pin_path(spec.name, layout.join(spec.name));
        if matches!(spec.name, "FLOWS" | "FLOW_TAGS" | "HALVES" | "HALF_TAGS") {
            loader.map_max_entries(spec.name, spec.entries as u32);
        }
    }
    let half_sets = limits::half_sets(settings.flow_sets);
    let patience = hertz * 9 / 10;
    loader
        .override_global("FLOW_SETS", &settings.flow_sets, true)
        .override_global("FLOW_SEED", &settings.flow_seed, true)
        .override_global("HALF_OPEN_SETS", &half_sets, true)
        .override_global("PATIENCE", &patience, true);
    let mut object = loader.load(OBJECT).context("cannot make the maps")?;
    // The object is asked too: what it made must be what later versions will compare with.
    pins::compare(layout, settings.flow_sets).context("the BPF object's maps are not those of this version")?;
    for name in [driver::PROGRAM, CLOCK] {
        program(&mut object, name)?
            .load()
            .map_err(refusal)
            .with_context(|| format!("the kernel refuses the program {name}"))?;
    }
    Ok(object)
}

/// The verifier's last words; all of them, thousands of lines, go to the log.
fn refusal(error: ProgramError) -> anyhow::Error {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return error.into() };
    let said = verifier_log.to_string();
    log::debug!("the verifier says:\n{said}");
    // The very last line counts instructions.
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.iter().rev().find(|line| !line.starts_with("processed ")).copied().unwrap_or("nothing");
    anyhow::Error::from(io_error).context(format!("its verifier says: {}", last.trim()))
}

/// What kind of failure this is: EPERM, with all capabilities there, is the kernel's policy.
pub(super) fn kind(error: anyhow::Error) -> OpenError {
    let denied = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) == Some(libc::EPERM)
    };
    if error.chain().any(denied) {
        return OpenError::NotPermitted(format!(
            "not permitted: {error:#}; the kernel refuses BPF here (a user namespace, a container's seccomp filter, or lockdown)"
        ));
    }
    error.into()
}
