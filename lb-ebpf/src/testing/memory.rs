//! The maps as plain memory.

use core::cell::{Cell, RefCell};
use std::{vec, vec::Vec};

use lb_common::{
    Address4, Backend, BackendId, Endpoint, Flow, Nic, Reason, Service, Side, Traffic, Vip, client_hash, filter,
    filter_index, limits, slots,
};

use super::{Floor, Heap, World};
use crate::{
    forward::{Verdict, forward},
    table::{Place, Shape, Tables, Timeouts},
};

/// A world's maps and a flow table, in memory.
pub struct Memory {
    world: RefCell<World>,
    filter: RefCell<Vec<u8>>,
    tags: Vec<Cell<[u16; limits::WAYS]>>,
    places: Vec<Place>,
    reasons: Cell<[u64; Reason::COUNT]>,
    traffic: RefCell<std::collections::BTreeMap<BackendId, Traffic>>,
    now: Cell<u32>,
}

impl Memory {
    /// Maps for a world, without flows.
    pub fn new(world: World) -> Self {
        let sets = limits::flow_sets(World::MAX_FLOWS) as usize;
        let places = (0..sets * limits::WAYS).map(|_| bytemuck_place()).collect();
        let memory = Self {
            world: RefCell::new(World::default()),
            filter: RefCell::default(),
            tags: vec![Cell::default(); sets],
            places,
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

fn bytemuck_place() -> Place {
    // SAFETY: a place is cells over a `Flow`, of which zeros are a value.
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

    fn traffic(&mut self, id: BackendId) -> Traffic {
        self.traffic.borrow().get(&id).copied().unwrap_or(Traffic { packets: [0; 2], bytes: [0; 2] })
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
        let world = self.world.borrow();
        world
            .services
            .keys()
            .any(|endpoint| endpoint.address == address)
            .then_some(Vip { protocols: Vip::TCP, flags: 0 })
    }

    fn is_backend(&self, endpoint: &Endpoint) -> bool {
        self.world.borrow().endpoints().any(|known| known == *endpoint)
    }

    fn is_local(&self, address: Address4) -> bool {
        self.world.borrow().locals.contains(&address)
    }

    fn slot(&self, service: &Service, slot: u32) -> BackendId {
        let world = self.world.borrow();
        world.tables.get(&service.id).and_then(|table| table.get(slot as usize)).copied().unwrap_or(0)
    }

    fn backend(&self, id: BackendId) -> Option<Backend> {
        let empty: Backend = bytemuck::Zeroable::zeroed();
        Some(self.world.borrow().backends.get(&id).copied().unwrap_or(empty))
    }

    fn nic(&self, index: u16) -> Option<Nic> {
        let empty: Nic = bytemuck::Zeroable::zeroed();
        Some(self.world.borrow().nics.get(&index).copied().unwrap_or(empty))
    }

    fn shape(&self) -> Shape {
        Shape { sets: self.tags.len() as u32, seed: World::SEED }
    }

    fn tags(&self, set: u32) -> Option<[u64; 2]> {
        Some(bytemuck::cast(self.tags.get(set as usize)?.get()))
    }

    fn place(&self, set: u32, way: u32) -> Option<&Place> {
        self.places.get(set as usize * limits::WAYS + way as usize)
    }

    fn swap_tag(&self, set: u32, way: u32, old: u16, new: u16) -> bool {
        let cell = &self.tags[set as usize];
        let mut tags = cell.get();
        let same = tags[way as usize] == old;
        if same {
            tags[way as usize] = new;
            cell.set(tags);
        }
        same
    }

    fn set_tag(&self, set: u32, way: u32, new: u16) {
        let mut tags = self.tags[set as usize].get();
        tags[way as usize] = new;
        self.tags[set as usize].set(tags);
    }

    fn fence(&self) {}

    fn now(&self) -> u32 {
        self.now.get()
    }

    fn timeouts(&self) -> Timeouts {
        World::TIMEOUTS
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

impl World {
    /// The address filter of this world.
    pub fn filter(&self) -> Vec<u8> {
        let mut octets = vec![0; limits::FILTER];
        for vip in self.services.keys() {
            octets[filter_index(vip.address)] |= filter::VIP;
        }
        for backend in self.endpoints() {
            octets[filter_index(backend.address)] |= filter::BACKEND;
        }
        octets
    }
}
