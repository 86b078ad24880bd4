//! XDP programs on links, above all the smallest: two instructions that pass everything.
//!
//! A veth delivers redirected frames only to a peer that has a program of its own, so every peer of the
//! gateway's NICs gets this one. It is loaded by bpf(2) itself, without a compiler or a loader.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};

use crate::host::Host;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// `r0 = XDP_PASS; exit`, as the kernel's `struct bpf_insn`.
const PASS: [u64; 2] =
    [u64::from_le_bytes([0xb7, 0, 0, 0, 2, 0, 0, 0]), u64::from_le_bytes([0x95, 0, 0, 0, 0, 0, 0, 0])];

/// The part of the kernel's `union bpf_attr` that loads a program.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The part of the kernel's `union bpf_attr` that makes a link.
#[repr(C)]
struct Attach {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

impl Host {
    /// Attaches a program that passes everything to a link, in the driver, for as long as the host lives.
    pub fn pass_everything(&self, name: &str) -> Result<()> {
        self.attach_xdp(name, &PASS)
    }

    /// Attaches any program, given as instructions of the kernel's `struct bpf_insn`, in the same way.
    pub fn attach_xdp(&self, name: &str, program: &[u64]) -> Result<()> {
        let (index, program) = (self.index(name)?, program.to_vec());
        let link = self
            .call(move || attach(index, &program))
            .with_context(|| format!("cannot attach a program to {}:{name}", self.name()))?;
        self.keep(link);
        Ok(())
    }
}

/// The link; it holds the program.
fn attach(ifindex: u32, program: &[u64]) -> Result<OwnedFd> {
    raise_locked_memory();
    let load = Load {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: program.len().try_into()?,
        insns: program.as_ptr().addr().try_into()?,
        license: c"GPL".as_ptr().addr().try_into()?,
        prog_name: *b"testkit\0\0\0\0\0\0\0\0\0",
        expected_attach_type: BPF_XDP,
        ..Load::default()
    };
    let program = bpf(BPF_PROG_LOAD, &load).context("cannot load the program")?;
    let attach = Attach {
        prog_fd: program.as_raw_fd().try_into()?,
        target_ifindex: ifindex,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    bpf(BPF_LINK_CREATE, &attach).context("cannot make a link")
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` octets of `attributes`, whose addresses point to constants.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Kernels before 5.11 charge programs to the limit of locked memory; later ones do not care.
fn raise_locked_memory() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel reads `limit` during the call.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}
