//! Addresses and ports as an operator writes them. IPv4 only in this version, never host names.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use super::{report::Complaint, scalar::shown};

const EXAMPLE: &str = "write it like 203.0.113.10:80";

/// An address, and a port where one is given.
pub(super) type Endpoint = (Ipv4Addr, Option<u16>);

/// Reads `address:port` or `address`.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, Complaint> {
    if let Some(complaint) = not_an_endpoint(text) {
        return Err(complaint);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    // The port is looked at first only where the address is right: one fault a value.
    let address = address(host, 0..host.len())?;
    let port = port.map(|port| self::port(port, host.len() + 1..text.len())).transpose()?;
    Ok((address, port))
}

/// Reads a port that stands at `part`.
fn port(text: &str, part: Range<usize>) -> Result<u16, Complaint> {
    if text.is_empty() {
        // The colon before it is all there is to point at.
        return Err(Complaint::new("the port after `:` is missing", EXAMPLE).at(part.start - 1..part.start));
    }
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let leading_zero = text.starts_with('0') && text.len() > 1;
    match text.parse() {
        Ok(port) if port > 0 && digits && !leading_zero => Ok(port),
        _ => Err(Complaint::new(format!("{} is not a port (1 to 65535)", shown(text)), EXAMPLE).at(part)),
    }
}

/// Reads an address that can be a host's.
fn address(text: &str, part: Range<usize>) -> Result<Ipv4Addr, Complaint> {
    if text.is_empty() {
        return Err(Complaint::new("the address before `:` is missing", EXAMPLE));
    }
    let Ok(address) = text.parse::<Ipv4Addr>() else {
        return Err(not_an_address(text).at(part));
    };
    let what = match address {
        Ipv4Addr::BROADCAST => "the broadcast address",
        _ if address.octets()[0] == 0 => "not an address of one host (0.0.0.0/8)",
        _ if address.is_loopback() => "a loopback address, which no other host can reach",
        _ if address.is_multicast() => "a multicast address",
        _ => return Ok(address),
    };
    Err(Complaint::new(format!("{address} is {what}"), "write the address of one host").at(part))
}

/// Why this is no IPv4 address.
pub(super) fn not_an_address(text: &str) -> Complaint {
    let name = shown(text);
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let octets = text.split('.').collect::<Vec<_>>();
        let why = match octets.iter().find(|octet| octet.parse::<u8>().is_err() && !octet.is_empty()) {
            Some(octet) => format!(": {} is more than 255", shown(octet)),
            None if octets.iter().any(|octet| octet.len() > 1 && octet.starts_with('0')) => {
                ": a number in it starts with a zero".to_owned()
            }
            None => ": four numbers with dots between them".to_owned(),
        };
        return Complaint::new(format!("{name} is not an IPv4 address{why}"), EXAMPLE);
    }
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Complaint::new(
            format!("{name} is a host name: addresses only"),
            "names are not resolved; write the IPv4 address that it stands for",
        );
    }
    Complaint::new(format!("{name} is not an IPv4 address"), EXAMPLE)
}

/// What can be said before the text is taken apart.
fn not_an_endpoint(text: &str) -> Option<Complaint> {
    if is_v6(text) {
        let message = format!("{} is IPv6: this version does not have it yet", shown(text));
        return Some(Complaint::new(message, "write an IPv4 address"));
    }
    if text.contains("://") {
        return Some(Complaint::new(format!("{} is a URL: address and port only", shown(text)), EXAMPLE));
    }
    if let Some((rest, suffix)) = text.split_once('/') {
        let part = rest.len()..text.len();
        return Some(if matches!(suffix, "tcp" | "udp") {
            Complaint::new(format!("/{suffix} does not belong to an address"), "the key `protocol` says it").at(part)
        } else {
            Complaint::new(format!("{} is not one address", shown(text)), "write one address without `/`").at(part)
        });
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Complaint::new(format!("{} is a port without an address", shown(text)), EXAMPLE));
    }
    (text.is_empty()).then(|| Complaint::new("an address is missing here", EXAMPLE))
}

/// `v6`, `[v6]` or `[v6]:port`.
fn is_v6(text: &str) -> bool {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => text,
    };
    bare.split('%').next().is_some_and(|bare| bare.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, marked: &str, message: &str) {
        let complaint = endpoint(text).expect_err("a fault");
        assert_eq!(complaint.message, message);
        assert_eq!(&text[complaint.part.unwrap_or(0..text.len())], marked);
    }

    #[test]
    fn an_address_may_have_a_port() {
        assert_eq!(endpoint("203.0.113.10:80"), Ok((Ipv4Addr::new(203, 0, 113, 10), Some(80))));
        assert_eq!(endpoint("203.0.113.10"), Ok((Ipv4Addr::new(203, 0, 113, 10), None)));
        assert_eq!(endpoint("1.1.1.1:65535"), Ok((Ipv4Addr::new(1, 1, 1, 1), Some(65535))));
    }

    #[test]
    fn what_is_no_port_is_marked() {
        refused("203.0.113.10:70000", "70000", "70000 is not a port (1 to 65535)");
        refused("203.0.113.10:0", "0", "0 is not a port (1 to 65535)");
        refused("203.0.113.10:http", "http", "http is not a port (1 to 65535)");
        refused("203.0.113.10:+80", "+80", "+80 is not a port (1 to 65535)");
        refused("203.0.113.10:080", "080", "080 is not a port (1 to 65535)");
        refused("203.0.113.10:80-90", "80-90", "80-90 is not a port (1 to 65535)");
        refused("203.0.113.10:", ":", "the port after `:` is missing");
        refused("80", "80", "80 is a port without an address");
    }

    #[test]
    fn what_is_no_address_is_marked() {
        refused("10.0.1.256:80", "10.0.1.256", "10.0.1.256 is not an IPv4 address: 256 is more than 255");
        refused("10.0.1:80", "10.0.1", "10.0.1 is not an IPv4 address: four numbers with dots between them");
        refused("10.0.01.1:80", "10.0.01.1", "10.0.01.1 is not an IPv4 address: a number in it starts with a zero");
        refused("web-1.example:80", "web-1.example", "web-1.example is a host name: addresses only");
        refused("localhost", "localhost", "localhost is a host name: addresses only");
        refused(":80", ":80", "the address before `:` is missing");
        refused("", "", "an address is missing here");
        refused("é:80", "é", "é is not an IPv4 address");
        refused("http://10.0.0.1/", "http://10.0.0.1/", "http://10.0.0.1/ is a URL: address and port only");
        refused("10.0.0.0/8", "/8", "10.0.0.0/8 is not one address");
        refused("10.0.0.1:53/udp", "/udp", "/udp does not belong to an address");
    }

    #[test]
    fn addresses_that_are_no_hosts_are_refused() {
        refused("0.0.0.0:80", "0.0.0.0", "0.0.0.0 is not an address of one host (0.0.0.0/8)");
        refused("127.0.0.1:80", "127.0.0.1", "127.0.0.1 is a loopback address, which no other host can reach");
        refused("224.0.0.1:80", "224.0.0.1", "224.0.0.1 is a multicast address");
        refused("255.255.255.255:80", "255.255.255.255", "255.255.255.255 is the broadcast address");
    }

    #[test]
    fn ipv6_is_known_and_not_there_yet() {
        for text in ["[2001:db8::10]:80", "2001:db8::10", "[::1]", "fe80::1%eth0", "::"] {
            refused(text, text, &format!("{text} is IPv6: this version does not have it yet"));
        }
    }
}
