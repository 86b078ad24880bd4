//! How many connections each client has with each service: the packet path counts them one by one, and
//! a sweep sets right what it lost.
//!
//! It loses some: CPUs that count at the same instant, handshakes whose places are taken by others, flows that
//! fall silent. The map is read and written in batches (Linux 5.6), some system calls for 65,536 clients.

use std::{
    cmp::Reverse,
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use lb_common::{Source, limits};

/// Commands of bpf(2).
#[derive(Clone, Copy, Debug)]
enum Command {
    Read = 24,
    Write = 26,
    Delete = 27,
}

/// `union bpf_attr`, the part of `BPF_MAP_*_BATCH`.
#[derive(Default)]
#[repr(C)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The map `SOURCES`.
pub(super) struct Sources(MapData);

/// What is to be changed in the map.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    written: Vec<(Source, u32)>,
    deleted: Vec<Source>,
}

impl Sources {
    pub(super) fn new(map: MapData) -> Self {
        Self(map)
    }

    /// Makes the map say what a sweep saw: one [`Source`] for each connection, in any order.
    pub(super) fn set_right(&self, connections: Vec<u64>) -> Result<()> {
        let Changes { written, deleted } = changes(&fitting(count(connections), limits::SOURCES), &self.read()?);
        let (keys, values): (Vec<Source>, Vec<u32>) = written.into_iter().unzip();
        self.change(Command::Write, &keys, &values).context("cannot set the connections of clients right")?;
        self.change(Command::Delete, &deleted, &[]).context("cannot forget clients without connections")
    }

    /// How many connections a client has.
    pub(super) fn of(&self, source: &Source) -> Result<u32> {
        Ok(self.read()?.iter().find(|(known, _)| known == source).map_or(0, |(_, count)| *count))
    }

    fn read(&self) -> Result<Vec<(Source, u32)>> {
        let none = Source { client: lb_common::Address4([0; 4]), service: 0, zero: [0; 2] };
        // All at once: a batch never ends inside a bucket, and then there is no second one.
        let (mut keys, mut values) = (vec![none; limits::SOURCES], vec![0_u32; limits::SOURCES]);
        let mut next = 0_u32;
        let mut attributes = Attributes {
            out_batch: address(&raw mut next),
            keys: address(keys.as_mut_ptr()),
            values: address(values.as_mut_ptr()),
            count: limits::SOURCES as u32,
            ..Attributes::default()
        };
        let done = self.call(Command::Read, &mut attributes);
        match done {
            // The end of the map.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            done => done.context("cannot read the connections of clients")?,
        }
        Ok(keys.into_iter().zip(values).take(attributes.count as usize).collect())
    }

    fn change(&self, command: Command, keys: &[Source], values: &[u32]) -> io::Result<()> {
        let mut at = 0;
        while at < keys.len() {
            let values = values.get(at..).unwrap_or_default();
            let mut attributes = Attributes {
                keys: address(keys[at..].as_ptr()),
                values: address(values.as_ptr()),
                count: (keys.len() - at) as u32,
                ..Attributes::default()
            };
            let done = self.call(command, &mut attributes);
            at += attributes.count as usize;
            match done {
                // One that the packet path has evicted meanwhile: on with the next.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => at += 1,
                done => done?,
            }
        }
        Ok(())
    }

    fn call(&self, command: Command, attributes: &mut Attributes) -> io::Result<()> {
        attributes.map_fd = self.0.fd().as_fd().as_raw_fd() as u32;
        let size = size_of::<Attributes>();
        // SAFETY: the attributes are those of the command, and name memory for `count` keys and values that
        // lives as long as the call.
        let done = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_int, attributes, size) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn address<T>(pointer: *const T) -> u64 {
    pointer as usize as u64
}

/// Connections by client, in order. Sorted and not hashed: clients choose their addresses, and could choose
/// those that fall on one place.
fn count(mut connections: Vec<u64>) -> Vec<(u64, u32)> {
    connections.sort_unstable();
    connections.chunk_by(|one, other| one == other).map(|run| (run[0], run.len() as u32)).collect()
}

/// Those with the most connections, where there are more clients than the map has room for: whoever is near
/// his limit is among them.
fn fitting(mut so: Vec<(u64, u32)>, most: usize) -> Vec<(u64, u32)> {
    if so.len() > most {
        so.sort_unstable_by_key(|(_, count)| Reverse(*count));
        so.truncate(most);
        so.sort_unstable();
    }
    so
}

/// What leads from what the map says to what is so.
fn changes(so: &[(u64, u32)], said: &[(Source, u32)]) -> Changes {
    let mut changes = Changes::default();
    let mut said: Vec<(u64, u32)> = said.iter().map(|(source, count)| (bytemuck::must_cast(*source), *count)).collect();
    said.sort_unstable();
    for (source, _) in &said {
        if so.binary_search_by_key(source, |(known, _)| *known).is_err() {
            changes.deleted.push(bytemuck::must_cast(*source));
        }
    }
    for (source, count) in so {
        let known = said.binary_search_by_key(source, |(known, _)| *known).ok().map(|at| said[at].1);
        if known != Some(*count) {
            changes.written.push((bytemuck::must_cast(*source), *count));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use lb_common::Address4;

    use super::*;

    fn source(client: u8, service: u16) -> Source {
        Source { client: Address4([192, 0, 2, client]), service, zero: [0; 2] }
    }

    #[test]
    fn only_what_differs_is_written_and_who_has_none_is_forgotten() {
        let connections = [source(1, 1), source(2, 1), source(1, 1), source(1, 2), source(3, 1)];
        let so = count(connections.map(bytemuck::must_cast).to_vec());
        let said = [(source(1, 1), 2), (source(2, 1), 7), (source(9, 1), 4), (source(1, 2), 1)];
        let Changes { mut written, deleted } = changes(&so, &said);
        written.sort_unstable();
        assert_eq!((written, deleted), (vec![(source(2, 1), 1), (source(3, 1), 1)], vec![source(9, 1)]));
        assert_eq!(changes(&[], &[]), Changes::default());
    }

    #[test]
    fn of_more_clients_than_there_is_room_for_those_with_the_most_connections_stay() {
        let so = vec![(1, 1), (2, 5), (3, 2), (4, 1)];
        assert_eq!(fitting(so.clone(), 4), so);
        assert_eq!(fitting(so, 2), [(2, 5), (3, 2)]);
    }
}
