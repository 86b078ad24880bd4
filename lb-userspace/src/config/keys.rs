//! Every key of the file: where it stands, and whether this version has it.
//!
//! A key that is promised and not there yet is refused, never ignored; so is a key that nobody knows,
//! and that one is answered with the likely one.

/// A map of the file with keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    File,
    Node,
    Admin,
    Log,
    Defaults,
    Service,
    Health,
    Tcp,
    Timeouts,
    Drain,
    Limits,
    Backend,
}

/// The keys of one room.
pub(super) struct Keys {
    pub(super) room: Room,
    /// What a person calls the room.
    noun: &'static str,
    /// Keys that this version has.
    pub(super) now: &'static [&'static str],
    /// Keys that are promised for a later one.
    later: &'static [&'static str],
}

/// All keys, room by room.
pub(super) const ROOMS: [Keys; 12] = [
    Keys {
        room: Room::File,
        noun: "the file",
        now: &["version", "node", "admin", "log", "defaults", "services"],
        later: &[],
    },
    Keys {
        room: Room::Node,
        noun: "`node`",
        now: &["interfaces", "xdp", "max_flows", "announce_vips"],
        later: &["snat_addresses", "dead_man"],
    },
    Keys { room: Room::Admin, noun: "`admin`", now: &["socket", "http"], later: &[] },
    Keys { room: Room::Log, noun: "`log`", now: &["level", "connections"], later: &[] },
    Keys { room: Room::Defaults, noun: "`defaults`", now: SETTINGS, later: LATER_SETTINGS },
    Keys {
        room: Room::Service,
        noun: "a service",
        now: &[
            "listen",
            "backends",
            "protocol",
            "mode",
            "algorithm",
            "slots",
            "health",
            "timeouts",
            "drain",
            "all_down",
            "on_down",
            "retry",
            "measure",
            "limits",
            "allow",
            "deny",
        ],
        later: LATER_SETTINGS,
    },
    Keys {
        room: Room::Health,
        noun: "`health`",
        now: &["tcp", "interval", "timeout", "rise", "fall"],
        later: &["http", "tls", "exchange", "exec", "fast_interval", "down_interval", "jitter"],
    },
    Keys { room: Room::Tcp, noun: "`tcp`", now: &["port"], later: &[] },
    Keys { room: Room::Timeouts, noun: "`timeouts`", now: &["syn", "established", "fin"], later: &["udp"] },
    Keys { room: Room::Drain, noun: "`drain`", now: &["for", "then"], later: &[] },
    Keys { room: Room::Limits, noun: "`limits`", now: &["rate", "per_source"], later: &["connections"] },
    Keys {
        room: Room::Backend,
        noun: "a backend",
        now: &["address", "weight", "name"],
        later: &["max_connections", "backup"],
    },
];

const _: () = {
    let mut number = 0;
    while number < ROOMS.len() {
        assert!(ROOMS[number].room as usize == number, "rooms stand at their own numbers");
        number += 1;
    }
};

/// What `defaults` and services share.
const SETTINGS: &[&str] = &[
    "protocol",
    "mode",
    "algorithm",
    "slots",
    "health",
    "timeouts",
    "drain",
    "all_down",
    "on_down",
    "retry",
    "measure",
    "limits",
    "allow",
    "deny",
];
const LATER_SETTINGS: &[&str] = &["affinity", "passive", "slow_start", "fragments"];

/// What other balancers call our keys.
const ELSEWHERE: [(&str, &str); 14] = [
    ("address", "listen"),
    ("bind", "listen"),
    ("vip", "listen"),
    ("servers", "backends"),
    ("targets", "backends"),
    ("upstreams", "backends"),
    ("endpoints", "backends"),
    ("balance", "algorithm"),
    ("scheduler", "algorithm"),
    ("healthcheck", "health"),
    ("health_check", "health"),
    ("check", "health"),
    ("ip", "address"),
    ("endpoint", "address"),
];

/// What a key is in a room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// One of this version's keys.
    Known(&'static str),
    /// Not to be used.
    Refused {
        /// What is wrong.
        message: String,
        /// What to do.
        help: String,
        /// The key of this version that was probably meant.
        likely: Option<&'static str>,
    },
}

impl Room {
    /// Its keys.
    pub(super) fn keys(self) -> &'static Keys {
        &ROOMS[self as usize]
    }

    /// What `key` means here.
    pub(super) fn meaning(self, key: &str) -> Meaning {
        let keys = self.keys();
        if let Some(known) = keys.now.iter().find(|known| **known == key) {
            return Meaning::Known(known);
        }
        let shown = super::scalar::shown(key);
        if keys.later.contains(&key) || (self == Room::Node && key.starts_with("dead_man")) {
            let message = format!("this version does not have `{shown}` yet");
            return Meaning::Refused { message, help: "remove it until a version has it".to_owned(), likely: None };
        }
        let (likely, help) = self.advice(key);
        Meaning::Refused { message: format!("`{shown}` is not a key of {}", keys.noun), help, likely }
    }

    /// What was probably meant by a key that nobody knows, and what to do.
    fn advice(self, key: &str) -> (Option<&'static str>, String) {
        let Keys { now, later, .. } = self.keys();
        let foreign = ELSEWHERE.iter().find(|(name, ours)| *name == key && now.contains(ours)).map(|(_, ours)| *ours);
        if let Some(likely) = foreign.or_else(|| closest(key, now.iter().chain(*later).copied())) {
            return if now.contains(&likely) {
                (Some(likely), format!("did you mean `{likely}`?"))
            } else {
                (None, format!("did you mean `{likely}`? This version does not have it yet"))
            };
        }
        let home = |has: fn(&Keys) -> &'static [&'static str]| ROOMS.iter().find(|keys| has(keys).contains(&key));
        if let Some(home) = home(|keys| keys.now) {
            return (None, format!("it is a key of {}", home.noun));
        }
        if let Some(home) = home(|keys| keys.later) {
            return (None, format!("it is a key of {}, and this version does not have it yet", home.noun));
        }
        (None, format!("keys of {}: {}", self.keys().noun, now.join(", ")))
    }
}

/// The word that was probably meant.
pub(super) fn closest<'a>(typed: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed: Vec<char> = typed.to_lowercase().replace(['-', ' '], "_").chars().collect();
    if typed.len() > 32 {
        return None;
    }
    let likely = |word: &'a str| {
        let letters: Vec<char> = word.replace('-', "_").chars().collect();
        let allowed = match letters.len() {
            0..=3 => 1,
            4..=8 => 2,
            _ => 3,
        };
        let distance = distance(&typed, &letters);
        // A word that shares nothing but its length is no slip of the finger.
        (distance <= allowed && distance * 2 < letters.len().max(typed.len())).then_some((distance, word))
    };
    let alike = |word: &str| word.replace('-', "_").chars().zip(&typed).take_while(|(a, b)| a == *b).count();
    words.filter_map(likely).min_by_key(|(distance, word)| (*distance, usize::MAX - alike(word))).map(|(_, word)| word)
}

/// Insertions, deletions, changes and swaps of neighbours that lead from one word to the other
/// (optimal string alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before = vec![0; to.len() + 1];
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let change = above[j] + usize::from(a != b);
            let mut best = change.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn advice(room: Room, key: &str) -> String {
        match room.meaning(key) {
            Meaning::Refused { help, .. } => help,
            Meaning::Known(key) => panic!("{key} is known"),
        }
    }

    #[test]
    fn a_misspelt_key_is_answered_with_the_likely_one() {
        assert_eq!(advice(Room::Service, "lisen"), "did you mean `listen`?");
        assert_eq!(advice(Room::Service, "Listen"), "did you mean `listen`?");
        assert_eq!(advice(Room::Service, "backend"), "did you mean `backends`?");
        assert_eq!(advice(Room::Service, "helath"), "did you mean `health`?");
        assert_eq!(advice(Room::Node, "max-flows"), "did you mean `max_flows`?");
        assert_eq!(advice(Room::File, "service"), "did you mean `services`?");
        assert_eq!(advice(Room::Service, "timeout"), "did you mean `timeouts`?");
        assert_eq!(advice(Room::Service, "slowstart"), "did you mean `slow_start`? This version does not have it yet");
        assert_eq!(advice(Room::Service, "servers"), "did you mean `backends`?");
    }

    #[test]
    fn a_key_in_the_wrong_room_is_sent_home() {
        assert_eq!(advice(Room::Service, "interval"), "it is a key of `health`");
        assert_eq!(advice(Room::File, "interfaces"), "it is a key of `node`");
        assert_eq!(advice(Room::Service, "backup"), "it is a key of a backend, and this version does not have it yet");
    }

    #[test]
    fn a_key_that_is_like_none_gets_the_list() {
        assert_eq!(advice(Room::Tcp, "zebra"), "keys of `tcp`: port");
    }

    #[test]
    fn what_is_promised_is_not_unknown() {
        let promised = |room: Room, key| match room.meaning(key) {
            Meaning::Refused { message, .. } => message,
            Meaning::Known(key) => key.to_owned(),
        };
        assert_eq!(promised(Room::Service, "affinity"), "this version does not have `affinity` yet");
        assert_eq!(promised(Room::Node, "dead_man_timeout"), "this version does not have `dead_man_timeout` yet");
    }
}
