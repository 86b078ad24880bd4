//! The keys `allow` and `deny`: prefixes of client addresses, and whether anybody is left to serve.
//!
//! IPv6 prefixes are read and kept out of the model: this version has no IPv6 address to listen on, and a
//! file that names both families shall be good today and right later.

use std::{net::IpAddr, sync::Arc};

use ipnet::{IpNet, Ipv4Net};

use super::{
    address::not_an_address,
    report::{Complaint, Place, Report, Value},
    scalar::{self, shown},
    tree::Kind,
};
use crate::model::Access;

const HELP: &str = "write prefixes like [198.51.100.0/24, 203.0.113.7], or `none`";

/// `allow` and `deny` as they are written; what is not written is `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) allow: Option<List>,
    pub(super) deny: Option<List>,
}

/// The value of one of them.
#[derive(Clone, Debug)]
pub(super) struct List {
    /// `None` for the word `none`.
    prefixes: Option<Arc<[Ipv4Net]>>,
    place: Place,
}

impl Settings {
    /// What is meant where `defaults` stand behind these settings.
    pub(super) fn over(&self, report: &mut Report, defaults: &Self) -> Access {
        let allow = self.allow.as_ref().or(defaults.allow.as_ref());
        let deny = self.deny.as_ref().or(defaults.deny.as_ref());
        let access = Access {
            allow: allow.and_then(|list| list.prefixes.clone()),
            deny: deny.and_then(|list| list.prefixes.clone()).unwrap_or_default(),
        };
        // Said once, where it is written: not for every service that takes both lists from `defaults`.
        if let Some(own) = self.deny.as_ref().or(self.allow.as_ref())
            && !access.lets_anybody_in()
        {
            let help = "let some prefix of `allow` be outside of `deny`, or write `none`";
            report.warn(own.place.clone(), "no IPv4 client may connect", help);
        }
        access
    }
}

impl Access {
    /// Whether `deny` leaves anything of `allow`.
    fn lets_anybody_in(&self) -> bool {
        let mut denied = Ipv4Net::aggregate(&self.deny.to_vec());
        denied.sort_unstable();
        // They do not overlap any more: only the last that begins no later can contain a prefix.
        let is_denied = |prefix: &Ipv4Net| {
            let before = denied.partition_point(|denied| denied.network() <= prefix.network());
            before.checked_sub(1).is_some_and(|last| denied[last].contains(prefix))
        };
        let everybody = [Ipv4Net::default()];
        self.allow.as_deref().unwrap_or(&everybody).iter().any(|prefix| !is_denied(prefix))
    }
}

/// Reads `allow`: a list that lets nobody in is taken for a slip.
pub(super) fn allow(report: &mut Report, value: &Value<'_>) -> Option<List> {
    if matches!(value.kind(), Kind::List(items) if items.is_empty()) {
        report.fault(value.place(), "the list is empty: nobody may connect", "name a prefix, or write `none`");
        return None;
    }
    list(report, value)
}

/// Reads `deny`, and what both have in common.
pub(super) fn list(report: &mut Report, value: &Value<'_>) -> Option<List> {
    let place = value.place();
    if matches!(value.kind(), Kind::Text { text, .. } if text == "none") {
        return Some(List { prefixes: None, place });
    }
    let (items, before) = (value.items(), report.count());
    let prefixes = items.iter().filter_map(|item| report.text(item, "a prefix", HELP, prefix));
    let prefixes: Vec<IpNet> = prefixes.collect();
    if report.count() > before {
        return None;
    }
    // In one order, so that a list in another order is no change.
    let mut prefixes: Vec<Ipv4Net> = prefixes
        .into_iter()
        .filter_map(|prefix| match prefix {
            IpNet::V4(prefix) => Some(prefix),
            IpNet::V6(_) => None,
        })
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    Some(List { prefixes: Some(prefixes.into()), place })
}

/// Reads `address/length`, or an address that stands for itself.
fn prefix(text: &str) -> Result<IpNet, Complaint> {
    let (host, length) = text.split_once('/').map_or((text, None), |(host, length)| (host, Some(length)));
    let Ok(address) = host.parse::<IpAddr>() else {
        return Err(if host.is_empty() {
            Complaint::new(format!("{} is not a prefix: its address is missing", shown(text)), HELP)
        } else if host.contains('-') && host.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-') {
            Complaint::new(format!("{} is a range: prefixes only", shown(text)), HELP)
        } else {
            Complaint { help: HELP.to_owned(), ..not_an_address(host).at(0..host.len()) }
        });
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => most,
        Some(length) => scalar::number(length, "the length of a prefix", 0..=most)
            .map_err(|complaint| complaint.at(host.len() + 1..text.len()))?,
    };
    let whole = u8::try_from(length).ok().and_then(|length| IpNet::new(address, length).ok());
    let prefix = whole.ok_or_else(|| Complaint::new(format!("{} is not a prefix", shown(text)), HELP))?;
    if prefix.network() == address {
        return Ok(prefix);
    }
    Err(Complaint::new(
        format!("{} has bits beyond its first {length}", shown(text)),
        format!("write {}, or {address} for one address", prefix.trunc()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_have_no_bits_beyond_their_length() {
        let read = |text| prefix(text).map(|prefix| prefix.to_string()).map_err(|c| (c.message, c.help));
        assert_eq!(read("10.0.0.0/8"), Ok("10.0.0.0/8".into()));
        assert_eq!(read("0.0.0.0/0"), Ok("0.0.0.0/0".into()));
        assert_eq!(read("203.0.113.7"), Ok("203.0.113.7/32".into()));
        assert_eq!(read("2001:db8::/32"), Ok("2001:db8::/32".into()));
        let wrong = ("10.0.0.1/8 has bits beyond its first 8", "write 10.0.0.0/8, or 10.0.0.1 for one address");
        assert_eq!(read("10.0.0.1/8"), Err((wrong.0.into(), wrong.1.into())));
        for (text, why) in [
            ("10.0.0.0/33", "33 is not the length of a prefix (0 to 32)"),
            ("::/129", "129 is not the length of a prefix (0 to 128)"),
            ("10.0.0.0/", "\"\" is not a number"),
            ("10.0.0/24", "10.0.0 is not an IPv4 address: four numbers with dots between them"),
            ("/8", "/8 is not a prefix: its address is missing"),
            ("", "\"\" is not a prefix: its address is missing"),
            ("office.example", "office.example is a host name: addresses only"),
            ("10.0.0.0-10.0.0.9", "10.0.0.0-10.0.0.9 is a range: prefixes only"),
        ] {
            assert_eq!(read(text).map_err(|(message, _)| message), Err(why.into()), "{text}");
        }
    }

    #[test]
    fn nobody_is_let_in_where_deny_covers_allow() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a prefix")).collect::<Vec<Ipv4Net>>();
        let lets = |allow: Option<&[&str]>, deny: &[&str]| {
            Access { allow: allow.map(|allow| nets(allow).into()), deny: nets(deny).into() }.lets_anybody_in()
        };
        assert!(lets(None, &[]) && lets(None, &["10.0.0.0/8"]) && lets(Some(&["10.0.0.0/8"]), &["10.0.0.0/9"]));
        assert!(!lets(None, &["0.0.0.0/1", "128.0.0.0/1"]) && !lets(Some(&["10.1.0.0/16"]), &["10.0.0.0/8"]));
        assert!(!lets(Some(&[]), &[]), "a list of IPv6 prefixes alone");
    }
}
