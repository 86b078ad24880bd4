//! A backend's packet that belongs to no live flow: the answer to a handshake, or the first word of a flow in
//! mid-life.

use lb_common::{Address4, BackendId, Mac, Port, Reason, Side, kind, stage};

use super::{
    decision::{Decision, ends},
    half::{Segment, Shaking},
    header::{RST, SYN},
    open::can_move,
    parse::Packet,
    past::orphan,
    spot::{Peer, Spot, number_of},
    table::{Identity, Tables},
};

/// What a backend's packet becomes, and the way it leaves.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// The source that the client knows.
    pub vip: Address4,
    /// Its port.
    pub vip_port: Port,
    /// The NIC towards the client: an index into `NICS`.
    pub nic: u16,
    /// The next hop towards the client.
    pub client_mac: Mac,
    /// The backend that answers.
    pub backend_id: BackendId,
}

impl Recipe {
    /// The recipe of an entry.
    #[inline(always)]
    pub fn of(who: &Identity) -> Self {
        Self {
            vip: who.vip.get(),
            vip_port: who.vip_port.get(),
            nic: who.nic.get(),
            client_mac: who.client_mac.get(),
            backend_id: who.backend_id.get(),
        }
    }

    /// Nothing yet.
    pub const EMPTY: Self =
        Self { vip: Address4([0; 4]), vip_port: Port([0; 2]), nic: 0, client_mac: Mac([0; 6]), backend_id: 0 };
}

/// Decides about a packet from an address that may be a backend's; `recipe` is filled where it goes to its client.
#[inline(always)]
pub fn answer<T: Tables>(packet: &Packet, segment: &Segment, spot: &Spot, tables: &T, recipe: &mut Recipe) -> Decision {
    let (backend, client) = (packet.source, packet.target);
    if let Some(shaking) = spot.shaking(tables, client, Peer::backend(backend)) {
        if !shaking.is_over(tables) {
            return hear(packet, segment, &shaking, tables, recipe);
        }
        shaking.forget(tables);
    }
    if tables.is_backend(&backend) { orphan(packet, segment, spot, tables) } else { ends(Reason::Foreign) }
}

/// A backend speaks in a handshake, or in a flow that waits for it.
#[inline(always)]
fn hear<T: Tables>(
    packet: &Packet,
    segment: &Segment,
    shaking: &Shaking<'_>,
    tables: &T,
    recipe: &mut Recipe,
) -> Decision {
    let is_direct = shaking.is(kind::DIRECT);
    if let Err(reason) = packet.sound() {
        return ends(if is_direct { Reason::Direct } else { reason });
    }
    *recipe = Recipe::of(&shaking.place.who);
    let end = ends(if is_direct { Reason::Direct } else { Reason::ToClient });
    if packet.flags & RST != 0 {
        return break_off(packet, shaking, end, tables);
    }
    if packet.answers() && shaking.is(kind::HANDSHAKE) && !shaking.has(stage::ANSWERED) {
        tables.took(recipe.backend_id, tables.micros().wrapping_sub(shaking.place.micros.get()));
    }
    shaking.hear(packet, segment);
    let is_proof = shaking.is(kind::MIDLIFE) && packet.flags & SYN == 0;
    if !is_proof || tables.promote(number_of(packet.target), shaking.number, packet.mark().0, 1) == 0 {
        shaking.tally(packet, Side::Backend);
    }
    end
}

/// A backend refuses, or does not know the connection.
#[inline(always)]
fn break_off<T: Tables>(packet: &Packet, shaking: &Shaking<'_>, end: Decision, tables: &T) -> Decision {
    let refuses = shaking.is(kind::RETRY) && !shaking.has(stage::ANSWERED);
    if refuses && can_move(packet, shaking, tables) {
        let stage = &shaking.place.who.state[1];
        stage.set(stage.get() | stage::REFUSED);
        return ends(Reason::Refused);
    }
    shaking.end(tables);
    end
}
