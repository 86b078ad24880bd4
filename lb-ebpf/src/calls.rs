//! Global functions: the verifier looks at each by itself, once, and takes its arguments and its result for any numbers
//! (Linux 5.6, 51c39bb1d5d1). Here is only what they are called; what they do is the library's.

use lb_common::BackendId;
use lb_ebpf::{admit, decision::Decision, enter, half, select, table::Calls, track};

use crate::maps::Maps;

macro_rules! calls {
    ($($method:ident = $symbol:ident => $function:path, ($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $symbol($($argument: $type),*) -> $result {
                $function(&Maps, $($argument),*)
            }
        )*

        impl Calls for Maps {
            $(
                #[inline(always)]
                fn $method(&self, $($argument: $type),*) -> $result {
                    $symbol($($argument),*)
                }
            )*
        }
    };
}

calls! {
    seek = tidegate_seek => track::seek, (client: u64, peer: u64) -> u32;
    seek_half = tidegate_seek_half => half::seek_half, (client: u64, peer: u64) -> u32;
    claim = tidegate_claim => track::claim, (client: u64) -> u32;
    forget = tidegate_forget => half::forget, (half: u32, tag: u16, stays: u8) -> u32;
    begin = tidegate_begin => enter::begin, (client: u64, vip: u64, way: u64, birth: u64) -> u32;
    promote = tidegate_promote => enter::promote, (client: u64, half: u32, mark: u64, is_backend: u8) -> u32;
    keeps_away = tidegate_keeps_away => admit::keeps_away, (client: u64, rules: u64, opens: u8) -> Decision;
    select = tidegate_select => select::select, (client: u64, table: u64) -> Decision;
    is_free = tidegate_is_free => select::is_free, (client: u64, peer: u64) -> u8;
    another = tidegate_another => select::another, (client: u64, table: u64, id: BackendId, moves: u8) -> BackendId;
    has_other = tidegate_has_other => select::has_other, (client: u64, table: u64, id: BackendId, moves: u8) -> u8;
}
