//! The stack of the object, counted as the strictest kernels count it, so that nobody needs an old kernel to learn
//! that a function has grown too large for one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tidegate-ebpf"));

/// The most that all frames of a chain of calls may take together (kernel, `MAX_BPF_STACK`).
const STACK: u64 = 512;
/// To how much each frame is rounded up before 6.8, newer kernels round to half of it (kernel, `check_max_stack_depth`).
const GRAIN: u64 = 32;
/// Octets of an instruction.
const SIZE: usize = 8;

/// A function by its section and its place there.
type Place = (usize, u64);

#[derive(Debug, Default)]
struct Function {
    name: String,
    /// Octets of its frame that it touches.
    frame: u64,
    calls: Vec<Place>,
}

/// What one instruction does to a frame, or whom it calls.
struct Instruction {
    code: u8,
    target: u8,
    source: u8,
    offset: i16,
    number: i32,
}

impl Instruction {
    const FRAME: u8 = 10;

    fn read(octets: &[u8]) -> Self {
        Self {
            code: octets[0],
            target: octets[1] & 0xf,
            source: octets[1] >> 4,
            offset: i16::from_le_bytes([octets[2], octets[3]]),
            number: i32::from_le_bytes([octets[4], octets[5], octets[6], octets[7]]),
        }
    }

    fn calls_a_function(&self) -> bool {
        self.code == 0x85 && self.source == 1
    }

    /// How deep it reaches into the frame: loads and stores, or an address made by adding to a copy of the pointer.
    fn depth(&self, before: Option<&Self>) -> u64 {
        let loads = self.code & 7 == 1 && self.source == Self::FRAME;
        let stores = matches!(self.code & 7, 2 | 3) && self.target == Self::FRAME;
        let points = self.code == 0x07
            && before.is_some_and(|copy| copy.code == 0xbf && copy.source == Self::FRAME && copy.target == self.target);
        let reach = if loads || stores { i64::from(self.offset) } else { i64::from(self.number) };
        if loads || stores || points { u64::try_from(-reach).unwrap_or(0) } else { 0 }
    }
}

fn functions() -> BTreeMap<Place, Function> {
    let file = object::File::parse(OBJECT).unwrap();
    let mut functions = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let index = symbol.section_index().unwrap();
        let section = file.section_by_index(index).unwrap();
        let relocations: BTreeMap<u64, RelocationTarget> =
            section.relocations().map(|(at, relocation)| (at, relocation.target())).collect();
        let mut function = Function { name: symbol.name().unwrap().to_owned(), ..Function::default() };
        let (begin, end) = (symbol.address(), symbol.address() + symbol.size());
        let code = &section.data().unwrap()[begin as usize..end as usize];
        let instructions: Vec<_> = code.chunks_exact(SIZE).map(Instruction::read).collect();
        for (number, instruction) in instructions.iter().enumerate() {
            let before = number.checked_sub(1).map(|before| &instructions[before]);
            function.frame = function.frame.max(instruction.depth(before));
            if instruction.calls_a_function() {
                let at = begin + (number * SIZE) as u64;
                // Counted from the next instruction, or from the beginning of what a relocation names.
                let (section, base) = match relocations.get(&at) {
                    Some(RelocationTarget::Symbol(target)) => {
                        let target = file.symbol_by_index(*target).unwrap();
                        (target.section_index().unwrap(), target.address())
                    }
                    _ => (index, at),
                };
                let way = (i64::from(instruction.number) + 1) * SIZE as i64;
                function.calls.push((section.0, base.wrapping_add_signed(way)));
            }
        }
        functions.insert((index.0, begin), function);
    }
    functions
}

/// The deepest chain of calls from a function, and what it takes.
fn deepest(functions: &BTreeMap<Place, Function>, place: Place) -> (u64, String) {
    let function = functions.get(&place).unwrap_or_else(|| panic!("a call leads to no function: {place:?}"));
    let frame = function.frame.max(1).next_multiple_of(GRAIN);
    let called = function.calls.iter().map(|call| deepest(functions, *call)).max().unwrap_or_default();
    (frame + called.0, format!("{} {frame} {}", function.name, called.1))
}

#[test]
fn every_chain_of_calls_fits_the_stack_of_the_oldest_kernel() {
    let functions = functions();
    let entry =
        functions.iter().find(|(_, function)| function.name == "tidegate").expect("the program is in the object");
    assert!(entry.1.calls.len() > 3, "calls are found: {entry:?}");
    let (taken, chain) = deepest(&functions, *entry.0);
    println!("{taken} of {STACK} octets: {chain}");
    assert!(taken <= STACK, "{taken} octets of stack, kernels before 6.8 allow {STACK}: {chain}");
}
