//! What stands in the way of a gateway: sysctls that we name and never set.

use std::fs;

/// A setting of this host that is wrong for a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroundFault {
    /// What is wrong, and what it does.
    pub what: String,
    /// The command that mends it.
    pub remedy: String,
    /// Whether nothing can be served as long as it is so; else it is a warning.
    pub fatal: bool,
}

impl std::fmt::Display for GroundFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; `{}`", self.what, self.remedy)
    }
}

/// What is wrong with this network namespace for a gateway on these NICs.
pub fn ground_faults(interfaces: &[String]) -> Vec<GroundFault> {
    faults(interfaces, |path| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/{path}")).ok()?;
        text.trim().parse().ok()
    })
}

fn faults(interfaces: &[String], sysctl: impl Fn(&str) -> Option<u32>) -> Vec<GroundFault> {
    let mut faults = Vec::new();
    if sysctl("ip_forward") == Some(0) {
        faults.push(GroundFault {
            what: "ip_forward is 0: this host forwards nothing".into(),
            remedy: "sysctl -w net.ipv4.ip_forward=1".into(),
            fatal: true,
        });
    }
    for nic in interfaces {
        let setting = |name: &str| sysctl(&format!("conf/{nic}/{name}"));
        let everywhere = |name: &str| sysctl(&format!("conf/all/{name}"));
        // Setting ip_forward sets all of these, so it is said once.
        if setting("forwarding") == Some(0) && faults.first().is_none_or(|fault| !fault.fatal) {
            faults.push(GroundFault {
                what: format!("{nic}: forwarding is off for this NIC"),
                remedy: remedy(&[nic], "forwarding", 1),
                fatal: true,
            });
        }
        // The kernel takes the larger of the two: 1 is strict, 2 is loose (ip-sysctl.rst).
        if setting("rp_filter").max(everywhere("rp_filter")) == Some(1) {
            faults.push(GroundFault {
                what: format!("{nic}: rp_filter is strict: packets that go through the kernel are dropped where routes are asymmetric"),
                remedy: remedy(&[nic], "rp_filter", 2),
                fatal: false,
            });
        }
        // Either switches it on.
        if setting("send_redirects") == Some(1) || everywhere("send_redirects") == Some(1) {
            faults.push(GroundFault {
                what: format!(
                    "{nic}: send_redirects is on: clients and backends on one NIC may be told to go past the gateway"
                ),
                remedy: remedy(&["all", nic], "send_redirects", 0),
                fatal: false,
            });
        }
    }
    faults
}

/// With slashes where a NIC's name has dots, which sysctl(8) would take for separators.
fn remedy(nics: &[&str], name: &str, value: u32) -> String {
    let settings = nics.iter().map(|nic| match nic.contains('.') {
        true => format!("net/ipv4/conf/{nic}/{name}={value}"),
        false => format!("net.ipv4.conf.{nic}.{name}={value}"),
    });
    format!("sysctl -w {}", settings.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedies(settings: &[(&str, u32)]) -> Vec<String> {
        let sysctl = |path: &str| settings.iter().find(|(name, _)| *name == path).map(|(_, value)| *value);
        faults(&["eth0".into()], sysctl).into_iter().map(|fault| fault.remedy).collect()
    }

    #[test]
    fn a_host_that_forwards_has_no_faults() {
        let none: [String; 0] = [];
        assert_eq!(remedies(&[("ip_forward", 1), ("conf/eth0/forwarding", 1), ("conf/eth0/rp_filter", 2)]), none);
    }

    #[test]
    fn forwarding_is_asked_for_once() {
        assert_eq!(remedies(&[("ip_forward", 0), ("conf/eth0/forwarding", 0)]), ["sysctl -w net.ipv4.ip_forward=1"]);
        assert_eq!(
            remedies(&[("ip_forward", 1), ("conf/eth0/forwarding", 0)]),
            ["sysctl -w net.ipv4.conf.eth0.forwarding=1"]
        );
    }

    #[test]
    fn the_larger_rp_filter_counts_and_either_send_redirects() {
        assert_eq!(remedies(&[("conf/all/rp_filter", 1)]), ["sysctl -w net.ipv4.conf.eth0.rp_filter=2"]);
        assert_eq!(remedies(&[("conf/all/rp_filter", 1), ("conf/eth0/rp_filter", 2)]), [""; 0]);
        assert_eq!(
            remedies(&[("conf/all/send_redirects", 1)]),
            ["sysctl -w net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0"]
        );
    }

    #[test]
    fn dots_in_a_name_are_no_separators() {
        assert_eq!(remedy(&["eth0.100"], "forwarding", 1), "sysctl -w net/ipv4/conf/eth0.100/forwarding=1");
    }
}
