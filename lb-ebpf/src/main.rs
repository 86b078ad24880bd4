//! The object that the kernel runs. A stand-in: the maps of the real one, and a program that passes all.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod kernel {
    use aya_ebpf::{
        Global,
        bindings::{BPF_F_MMAPABLE, bpf_spin_lock, xdp_action},
        btf_maps::{Array, DevMap, HashMap, PerCpuArray},
        helpers::generated::bpf_jiffies64,
        macros::{btf_map, xdp},
        programs::XdpContext,
    };
    use lb_common::{
        Address4, Backend, Endpoint, Flow, Nic, Service, ServiceName, Settings, Tags, Traffic, Vip, limits, slots,
    };

    #[repr(C)]
    struct FlowLock {
        lock: bpf_spin_lock,
    }

    #[btf_map]
    static SERVICES: HashMap<Endpoint, Service, { limits::LISTENS }> = HashMap::new();
    #[btf_map]
    static VIPS: HashMap<Address4, Vip, { limits::LISTENS }> = HashMap::new();
    #[btf_map]
    static ENDPOINTS: HashMap<Endpoint, u32, { limits::BACKENDS }> = HashMap::new();
    #[btf_map]
    static LOCALS: HashMap<Address4, u32, { limits::LOCALS }> = HashMap::new();
    #[btf_map]
    static BACKENDS: Array<Backend, { limits::BACKENDS }> = Array::new();
    #[btf_map]
    static TRAFFIC: PerCpuArray<Traffic, { limits::BACKENDS }> = PerCpuArray::new();
    #[btf_map]
    static TABLES: Array<[u16; slots::SMALL_ELEMENT], { limits::SERVICES }> = Array::new();
    #[btf_map]
    static LARGE_TABLES: Array<[u16; slots::LARGE_ELEMENT], { limits::LARGE_SERVICES }> = Array::new();
    #[btf_map]
    static SERVICE_NAMES: Array<ServiceName, { limits::SERVICES }> = Array::new();
    #[btf_map]
    static FILTER: Array<[u8; limits::FILTER], 1> = Array::new();
    #[btf_map]
    static NICS: Array<Nic, { limits::NICS }> = Array::new();
    #[btf_map]
    static DEVICES: DevMap<{ limits::NICS }> = DevMap::new();
    #[btf_map]
    static REASONS: PerCpuArray<[u64; 32], 1> = PerCpuArray::new();
    #[btf_map]
    static SETTINGS: Array<Settings, 1> = Array::new();
    #[btf_map]
    static FLOWS: Array<Flow, 8, { BPF_F_MMAPABLE as usize }> = Array::new();
    #[btf_map]
    static FLOW_TAGS: Array<Tags, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
    #[btf_map]
    static FLOW_LOCKS: Array<FlowLock, { limits::FLOW_LOCKS }> = Array::new();

    #[unsafe(no_mangle)]
    static FLOW_SETS: Global<u32> = Global::new(0);
    #[unsafe(no_mangle)]
    static FLOW_SEED: Global<u64> = Global::new(0);
    #[unsafe(no_mangle)]
    static SYN_TIMEOUT: Global<u32> = Global::new(0);
    #[unsafe(no_mangle)]
    static ESTABLISHED_TIMEOUT: Global<u32> = Global::new(0);
    #[unsafe(no_mangle)]
    static FIN_TIMEOUT: Global<u32> = Global::new(0);

    #[xdp]
    fn tidegate(ctx: XdpContext) -> u32 {
        // Never true: it keeps every map and global in the object.
        if FLOW_SETS.load() as u64
            + FLOW_SEED.load()
            + SYN_TIMEOUT.load() as u64
            + ESTABLISHED_TIMEOUT.load() as u64
            + FIN_TIMEOUT.load() as u64
            == 0
        {
            aya_log_ebpf::info!(&ctx, "started without its settings");
        }
        xdp_action::XDP_PASS
    }

    /// The low half of jiffies, in the first four octets of the packet.
    #[xdp]
    fn clock(ctx: XdpContext) -> u32 {
        let start = ctx.data();
        if start + 4 > ctx.data_end() {
            return xdp_action::XDP_ABORTED;
        }
        // SAFETY: the packet has four octets; the verifier checks the comparison above.
        unsafe { (start as *mut u32).write_unaligned(bpf_jiffies64() as u32) };
        xdp_action::XDP_PASS
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
