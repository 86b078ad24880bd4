//! The command line: every flag with its help and its default.

use std::{net::Ipv4Addr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

use crate::{
    control::MOST_FLOWS,
    model::{Http, XdpMode},
    observe::ends::{Called, Caller},
};

/// A Layer-4 load balancer for Linux gateways, in XDP.
#[derive(Clone, Debug, Parser)]
#[command(name = "tidegate", version, disable_help_subcommand = true)]
pub struct Cli {
    /// Where everything is.
    #[command(flatten)]
    pub places: Places,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command: where this balancer lives, so that several live side by side.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Places")]
pub struct Places {
    /// The file [default: /etc/tidegate/tidegate.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The admin socket [default: admin.socket of the file, else /run/tidegate/admin.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Where programs and maps are pinned, on a bpffs
    #[arg(long, global = true, value_name = "DIR", default_value = "/sys/fs/bpf/tidegate")]
    pub pin_dir: PathBuf,
    /// Where runtime overrides are kept
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/tidegate")]
    pub state_dir: PathBuf,
    /// Where HTTP is served [default: admin.http of the file, else 127.0.0.1:9191]
    #[arg(long, global = true, value_name = "ADDR|none", value_parser = http)]
    pub http: Option<Http>,
}

/// `none`, or an address and port of either family.
fn http(text: &str) -> Result<Http, String> {
    match text {
        "none" => Ok(Http::Off),
        _ => text.parse().map(Http::At).map_err(|_| "write it like 127.0.0.1:9191 or [::1]:9191, or `none`".to_owned()),
    }
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Attach, serve, and follow the file, in the foreground
    Run(Run),
    /// Show every fault of a file at once
    Check {
        /// The file
        file: PathBuf,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show what a file would change in the running balancer, and for whom
    Diff {
        /// The file
        file: PathBuf,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Read the file again now; it is followed anyway
    Reload {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show how the balancer is
    Status {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show the services
    Services {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show the backends: state, since when and why, flows, packets, bytes
    Backends {
        /// Only those of this service
        service: Option<String>,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show connections, one by one: handshakes under way and live flows
    Flows {
        /// Only those of this service
        #[arg(long, value_name = "SERVICE")]
        service: Option<String>,
        /// Only those of this client
        #[arg(long, value_name = "ADDRESS")]
        client: Option<Ipv4Addr>,
        /// No more than so many, the first by client, its port, and VIP
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = value_parser!(u32).range(1..=MOST_FLOWS as i64))]
        limit: u32,
        /// Those that have just ended, and those opened directly to a backend, too
        #[arg(long)]
        all: bool,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show which backend a client has or would get, and why
    Explain {
        /// The client; with a port, one of its connections
        #[arg(value_name = "CLIENT[:PORT]")]
        client: Caller,
        /// What it calls
        #[arg(value_name = "VIP:PORT[/udp]")]
        vip: Called,
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show state changes, newest last
    Events {
        /// Go on with those that come, until interrupted
        #[arg(long)]
        follow: bool,
        /// At most so many of the past
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Take programs and pins away: the end of forwarding
    Detach {
        /// One JSON document
        #[arg(long)]
        json: bool,
    },
}

/// Flags of `run`.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// A NIC to attach to, in place of node.interfaces; may be repeated
    #[arg(long, value_name = "NIC")]
    pub iface: Vec<String>,
    /// How to attach: native, else generic and said loudly; or one of them [default: node.xdp, else auto]
    #[arg(long, value_enum, value_name = "MODE")]
    pub xdp: Option<Xdp>,
    /// Take the packet path along when the controller stops
    #[arg(long)]
    pub detach_on_exit: bool,
}

/// `--xdp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Xdp {
    /// In the driver, else in the generic hook.
    Auto,
    /// In the driver.
    Native,
    /// In the generic hook.
    Generic,
}

impl From<Xdp> for XdpMode {
    fn from(xdp: Xdp) -> Self {
        match xdp {
            Xdp::Auto => Self::Auto,
            Xdp::Native => Self::Native,
            Xdp::Generic => Self::Generic,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn places_stand_before_and_after_the_command() {
        for line in ["--socket /s --http none status --json", "status --json --http none --socket /s"] {
            let cli = Cli::try_parse_from(std::iter::once("tidegate").chain(line.split(' '))).unwrap();
            assert_eq!(cli.places.socket, Some("/s".into()));
            assert!(matches!(cli.command, Command::Status { json: true }));
        }
    }

    #[test]
    fn http_is_an_address_or_none() {
        let parse = |text: &str| Cli::try_parse_from(["tidegate", "run", "--http", text]).map(|cli| cli.places.http);
        assert_eq!(parse("none").unwrap(), Some(Http::Off));
        assert_eq!(parse("[::1]:0").unwrap(), Some(Http::At("[::1]:0".parse().unwrap())));
        let error = parse("localhost:9191").unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("write it like 127.0.0.1:9191"), "{error}");
    }

    #[test]
    fn interfaces_may_be_repeated() {
        let cli = Cli::try_parse_from(["tidegate", "run", "--iface", "a", "--iface", "b", "--xdp", "native"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!((run.iface, run.xdp), (vec!["a".to_owned(), "b".to_owned()], Some(Xdp::Native)));
    }
}
