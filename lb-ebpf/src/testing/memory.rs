//! The maps as plain memory.

use core::cell::{Cell, RefCell};
use std::{vec, vec::Vec};

use lb_common::{
    Address4, Backend, BackendId, Endpoint, Flow, Half, Limits, Nic, Origin, Reason, Service, Side, Source, Timeouts,
    Times, Traffic, Vip, client_hash, filter, filter_index, limits, slots,
};

use super::{Floor, Heap, World};
use crate::{
    admit,
    decision::Decision,
    enter,
    forward::{Verdict, forward},
    half, select,
    table::{Calls, HalfPlace, Pending, Place, Shape, Tables},
    track,
};

/// A world's maps and a flow table, in memory.
pub struct Memory {
    world: RefCell<World>,
    filter: RefCell<Vec<u8>>,
    tags: Vec<Cell<[u16; limits::WAYS]>>,
    places: Vec<Place>,
    half_tags: Vec<Cell<[u16; limits::WAYS]>>,
    halves: Vec<HalfPlace>,
    due: Vec<Cell<u64>>,
    connections: RefCell<std::collections::BTreeMap<Source, u32>>,
    pending: Vec<Pending>,
    times: RefCell<std::collections::BTreeMap<BackendId, Times>>,
    reasons: Cell<[u64; Reason::COUNT]>,
    traffic: RefCell<std::collections::BTreeMap<BackendId, Traffic>>,
    now: Cell<u32>,
}

impl Memory {
    /// Maps for a world, without flows.
    pub fn new(world: World) -> Self {
        let sets = limits::flow_sets(World::MAX_FLOWS) as usize;
        let half_sets = limits::half_sets(sets as u32) as usize;
        let memory = Self {
            world: RefCell::new(World::default()),
            filter: RefCell::default(),
            tags: vec![Cell::default(); sets],
            places: (0..sets * limits::WAYS).map(|_| zeroed()).collect(),
            half_tags: vec![Cell::default(); half_sets],
            halves: (0..half_sets * limits::HALF_WAYS).map(|_| zeroed()).collect(),
            due: vec![Cell::default(); 64],
            connections: RefCell::default(),
            pending: (0..limits::PENDING).map(|_| zeroed()).collect(),
            times: RefCell::default(),
            reasons: Cell::new([0; Reason::COUNT]),
            traffic: RefCell::default(),
            now: Cell::new(1_000_000_000),
        };
        memory.enter(world);
        memory
    }

    fn enter(&self, world: World) {
        *self.filter.borrow_mut() = world.filter();
        *self.world.borrow_mut() = world;
    }

    /// The slot that a client falls on.
    pub fn slot_of(client: Address4, slots: u32) -> u32 {
        slots::slot(client_hash(client), slots)
    }
}

/// An entry of nobody.
fn zeroed<T>() -> T {
    // SAFETY: used for cells over plain numbers only, of which zeros are a value.
    unsafe { core::mem::zeroed() }
}

impl Floor for Memory {
    fn change(&mut self, world: &World) {
        self.enter(world.clone());
    }

    fn run(&mut self, frame: &[u8], nic: u16) -> (Verdict, Vec<u8>) {
        let ingress = self.nic(nic).map_or(0, |nic| nic.ifindex);
        let mut frame = Heap::new(frame, ingress);
        let (verdict, _) = forward(&mut frame, &*self);
        (verdict, frame.octets())
    }

    fn reasons(&mut self) -> [u64; Reason::COUNT] {
        self.reasons.get()
    }

    fn age(&mut self, jiffies: u32) {
        self.now.set(self.now.get().wrapping_add(jiffies));
    }

    fn flows(&mut self) -> Vec<Flow> {
        let mut flows = Vec::new();
        for (set, tags) in self.tags.iter().enumerate() {
            for (way, tag) in tags.get().into_iter().enumerate() {
                if tag > 1 {
                    let place = &self.places[set * limits::WAYS + way];
                    // SAFETY: `Place` has the layout of `Flow`, and nobody writes meanwhile.
                    flows.push(unsafe { *core::ptr::from_ref(place).cast::<Flow>() });
                }
            }
        }
        flows
    }

    fn halves(&mut self) -> Vec<Half> {
        let mut halves = Vec::new();
        for (set, tags) in self.half_tags.iter().enumerate() {
            for (way, tag) in tags.get().into_iter().take(limits::HALF_WAYS).enumerate() {
                if tag > 1 {
                    let place = &self.halves[set * limits::HALF_WAYS + way];
                    // SAFETY: `HalfPlace` has the layout of `Half`, and nobody writes meanwhile.
                    halves.push(unsafe { *core::ptr::from_ref(place).cast::<Half>() });
                }
            }
        }
        halves
    }

    fn connections(&mut self, source: Source) -> u32 {
        Tables::connections(self, &source)
    }

    fn times(&mut self, id: BackendId) -> Times {
        self.times.borrow().get(&id).copied().unwrap_or(bytemuck::Zeroable::zeroed())
    }

    fn traffic(&mut self, id: BackendId) -> Traffic {
        self.traffic.borrow().get(&id).copied().unwrap_or(Traffic { packets: [0; 2], bytes: [0; 2] })
    }
}

impl Calls for Memory {
    fn seek(&self, client: u64, peer: u64) -> u32 {
        track::seek(self, client, peer)
    }

    fn seek_half(&self, client: u64, peer: u64) -> u32 {
        half::seek_half(self, client, peer)
    }

    fn claim(&self, client: u64) -> u32 {
        track::claim(self, client)
    }

    fn forget(&self, half: u32, tag: u16, stays: u8) -> u32 {
        half::forget(self, half, tag, stays)
    }

    fn begin(&self, client: u64, vip: u64, way: u64, birth: u64) -> u32 {
        enter::begin(self, client, vip, way, birth)
    }

    fn promote(&self, client: u64, half: u32, mark: u64, is_backend: u8) -> u32 {
        enter::promote(self, client, half, mark, is_backend)
    }

    fn keeps_away(&self, client: u64, rules: u64, opens: u8) -> Decision {
        admit::keeps_away(self, client, rules, opens)
    }

    fn select(&self, client: u64, table: u64) -> Decision {
        select::select(self, client, table)
    }

    fn is_free(&self, client: u64, peer: u64) -> u8 {
        select::is_free(self, client, peer)
    }

    fn another(&self, client: u64, table: u64, id: BackendId, moves: u8) -> BackendId {
        select::another(self, client, table, id, moves)
    }

    fn has_other(&self, client: u64, table: u64, id: BackendId, moves: u8) -> u8 {
        select::has_other(self, client, table, id, moves)
    }
}

impl Tables for Memory {
    fn filter(&self, address: Address4) -> u8 {
        self.filter.borrow()[filter_index(address)]
    }

    fn service(&self, endpoint: &Endpoint) -> Option<Service> {
        self.world.borrow().services.get(endpoint).copied()
    }

    fn vip(&self, address: Address4) -> Option<Vip> {
        self.world.borrow().vips().get(&address).copied()
    }

    fn is_backend(&self, endpoint: &Endpoint) -> bool {
        self.world.borrow().endpoints().any(|known| known == *endpoint)
    }

    fn is_local(&self, address: Address4) -> bool {
        self.world.borrow().locals.contains(&address)
    }

    fn slot(&self, _slots: u32, table: u16, slot: u32) -> BackendId {
        let world = self.world.borrow();
        world.tables.get(&table).and_then(|table| table.get(slot as usize)).copied().unwrap_or(0)
    }

    fn backend(&self, id: BackendId) -> Option<Backend> {
        let empty: Backend = bytemuck::Zeroable::zeroed();
        Some(self.world.borrow().backends.get(&id).copied().unwrap_or(empty))
    }

    fn timeouts(&self, id: BackendId) -> Timeouts {
        match id {
            0 => self.world.borrow().timeouts.unwrap_or(World::TIMEOUTS),
            id => self.backend(id).map_or(World::TIMEOUTS, |backend| backend.timeouts),
        }
    }

    fn access(&self, origin: &Origin) -> u32 {
        let world = self.world.borrow();
        let number = |origin: &Origin| u64::from_be_bytes(bytemuck::cast(*origin));
        let covers =
            |(bits, prefix): &(u32, Origin)| (number(origin) ^ number(prefix)).checked_shr(64 - bits) == Some(0);
        let best = world.access.iter().filter(|(prefix, _)| covers(prefix)).max_by_key(|((bits, _), _)| *bits);
        best.map_or(0, |(_, verdict)| *verdict)
    }

    fn limits(&self, service: u16) -> Option<Limits> {
        let none: Limits = bytemuck::Zeroable::zeroed();
        Some(self.world.borrow().limits.get(&service).copied().unwrap_or(none))
    }

    fn due(&self, service: u16) -> Option<&Cell<u64>> {
        self.due.get(usize::from(service))
    }

    fn connections(&self, source: &Source) -> u32 {
        self.connections.borrow().get(source).copied().unwrap_or(0)
    }

    fn count_connection(&self, source: &Source, more: bool) {
        let mut connections = self.connections.borrow_mut();
        match connections.get_mut(source) {
            Some(count) if more => *count += 1,
            Some(count) => *count = count.saturating_sub(1),
            None if more => {
                connections.insert(*source, 1);
            }
            None => {}
        }
    }

    fn nic(&self, index: u16) -> Option<Nic> {
        let empty: Nic = bytemuck::Zeroable::zeroed();
        Some(self.world.borrow().nics.get(&index).copied().unwrap_or(empty))
    }

    fn shape(&self) -> Shape {
        Shape { sets: self.tags.len() as u32, half_sets: self.half_tags.len() as u32, seed: World::SEED }
    }

    fn tags(&self, set: u32) -> Option<[u64; 2]> {
        Some(bytemuck::cast(self.tags.get(set as usize)?.get()))
    }

    fn place(&self, number: u32) -> Option<&Place> {
        self.places.get(number as usize)
    }

    fn swap_tag(&self, set: u32, way: u32, old: u16, new: u16) -> bool {
        swap(&self.tags[set as usize], way, old, new)
    }

    fn set_tag(&self, set: u32, way: u32, new: u16) {
        put(&self.tags[set as usize], way, new);
    }

    fn half_tags(&self, set: u32) -> Option<[u64; 2]> {
        Some(bytemuck::cast(self.half_tags.get(set as usize)?.get()))
    }

    fn half(&self, number: u32) -> Option<&HalfPlace> {
        self.halves.get(number as usize)
    }

    fn swap_half_tag(&self, set: u32, way: u32, old: u16, new: u16) -> bool {
        swap(&self.half_tags[set as usize], way, old, new)
    }

    fn set_half_tag(&self, set: u32, lane: u32, new: u16) {
        put(&self.half_tags[set as usize], lane, new);
    }

    fn fence(&self) {}

    fn now(&self) -> u32 {
        self.now.get()
    }

    fn jiffies(&self) -> u64 {
        self.now.get().into()
    }

    fn patience(&self) -> u32 {
        World::PATIENCE
    }

    fn micros(&self) -> u32 {
        self.now.get().wrapping_mul(1000)
    }

    fn pending(&self, index: u32) -> Option<&Pending> {
        self.pending.get(index as usize % limits::PENDING)
    }

    fn took(&self, id: BackendId, micros: u32) {
        let mut times = self.times.borrow_mut();
        let entry = times.entry(id).or_insert(bytemuck::Zeroable::zeroed());
        *entry = entry.with(micros);
    }

    fn count(&self, reason: Reason) {
        let mut reasons = self.reasons.get();
        reasons[reason as usize] += 1;
        self.reasons.set(reasons);
    }

    fn traffic(&self, id: BackendId, side: Side, octets: u16) {
        let mut all = self.traffic.borrow_mut();
        let traffic = all.entry(id).or_insert(Traffic { packets: [0; 2], bytes: [0; 2] });
        traffic.packets[side as usize] += 1;
        traffic.bytes[side as usize] += u64::from(octets);
    }
}

fn swap(cell: &Cell<[u16; limits::WAYS]>, way: u32, old: u16, new: u16) -> bool {
    let same = cell.get()[way as usize] == old;
    if same {
        put(cell, way, new);
    }
    same
}

fn put(cell: &Cell<[u16; limits::WAYS]>, way: u32, new: u16) {
    let mut tags = cell.get();
    tags[way as usize] = new;
    cell.set(tags);
}

impl World {
    /// The address filter of this world.
    pub fn filter(&self) -> Vec<u8> {
        let mut octets = vec![0; limits::FILTER];
        for vip in self.vips().keys() {
            octets[filter_index(*vip)] |= filter::VIP;
        }
        for backend in self.endpoints() {
            octets[filter_index(backend.address)] |= filter::BACKEND;
        }
        octets
    }
}
