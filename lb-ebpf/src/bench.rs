//! The bench's object: floors, and a wrapper that restores the packet before each run.
//!
//! `BPF_PROG_TEST_RUN` with `repeat` does not restore what the program rewrote. This wrapper writes the
//! packet's first octets from a template, gives it the address and port of the next client, and
//! tail-calls the program under test; the floors are called the same way.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        bindings::xdp_action,
        btf_maps::{Array, ProgramArray},
        macros::{btf_map, xdp},
        programs::XdpContext,
    };

    /// What the wrapper does next; written by userspace before a run.
    #[repr(C)]
    struct Turn {
        /// Which of `PROGRAMS` is called.
        program: u32,
        /// How many templates are used in turn.
        templates: u32,
        /// The template of the next packet.
        template: u32,
        /// The next client.
        client: u32,
        /// How many clients there are, a power of two; after the last comes the first.
        clients: u32,
        /// Clients come in steps of this odd number, so that neighbours in memory are not neighbours in time.
        stride: u32,
    }

    /// One packet of 64 octets.
    #[repr(C)]
    struct Template {
        /// From the client, or (1) to it.
        reply: u32,
        octets: [u8; 64],
    }

    #[btf_map]
    static TURN: Array<Turn, 1> = Array::new();
    #[btf_map]
    static TEMPLATES: Array<Template, 16> = Array::new();
    #[btf_map]
    static PROGRAMS: ProgramArray<4> = ProgramArray::new();

    #[inline(always)]
    fn view<T>(context: &XdpContext) -> Option<&mut T> {
        if context.data() + size_of::<T>() > context.data_end() {
            return None;
        }
        // SAFETY: in bounds; one view at a time is used below.
        Some(unsafe { &mut *(context.data() as *mut T) })
    }

    #[xdp]
    fn wrap(context: XdpContext) -> u32 {
        run(&context).unwrap_or(xdp_action::XDP_ABORTED)
    }

    #[inline(always)]
    fn run(context: &XdpContext) -> Option<u32> {
        // SAFETY: the bench runs on one CPU, and nobody else has this map.
        let turn = unsafe { &mut *TURN.get_ptr_mut(0)? };
        let template = TEMPLATES.get(turn.template)?;
        let client = turn.client.wrapping_mul(turn.stride) & turn.clients.wrapping_sub(1);
        turn.template = turn.template.wrapping_add(1);
        if turn.template >= turn.templates {
            turn.template = 0;
            turn.client = turn.client.wrapping_add(1);
        }
        *view::<[u8; 64]>(context)? = template.octets;
        // Sixteen ports of each address 10.x.y.z.
        let address = ((10 << 24) | (client >> 4)).to_be();
        let port = (1024 + (client & 15) as u16).to_be();
        #[repr(C, packed(2))]
        struct Tuple {
            ethernet_and_ip: [u8; 26],
            source: u32,
            target: u32,
            source_port: u16,
            target_port: u16,
        }
        let tuple = view::<Tuple>(context)?;
        if template.reply == 0 {
            (tuple.source, tuple.source_port) = (address, port);
        } else {
            (tuple.target, tuple.target_port) = (address, port);
        }
        // SAFETY: returns only where there is no such program.
        unsafe { PROGRAMS.tail_call(context, turn.program) };
        None
    }

    /// The floor of what is forwarded: addresses of Ethernet swapped, and out.
    #[xdp]
    fn transmit(context: XdpContext) -> u32 {
        let Some(macs) = view::<[[u8; 6]; 2]>(&context) else { return xdp_action::XDP_ABORTED };
        macs.swap(0, 1);
        xdp_action::XDP_TX
    }

    /// The floor of what is passed on.
    #[xdp]
    fn pass(_context: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
