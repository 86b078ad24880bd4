//! Backends and weights to slot tables: Maglev, pure.
//!
//! Every backend has a permutation of the slots, made from its address and port alone, and in turns
//! each takes the first slot of its permutation that is still free (Eisenbud et al., "Maglev",
//! NSDI 2016, section 3.4). Names, ids and the order of the file play no part, so every gateway and
//! every version makes the same table of the same backends, and the tables that clients depend on
//! survive a new version. The golden vectors below hold that still.
//!
//! Turns are proportional to weights: in the first round all take one, and then each takes one
//! whenever its weights add up to the largest weight. So a backend with a weight has at least one slot
//! as long as there are slots, and 2:13:111:10 over 1,021 slots give 15:98:833:75.

use lb_common::{
    BackendId, Endpoint,
    slots::{LARGE_ELEMENT, SMALL_ELEMENT},
};

mod permutation;

use permutation::{Free, Permutation};

/// One backend's part in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// Where it listens: what its slots are made from.
    pub endpoint: Endpoint,
    /// Its part of the slots; 0 takes none.
    pub weight: u16,
    /// What stands in its slots.
    pub id: BackendId,
}

/// A table of `slots` slots, a prime; all zeros where nobody has a weight.
pub fn maglev(shares: &[Share], slots: u32) -> Vec<BackendId> {
    let mut shares: Vec<Share> = shares.iter().copied().filter(|share| share.weight > 0).collect();
    // Who is first in a round is part of the table: the address decides, never the file.
    shares.sort_unstable();
    let mut table = vec![0; slots as usize];
    let Some(heaviest) = shares.iter().map(|share| u32::from(share.weight)).max() else {
        return table;
    };
    let mut turns: Vec<Turn> = shares
        .iter()
        .map(|share| Turn {
            credit: heaviest,
            weight: share.weight.into(),
            id: share.id,
            permutation: Permutation::new(share.endpoint, slots),
        })
        .collect();
    if slots as usize <= SMALL_ELEMENT {
        fill(&mut table, &mut turns, heaviest, Free::<SMALL_ELEMENT>::new(slots));
    } else {
        fill(&mut table, &mut turns, heaviest, Free::<{ LARGE_ELEMENT.next_power_of_two() }>::new(slots));
    }
    table
}

/// Goes round until every slot is taken.
fn fill<const ROOM: usize>(table: &mut [BackendId], turns: &mut [Turn], heaviest: u32, mut free: Free<ROOM>) {
    loop {
        for turn in &mut *turns {
            if turn.credit < heaviest {
                turn.credit += turn.weight;
                if turn.credit < heaviest {
                    continue;
                }
            }
            let Some(slot) = free.take(&mut turn.permutation) else { return };
            if let Some(place) = table.get_mut(slot as usize) {
                *place = turn.id;
            }
            turn.credit -= heaviest;
        }
    }
}

/// One backend while the table is being filled.
struct Turn {
    /// Weights gathered since its last turn.
    credit: u32,
    weight: u32,
    id: BackendId,
    permutation: Permutation,
}

#[cfg(test)]
mod tests;
