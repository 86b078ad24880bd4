//! The interfaces of this network namespace, and the XDP programs that hang on them.

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached};

use super::{Netlink, now};

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// The kernel's number of it.
    pub ifindex: u32,
    /// Its Ethernet address; zeros where it has none.
    pub mac: [u8; 6],
    /// How often its carrier has come, where it is up and has one now: so that no coming is missed.
    pub running: Option<u32>,
    /// The largest IP packet it carries.
    pub mtu: u32,
    /// What kind of virtual interface it is (`bridge`, `bond`, `veth`); `None` for hardware.
    pub kind: Option<String>,
    /// The XDP program on it.
    pub xdp: Option<Attachment>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The kernel's number of the program.
    pub program: u32,
    /// `native`, `generic`, or `offload`.
    pub mode: &'static str,
}

impl Netlink {
    /// All interfaces, by name.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let links = self.handle().link().get().execute().map_ok(link);
        let mut links: Vec<Link> = links.try_collect().await.context("cannot list the interfaces")?;
        links.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(links)
    }
}

/// All interfaces, for those who cannot wait in a runtime.
pub fn links_now() -> Result<Vec<Link>> {
    now(async |netlink| netlink.links().await)
}

fn link(message: LinkMessage) -> Link {
    let is_running = message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
    let running = is_running.then_some(0);
    let ifindex = message.header.index;
    let mut link = Link { name: String::new(), ifindex, mac: [0; 6], running, mtu: 0, kind: None, xdp: None };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(address) => link.mac = address.try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::CarrierUpCount(ups) => link.running = link.running.map(|_| ups),
            LinkAttribute::LinkInfo(infos) => link.kind = infos.into_iter().find_map(kind),
            LinkAttribute::Xdp(xdp) => link.xdp = attachment(&xdp),
            _ => {}
        }
    }
    link
}

fn kind(info: LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(InfoKind::Bridge) => Some("bridge".into()),
        LinkInfo::Kind(InfoKind::Bond) => Some("bond".into()),
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

fn attachment(xdp: &[LinkXdp]) -> Option<Attachment> {
    let mut mode = None;
    let mut program = None;
    for attribute in xdp {
        match attribute {
            LinkXdp::Attached(XdpAttached::Driver) => mode = Some("native"),
            LinkXdp::Attached(XdpAttached::SocketBuffer) => mode = Some("generic"),
            LinkXdp::Attached(XdpAttached::Hardware) => mode = Some("offload"),
            // More than one: the kernel then gives no single number.
            LinkXdp::Attached(XdpAttached::Multiple) => mode = Some("several modes"),
            LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
                program = program.or(Some(*id));
            }
            _ => {}
        }
    }
    mode.map(|mode| Attachment { program: program.unwrap_or_default(), mode })
}
