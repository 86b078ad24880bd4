//! What a file may cost: capacities, time, and octets that nobody meant as a file.

use std::{fs, path::Path, time::Duration};

use lb_userspace::config::{self, Faults, MAX_FILE};
use nix::time::{ClockId, clock_gettime};

#[track_caller]
fn faults(text: &str) -> Faults {
    config::parse(text, "tidegate.yaml").expect_err("a fault")
}

/// A file of the size that the speed goals name.
fn thousand_services() -> String {
    let mut text = String::from("version: 1\nservices:\n");
    for service in 0..1000 {
        text.push_str(&format!(
            "  service-{service}:\n    listen: 203.0.{}.{}:80\n    backends:\n",
            service / 250,
            service % 250 + 1
        ));
        for backend in 0..10 {
            let (a, b) = (service / 250, service % 250 + 1);
            text.push_str(&format!("      - {{address: 10.{backend}.{a}.{b}:8080, weight: 3, name: b-{backend}}}\n"));
        }
    }
    text
}

/// What this thread has worked, whatever else the machine does.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock").into()
}

#[test]
fn a_thousand_services_are_read_at_once() {
    let text = thousand_services();
    let start = worked();
    let (model, warnings) = config::parse(&text, "tidegate.yaml").expect("valid");
    let took = worked() - start;
    println!("1,000 services with 10 backends each, {} KiB: {took:?}", text.len() >> 10);
    assert_eq!((model.services.len(), warnings.len()), (1000, 0));
    // Without optimisation only a change of order shows.
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 5000 } else { 100 });
    assert!(took < limit, "{took:?}");
}

#[test]
fn capacities_are_faults_and_work_stays_linear() {
    let start = worked();
    let list = |number: usize| {
        (0..number).map(|n| format!("10.{}.{}.{}:80", n >> 16, n >> 8 & 255, n & 255)).collect::<Vec<_>>().join(", ")
    };
    let text = format!("version: 1\nservices: {{a: {{listen: 203.0.113.1:1, backends: [{}]}}}}", list(16_384));
    assert_eq!(faults(&text).faults[0].message, "16384 backends (at most 16383)");
    let text = format!("version: 1\nservices: {{a: {{listen: [{}], backends: [192.0.2.1:1]}}}}", list(8193));
    assert_eq!(faults(&text).faults[0].message, "8193 addresses to listen on (at most 8192)");
    let many = |number: usize, more: &str| {
        let service = |n: usize| format!("  s{n}: {{listen: 203.0.113.1:{}, backends: [192.0.2.1:1]{more}}}\n", n + 1);
        format!("version: 1\nservices:\n{}", (0..number).map(service).collect::<String>())
    };
    assert_eq!(faults(&many(2049, "")).faults[0].message, "2049 services (at most 2048)");
    assert_eq!(
        faults(&many(65, ", slots: 65537")).faults[0].message,
        "65 services have tables of 65537 slots (at most 64)"
    );
    let deny = list(20_000).replace(":80", "");
    let text = format!("version: 1\ndefaults: {{deny: [{deny}]}}\n{}", many(2, "").replace("version: 1\n", ""));
    assert_eq!(faults(&text).faults[0].message, "40000 prefixes in `allow` and `deny` (at most 32768)");
    let faults = faults(&many(5000, ", weight: 1"));
    assert_eq!((faults.faults.len(), faults.count()), (1000, 5001));
    assert!(worked() - start < Duration::from_secs(20));
}

#[test]
fn no_file_is_expensive() {
    let size = if cfg!(debug_assertions) { MAX_FILE >> 8 } else { MAX_FILE };
    let start = "version: 1\nservices: {a: {listen: 203.0.113.1:80, backends: [";
    let heads = ["", start, "version: 1\nservices:\n", "a: &a {}\nb: ["];
    let units = [
        "[",
        "{",
        "- ",
        "a: ",
        "? ",
        "&a ",
        "*a, ",
        "!a ",
        "\"",
        "'",
        "#x\n",
        "%x\n",
        "a\n",
        "a:\n",
        "- a\n",
        "a: b\n",
        "é",
        "|\n",
        "---\n",
        "{a: ",
        "[a,",
        ",",
        ":",
        "? a\n",
        "a: &a b\n",
        " ",
        "\n",
        "\t",
        "\r",
        "<<: {a: 1}\n",
        "10.0.0.0.1, ",
        "  a: &a {<<: *a}\n",
        "{address: 1}, ",
        "]",
        "}",
        "\\",
        "a: \"\\",
        "- - ",
        "@",
        "\0",
    ];
    let mut slowest = (Duration::ZERO, String::new());
    for head in heads {
        for unit in units {
            let text = head.to_owned() + &unit.repeat((size - head.len()) / unit.len());
            let start = worked();
            survives(text.as_bytes());
            slowest = slowest.max((worked() - start, format!("{head:?} and {unit:?}")));
        }
    }
    println!("of files with {} KiB the slowest is {} in {:?}", size >> 10, slowest.1, slowest.0);
    assert!(slowest.0 < Duration::from_secs(10), "{slowest:?}");
}

/// A generator that is good enough to make files nobody would write (xorshift, fixed seed).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Whatever the octets, there is a model or faults that print, with marks inside their lines.
fn survives(octets: &[u8]) {
    if let Err(faults) = config::parse_octets(octets, "f") {
        assert!(faults.count() > 0);
        let lines = octets.split(|octet| matches!(octet, b'\n' | b'\r')).count();
        for fault in faults.faults.iter().chain(&faults.warnings) {
            assert!(fault.line.is_some_and(|line| (1..=lines).contains(&line)), "{fault}");
            assert!(fault.column.is_some_and(|column| column > 0), "{fault}");
            assert!(!fault.to_string().contains('\u{1b}'), "{fault}");
        }
    }
}

#[test]
fn no_octets_make_it_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for length in 0..400 {
        survives(&(0..length).map(|_| random.below(256) as u8).collect::<Vec<_>>());
        let alphabet = b"[]{}:,-?&*!|>'\"%@`#~<\n\n\n   \t01a.\xc3\xa9\r\0";
        survives(&(0..length).map(|_| alphabet[random.below(alphabet.len())]).collect::<Vec<_>>());
    }
}

#[test]
fn no_mutation_of_a_file_makes_it_panic() {
    let mut seeds: Vec<Vec<u8>> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| fs::read(path).expect("readable"))
        .collect();
    seeds.push(include_bytes!("../../deploy/tidegate.example.yaml").to_vec());
    seeds.sort();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for turn in 0..3000 {
        let mut octets = seeds[turn % seeds.len()].clone();
        for _ in 0..=random.below(6) {
            let at = random.below(octets.len());
            match random.below(5) {
                0 => drop(octets.drain(at..(at + random.below(20)).min(octets.len()))),
                1 => octets.insert(at.min(octets.len()), random.below(256) as u8),
                2 => octets.splice(at..at, "[{é&a *a:\n".bytes().skip(random.below(8))).for_each(drop),
                3 => octets.truncate(at),
                _ => {
                    let other = &seeds[random.below(seeds.len())];
                    let from = random.below(other.len());
                    let piece: Vec<u8> = other[from..].iter().take(random.below(60)).copied().collect();
                    octets.splice(at..at, piece).for_each(drop);
                }
            }
        }
        survives(&octets);
    }
}
