//! One program on one NIC, in the driver or in the generic hook, and why a driver refuses.

use std::io;

use anyhow::{Context as _, Result, anyhow};
use aya::programs::{ProgramError, Xdp, XdpError, XdpMode as AyaMode, links::FdLink};

use crate::{model::XdpMode, net::Link};

/// The program's name in the object and in the kernel.
pub(super) const PROGRAM: &str = "tidegate";

/// Attaches, and says in which mode.
pub(super) fn attach(program: &mut Xdp, link: &Link, mode: XdpMode) -> Result<(&'static str, FdLink)> {
    let name = &link.name;
    let generic = |program: &mut Xdp| {
        let attached = attach_in(program, link, AyaMode::Skb);
        attached.map_err(|refusal| anyhow!("{name}: cannot attach in generic mode: {}", refusal.why))
    };
    match mode {
        XdpMode::Generic => Ok(("generic", generic(program)?)),
        XdpMode::Native => match attach_in(program, link, AyaMode::Driver) {
            Ok(attached) => Ok(("native", attached)),
            Err(refusal) => Err(anyhow!(
                "{name}: cannot attach in driver mode: {}; use `--xdp generic` or another interface",
                refusal.why
            )),
        },
        XdpMode::Auto => match attach_in(program, link, AyaMode::Driver) {
            Ok(attached) => Ok(("native", attached)),
            Err(Refusal { why, occupied: true }) => Err(anyhow!("{name}: cannot attach: {why}")),
            Err(Refusal { why, occupied: false }) => {
                let attached =
                    generic(program).with_context(|| format!("{name}: cannot attach in driver mode: {why}"))?;
                warn_generic(name, &why);
                Ok(("generic", attached))
            }
        },
    }
}

/// Says loudly that the slow path is in use.
pub(super) fn warn_generic(name: &str, why: &str) {
    log::warn!("{name}: attached in GENERIC mode, many times slower than in the driver: {why}");
}

struct Refusal {
    why: String,
    /// Another program came first: no mode will do.
    occupied: bool,
}

fn attach_in(program: &mut Xdp, link: &Link, mode: AyaMode) -> Result<FdLink, Refusal> {
    let refused = |why: String| Refusal { why, occupied: false };
    let id = program.attach_to_if_index(link.ifindex, mode).map_err(|error| refusal(&error, link))?;
    let taken = program.take_link(id).map_err(|error| refused(error.to_string()))?;
    // aya falls back to netlink where the kernel has no link for XDP; such a one cannot be pinned.
    FdLink::try_from(taken).map_err(|_| refused("the kernel has no links for XDP programs (5.9 has)".into()))
}

fn refusal(error: &ProgramError, link: &Link) -> Refusal {
    let (errno, said) = match error {
        ProgramError::SyscallError(error) => (error.io_error.raw_os_error(), String::new()),
        // Where the system call says EINVAL, aya asks again by netlink, and drivers answer that in words.
        ProgramError::XdpError(XdpError::NetlinkError(error)) => (error.raw_os_error(), format!(" ({error})")),
        other => (None, other.to_string()),
    };
    let why = match errno {
        Some(libc::EOPNOTSUPP) => "the driver has no XDP".to_owned(),
        Some(libc::EBUSY | libc::EEXIST) => "another XDP program is attached".to_owned(),
        Some(libc::ERANGE) => format!("the MTU of {} is too large for it, here or at the peer", link.mtu),
        Some(libc::EINVAL) => format!(
            "the driver refuses; an MTU above about 3,500 (here {}) or an offload is the usual reason{said}",
            link.mtu
        ),
        Some(libc::ENOMEM) => "the NIC has not enough queues or memory for it".to_owned(),
        Some(errno) => format!("{}{said}", io::Error::from_raw_os_error(errno)),
        None => said,
    };
    Refusal { why, occupied: matches!(errno, Some(libc::EBUSY | libc::EEXIST)) }
}
