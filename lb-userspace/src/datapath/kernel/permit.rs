//! Whether this process and this kernel can do what we need: asked first, so that nothing is half done.

use anyhow::{Result, bail};
use aya::util::KernelVersion;
use caps::{CapSet, Capability};

use super::OpenError;

/// The oldest kernel with everything the program and its loader use.
const OLDEST: KernelVersion = KernelVersion::new(5, 10, 0);

/// Names what is missing.
pub(super) fn check() -> Result<(), OpenError> {
    capabilities()?;
    raise_locked_memory();
    kernel()?;
    Ok(())
}

/// The capabilities that loading and attaching an XDP program take (capabilities(7)).
fn capabilities() -> Result<(), OpenError> {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    let mut missing = Vec::new();
    if !has(Capability::CAP_NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    // CAP_SYS_ADMIN stands for both of the newer ones.
    if !has(Capability::CAP_SYS_ADMIN) {
        if !has(Capability::CAP_BPF) {
            missing.push("CAP_BPF");
        }
        if !has(Capability::CAP_PERFMON) {
            missing.push("CAP_PERFMON");
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(OpenError::NotPermitted(format!(
        "not permitted: {} {} missing; run as root, or give the service CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON",
        missing.join(" and "),
        if missing.len() == 1 { "is" } else { "are" },
    )))
}

fn kernel() -> Result<()> {
    if let Ok(version) = KernelVersion::current()
        && version < OLDEST
    {
        bail!("this kernel is {version:?}; tidegate needs 5.10 or newer");
    }
    // The probe itself is a BPF call, so it comes after the capabilities.
    if aya::features().btf().is_none() {
        bail!(
            "this kernel takes no BTF, which the maps need; it must be built with CONFIG_BPF_SYSCALL and CONFIG_BPF_JIT"
        );
    }
    Ok(())
}

/// Kernels before 5.11 charge maps to RLIMIT_MEMLOCK, 64 KiB by default. Later ones do not look at it.
fn raise_locked_memory() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the call reads one `rlimit`, which lives across it.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } != 0 {
        log::debug!("cannot raise RLIMIT_MEMLOCK: {}", std::io::Error::last_os_error());
    }
}
