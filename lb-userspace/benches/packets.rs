//! Net nanoseconds per packet: the program through a wrapper that restores the packet, less a floor
//! that is called the same way. Needs root. `--json` prints one document.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops where it cannot measure")]

#[path = "../tests/machine/mod.rs"]
mod machine;

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, ProgramArray},
    programs::{TestRun as _, TestRunOptions, Xdp},
};
use lb_ebpf::{
    header::{ACK, FIN, RST},
    testing::{Floor as _, NIC_A, NIC_B, TcpPacket, World, tcp},
};
use machine::Machine;
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tidegate-bench"));

const VIP: &str = "203.0.113.10:80";
const BACKEND: &str = "10.0.1.11:8080";
/// Each figure is the median of so many runs.
const RUNS: usize = 9;
/// Packets of one run.
const PACKETS: u32 = 1 << 19;
/// Which of the bench's programs is called.
const TIDEGATE: u32 = 0;
const TRANSMIT: u32 = 1;
const PASS: u32 = 2;

#[derive(Clone, Copy)]
#[repr(C)]
struct Turn {
    program: u32,
    templates: u32,
    template: u32,
    client: u32,
    clients: u32,
    stride: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Template {
    reply: u32,
    octets: [u8; 64],
}

// SAFETY: plain numbers, no holes.
unsafe impl Pod for Turn {}
// SAFETY: plain numbers, no holes.
unsafe impl Pod for Template {}

/// One row: packets in turn, from so many clients.
struct Row {
    name: &'static str,
    target_ns: f64,
    floor: u32,
    clients: u32,
    packets: Vec<(bool, TcpPacket)>,
    /// Who is there before: so many clients, each with these packets.
    before: Option<(u32, Vec<(bool, TcpPacket)>)>,
    /// What every client of a run sends before it is timed.
    prelude: Vec<(bool, TcpPacket)>,
    /// Packets of one run.
    count: u32,
    /// One NIC (out where it came in, as a balancer on a stick) or two (redirect).
    nics: u16,
}

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    unshare(CloneFlags::CLONE_NEWNET).expect("the bench makes a network namespace: run it as root (sudo -E)");
    let mut bench = Bench::new();
    let mut targets = Vec::new();
    if !json {
        println!("{:58} {:>8} {:>8} {:>8}", "row (net ns a packet, median)", "net", "floor", "target");
    }
    for row in rows() {
        let (net, floor) = bench.measure(&row);
        let met = net <= row.target_ns;
        if !json {
            let verdict = if met { "" } else { "  not met" };
            println!("{:58} {net:8.1} {floor:8.1} {:8.0}{verdict}", row.name, row.target_ns);
        }
        targets
            .push(json!({"name": row.name, "net_ns": net, "floor_ns": floor, "target_ns": row.target_ns, "met": met}));
    }
    if json {
        println!("{}", json!({ "targets": targets }));
    }
}

fn rows() -> Vec<Row> {
    let there = || tcp("10.0.0.0:1024", VIP);
    let back = || tcp(BACKEND, "10.0.0.0:1024").by_backend();
    let mut syn_ack = back().syn_ack();
    // What the client acknowledges.
    syn_ack.sequence = there().acknowledgment.wrapping_sub(1);
    syn_ack.acknowledgment = there().sequence;
    let opening = vec![(false, there().syn()), (true, syn_ack)];
    let handshake = [opening.clone(), vec![(false, there())]].concat();
    let row = |name, target_ns, clients, packets| Row {
        name,
        target_ns,
        floor: TRANSMIT,
        clients,
        packets,
        before: Some((clients, handshake.clone())),
        prelude: Vec::new(),
        count: PACKETS,
        nics: 1,
    };
    let rest = vec![
        (false, there().flags(ACK | 8)),
        (true, back()),
        (true, back().flags(ACK | 8)),
        (false, there()),
        (false, there().flags(FIN | ACK)),
        (true, back().flags(FIN | ACK)),
        (false, there()),
    ];
    let live = || Some((1 << 20, handshake.clone()));
    let flood = |name, packet| Row { before: live(), ..row(name, 90.0, 1 << 23, vec![(false, packet)]) };
    let proof = |name, before| Row {
        before,
        prelude: opening.clone(),
        count: 1 << 15,
        ..row(name, 600.0, 1 << 15, vec![(false, there())])
    };
    vec![
        row("IPv4 TCP, established, one flow", 50.0, 1, vec![(false, there())]),
        row("IPv4 TCP, established, 65,536 flows in turn", 140.0, 1 << 16, vec![(false, there())]),
        row("IPv4 reply, backend to client, one flow", 85.0, 1, vec![(true, back())]),
        row("IPv4 reply, backend to client, 65,536 flows in turn", 140.0, 1 << 16, vec![(true, back())]),
        Row { nics: 2, ..row("IPv4 TCP, established, one flow, redirected", 50.0, 1, vec![(false, there())]) },
        proof("the ACK that makes a live flow, room in the table", None),
        proof("the ACK that makes a live flow, one evicted", Some((1 << 21, handshake.clone()))),
        flood("SYN flood beside a million live flows, each SYN", there().syn()),
        flood("ACK flood beside a million live flows, each ACK", there()),
        flood("RST flood beside a million live flows, each RST", there().flags(RST)),
        Row {
            before: None,
            ..row(
                "a whole connection, SYN to last ACK, per packet of ten",
                140.0,
                1 << 20,
                [handshake.clone(), rest].concat(),
            )
        },
        Row {
            floor: PASS,
            before: None,
            ..row("foreign packet passed on", 20.0, 1 << 16, vec![(false, tcp("10.0.0.0:1024", "198.51.100.1:80"))])
        },
    ]
}

struct Bench {
    machine: Machine,
    wrapper: Ebpf,
}

impl Bench {
    fn new() -> Self {
        let mut machine = Machine::new(1_000_000);
        let mut wrapper = EbpfLoader::new().load(OBJECT).unwrap();
        let mut programs: ProgramArray<_> = wrapper.take_map("PROGRAMS").unwrap().try_into().unwrap();
        let under_test: &mut Xdp = machine.object.program_mut("tidegate").unwrap().try_into().unwrap();
        programs.set(TIDEGATE, under_test.fd().unwrap(), 0).unwrap();
        for (name, index) in [("transmit", TRANSMIT), ("pass", PASS)] {
            let program: &mut Xdp = wrapper.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap();
            programs.set(index, program.fd().unwrap(), 0).unwrap();
        }
        let program: &mut Xdp = wrapper.program_mut("wrap").unwrap().try_into().unwrap();
        program.load().unwrap();
        // The programs stay as long as the array that names them.
        std::mem::forget(programs);
        Self { machine, wrapper }
    }

    /// Net and floor, in nanoseconds a packet.
    fn measure(&mut self, row: &Row) -> (f64, f64) {
        let mut world = World::new();
        world.serve(&[VIP], &[BACKEND]);
        if row.nics == 1 {
            for backend in world.backends.values_mut() {
                backend.nic = NIC_A;
            }
        }
        self.machine.clear();
        self.machine.change(&world);
        if row.nics == 1 {
            world.nics.remove(&NIC_B);
        }
        if let Some((clients, packets)) = &row.before {
            self.prepare(TIDEGATE, *clients, packets);
            self.run(*clients * packets.len() as u32);
        }
        let mut floors = Vec::new();
        let mut figures = Vec::new();
        for run in 0..RUNS as u32 {
            self.prepare(row.floor, row.clients, &row.packets);
            floors.push(self.run(row.count));
            if row.before.is_none() {
                self.machine.clear();
            }
            let first = match &row.before {
                Some((clients, _)) if *clients == row.clients => 0,
                // Clients that were not there before, other ones in every run.
                _ => (1 << 21) + row.count * run,
            };
            if !row.prelude.is_empty() {
                self.prepare_from(TIDEGATE, 1 << 23, &row.prelude, first);
                self.run(row.clients * row.prelude.len() as u32);
                self.prepare_from(TIDEGATE, 1 << 23, &row.packets, first);
            } else {
                self.prepare_from(TIDEGATE, row.clients, &row.packets, first);
            }
            figures.push(self.run(row.count));
        }
        let (floor, figure) = (median(floors), median(figures));
        (figure - floor, floor)
    }

    fn prepare(&mut self, program: u32, clients: u32, packets: &[(bool, TcpPacket)]) {
        self.prepare_from(program, clients, packets, 0);
    }

    fn prepare_from(&mut self, program: u32, clients: u32, packets: &[(bool, TcpPacket)], client: u32) {
        let mut templates: Array<_, Template> = self.wrapper.map_mut("TEMPLATES").unwrap().try_into().unwrap();
        for (index, (reply, packet)) in packets.iter().enumerate() {
            let mut frame = packet.build();
            frame.resize(64, 0);
            let template = Template { reply: u32::from(*reply), octets: frame.try_into().unwrap() };
            templates.set(index as u32, template, 0).unwrap();
        }
        let mut turn: Array<_, Turn> = self.wrapper.map_mut("TURN").unwrap().try_into().unwrap();
        let templates = packets.len() as u32;
        turn.set(0, Turn { program, templates, template: 0, client, clients, stride: 40_503 }, 0).unwrap();
    }

    /// Nanoseconds a packet.
    fn run(&mut self, packets: u32) -> f64 {
        let program: &mut Xdp = self.wrapper.program_mut("wrap").unwrap().try_into().unwrap();
        let mut out = [0; 128];
        let options = TestRunOptions {
            data_in: Some(&[0; 64]),
            data_out: Some(&mut out),
            repeat: packets,
            ..TestRunOptions::new()
        };
        let result = program.test_run(options).unwrap();
        assert_ne!(result.return_value, 0, "the wrapper found its program");
        assert_ne!(result.return_value, 1, "the packet was forwarded or passed, not dropped");
        // The kernel divides by `repeat` already.
        result.duration.as_nanos() as f64
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
