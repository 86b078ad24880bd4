//! Addresses, ports and endpoints as they stand in packets: network order, never swapped.
//!
//! All are aligned to two octets, as every field of every header is: the BPF target reads what is
//! aligned to one octet by octet.

use core::{fmt, net::Ipv4Addr, net::SocketAddrV4};

/// The IP protocol numbers that services can have (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// Internet Control Message Protocol; no service has it.
    pub const ICMP: u8 = 1;
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
}

/// An IPv4 address in network order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(2))]
pub struct Address4(pub [u8; 4]);

/// A TCP or UDP port in network order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(2))]
pub struct Port(pub [u8; 2]);

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(2))]
pub struct Mac(pub [u8; 6]);

super::shared! {
    /// An address, port and protocol that someone listens on: a VIP's or a backend's.
    pub struct Endpoint {
        /// The address that packets are sent to.
        pub address: Address4,
        /// The port that packets are sent to.
        pub port: Port,
        /// One of [`protocol`].
        pub protocol: u8,
        /// Always zero: this is a map key, and keys are compared octet by octet.
        pub zero: u8,
    }
}

// SAFETY: four plain octets.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Address4 {}

impl Endpoint {
    /// The TCP endpoint at an address.
    pub const fn tcp(address: Address4, port: Port) -> Self {
        Self { address, port, protocol: protocol::TCP, zero: 0 }
    }
}

impl From<SocketAddrV4> for Endpoint {
    /// The TCP endpoint at a socket address.
    fn from(socket: SocketAddrV4) -> Self {
        Self::tcp((*socket.ip()).into(), socket.port().into())
    }
}

impl From<Endpoint> for SocketAddrV4 {
    fn from(endpoint: Endpoint) -> Self {
        Self::new(endpoint.address.into(), endpoint.port.into())
    }
}

impl From<Ipv4Addr> for Address4 {
    fn from(address: Ipv4Addr) -> Self {
        Self(address.octets())
    }
}

impl From<Address4> for Ipv4Addr {
    fn from(address: Address4) -> Self {
        address.0.into()
    }
}

impl From<u16> for Port {
    fn from(port: u16) -> Self {
        Self(port.to_be_bytes())
    }
}

impl From<Port> for u16 {
    fn from(port: Port) -> Self {
        Self::from_be_bytes(port.0)
    }
}

impl fmt::Debug for Address4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv4Addr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        u16::from(*self).fmt(f)
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
