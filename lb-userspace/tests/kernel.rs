//! Every packet case in this machine's kernel, and what its verifier says of the program. Needs root.

mod machine;

use aya::programs::Xdp;
use lb_common::{Flow, Half};
use lb_ebpf::testing::{Floor, Memory, Strays, World, cases, play};
use machine::{Machine, OBJECT};
use nix::sched::{CloneFlags, unshare};

/// The most instructions that the verifier may go through, by the first kernel for which that holds. Its limit is
/// a million; each hundred thousand take about a tenth of a second to load. Kernels do not prune alike, and newer
/// ones not always more: measured were 5.10, 6.1, 6.12 and 6.18, each with a quarter of room.
const BUDGETS: [((u32, u32), u32); 2] = [((6, 2), 185_000), ((5, 10), 128_000)];

/// Packets on which host and kernel are compared.
const STRAYS: usize = 100_000;

/// A namespace of its own, whose lo is NIC 1.
fn namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("this test makes a network namespace: run it as root (sudo -E)");
}

fn machine() -> Machine {
    namespace();
    Machine::new(World::MAX_FLOWS)
}

/// What both tables hold, but for the clock.
fn entries(floor: &mut dyn Floor) -> (Vec<Flow>, Vec<Half>) {
    let flows = floor.flows().into_iter().map(|flow| Flow { seen: 0, created: 0, ..flow });
    let halves = floor.halves().into_iter().map(|half| Half { created: 0, attempt: 0, micros: 0, ..half });
    (flows.collect(), halves.collect())
}

#[test]
fn every_case_ends_in_the_kernel_as_on_the_host() {
    let mut machine = machine();
    let mut failures = Vec::new();
    let cases = cases::all();
    for case in &cases {
        machine.clear();
        if let Err(why) = play(case, &mut machine) {
            failures.push(why);
        }
    }
    println!("{} cases in the kernel", cases.len());
    assert!(failures.is_empty(), "{} of {} cases failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn host_and_kernel_agree_on_packets_that_nobody_would_send() {
    namespace();
    // However long the machine takes, no handshake is too old: the host's clock stands still.
    let mut machine = Machine::with_patience(World::MAX_FLOWS, u32::MAX);
    let world = Strays::world();
    machine.change(&world);
    let mut memory = Memory::new(world);
    for (number, (frame, nic)) in Strays::new(2).take(STRAYS).enumerate() {
        let (host, kernel) = (memory.run(&frame, nic), machine.run(&frame, nic));
        // The kernel's verdict does not say which NIC it leaves by; of two, it is the other one.
        assert_eq!(host, kernel, "packet {number}, host first, of {frame:02x?}");
        if number % 1000 == 0 {
            assert_eq!(memory.reasons(), machine.reasons(), "counters after packet {number}");
        }
    }
    assert_eq!(memory.reasons(), machine.reasons());
    assert_eq!(entries(&mut memory), entries(&mut machine));
}

#[test]
fn the_program_stays_in_the_verifiers_budget() {
    let mut machine = machine();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = kernel.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let budget = BUDGETS.iter().find(|(first, _)| version >= *first).expect("a kernel from 5.10 on").1;
    let program: &mut Xdp = machine.object.program_mut("tidegate").unwrap().try_into().unwrap();
    match program.info().unwrap().verified_instruction_count() {
        Some(verified) => {
            println!("{verified} verified instructions of {budget}");
            assert!(verified <= budget, "{verified} verified instructions, the budget is {budget}");
        }
        // Before 5.16 the kernel does not tell; that it loaded the program says that its limit holds.
        None => assert!(version < (5, 16), "Linux {kernel} tells"),
    }
}

#[test]
fn the_object_has_no_panic_path() {
    // Symbol names stand in the string table as they are: whoever can panic calls `core::panicking`.
    let text = String::from_utf8_lossy(OBJECT);
    let functions: Vec<_> = text.split('\0').filter(|name| name.starts_with("_R") && name.contains("panic")).collect();
    assert!(functions.is_empty(), "the object can panic: {functions:?}");
}
