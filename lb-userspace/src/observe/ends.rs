//! The two ends of a connection, as an operator types them: `CLIENT[:PORT]` and `VIP:PORT[/udp]`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// A client, with the port of one of its connections or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Caller {
    /// Its address.
    pub address: Ipv4Addr,
    /// The port that it talks from.
    pub port: Option<u16>,
}

/// What a client calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Called {
    /// The VIP and its port.
    pub listen: SocketAddrV4,
    /// By UDP, where it is not by TCP.
    pub is_udp: bool,
}

const NO_IPV6: &str = "is an IPv6 address, which this version does not serve yet";

impl FromStr for Caller {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        match (text.parse::<SocketAddr>(), bare.parse::<IpAddr>()) {
            (Ok(SocketAddr::V4(socket)), _) if socket.port() > 0 => {
                Ok(Self { address: *socket.ip(), port: Some(socket.port()) })
            }
            (_, Ok(IpAddr::V4(address))) => Ok(Self { address, port: None }),
            (Ok(SocketAddr::V6(_)), _) | (_, Ok(IpAddr::V6(_))) => Err(format!("{text} {NO_IPV6}")),
            _ => Err(format!("{text} is not a client; write it like 192.0.2.7 or 192.0.2.7:50123")),
        }
    }
}

impl FromStr for Called {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (socket, is_udp) = match text.rsplit_once('/') {
            Some((socket, "udp")) => (socket, true),
            Some((socket, "tcp")) => (socket, false),
            _ => (text, false),
        };
        match socket.parse::<SocketAddr>() {
            Ok(SocketAddr::V4(listen)) if listen.port() > 0 => Ok(Self { listen, is_udp }),
            Ok(SocketAddr::V6(_)) => Err(format!("{text} {NO_IPV6}")),
            _ => Err(format!("{text} is not a VIP and port; write it like 203.0.113.10:80")),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

impl fmt::Display for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.listen, if self.is_udp { "/udp" } else { "" })
    }
}

impl TryFrom<String> for Caller {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for Called {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Caller> for String {
    fn from(caller: Caller) -> Self {
        caller.to_string()
    }
}

impl From<Called> for String {
    fn from(called: Called) -> Self {
        called.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_read_as_they_are_shown() {
        for text in ["192.0.2.7", "192.0.2.7:50123"] {
            assert_eq!(text.parse::<Caller>().unwrap().to_string(), text);
        }
        for text in ["203.0.113.10:80", "203.0.113.10:53/udp"] {
            assert_eq!(text.parse::<Called>().unwrap().to_string(), text);
        }
        assert_eq!("203.0.113.10:80/tcp".parse::<Called>(), "203.0.113.10:80".parse());
    }

    #[test]
    fn what_is_neither_says_how_to_write_it() {
        for text in ["192.0.2.7:0", "192.0.2", "web", "", "192.0.2.7:70000"] {
            assert!(text.parse::<Caller>().unwrap_err().contains("write it like 192.0.2.7"), "{text}");
        }
        for text in ["203.0.113.10", "203.0.113.10:80/sctp", "203.0.113.10:0"] {
            assert!(text.parse::<Called>().unwrap_err().contains("write it like 203.0.113.10:80"), "{text}");
        }
        for text in ["2001:db8::7", "[2001:db8::7]:80"] {
            assert!(text.parse::<Caller>().unwrap_err().contains("IPv6"), "{text}");
        }
        assert!("[2001:db8::7]:80".parse::<Called>().unwrap_err().contains("IPv6"));
    }
}
