//! Files for the balancer, put together.

use std::{fmt::Write as _, net::SocketAddrV4};

use testkit::{Topology, VIP};

/// Where clients ask for the service `web`.
pub(crate) const WEB: SocketAddrV4 = SocketAddrV4::new(VIP, 80);
/// Another port of the same address.
pub(crate) const ALT: SocketAddrV4 = SocketAddrV4::new(VIP, 81);

/// Probes that see a change soon, and forgive a busy machine.
const HEALTH: &str = "{tcp: {}, interval: 200ms, timeout: 1s, rise: 1, fall: 2}";

/// One service of a file.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    name: &'static str,
    listen: Vec<SocketAddrV4>,
    health: &'static str,
    backends: Vec<(u8, u16)>,
}

/// Where backend number `index` serves: another port than the VIP's.
pub(crate) fn endpoint(index: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Topology::backend_address(index), 8080)
}

/// The service `web` with these backends.
pub(crate) fn web(backends: &[u8]) -> Service {
    let backends = backends.iter().map(|index| (*index, 1)).collect();
    Service { name: "web", listen: vec![WEB], health: HEALTH, backends }
}

/// A second service, `alt`, with these backends.
pub(crate) fn alt(backends: &[u8]) -> Service {
    Service { name: "alt", listen: vec![ALT], ..web(backends) }
}

/// A file with these services, and a small flow table.
pub(crate) fn file(services: &[Service]) -> String {
    let mut text = "version: 1\nnode: {max_flows: 20000}\nservices:\n".to_owned();
    for service in services {
        service.write(&mut text);
    }
    text
}

impl Service {
    /// With these weights.
    pub(crate) fn weights(mut self, weights: &[u16]) -> Self {
        for (backend, weight) in self.backends.iter_mut().zip(weights) {
            backend.1 = *weight;
        }
        self
    }

    /// Also reached there.
    pub(crate) fn and(mut self, listen: SocketAddrV4) -> Self {
        self.listen.push(listen);
        self
    }

    /// Without health checks: every backend is always up.
    pub(crate) fn unprobed(self) -> Self {
        Self { health: "none", ..self }
    }

    /// With probes that give up soon.
    pub(crate) fn impatient(self) -> Self {
        Self { health: "{tcp: {}, interval: 300ms, timeout: 300ms, rise: 1, fall: 2}", ..self }
    }

    /// A file with this service alone.
    pub(crate) fn file(&self) -> String {
        file(std::slice::from_ref(self))
    }

    fn write(&self, text: &mut String) {
        let listen: Vec<_> = self.listen.iter().map(|listen| format!("\"{listen}\"")).collect();
        let (name, health) = (self.name, self.health);
        write!(text, "  {name}:\n    listen: [{}]\n    health: {health}\n    backends:\n", listen.join(", ")).unwrap();
        for (index, weight) in &self.backends {
            let (address, number) = (endpoint(*index), index + 1);
            writeln!(text, "      - {{address: \"{address}\", name: backend-{number}, weight: {weight}}}").unwrap();
        }
    }
}
