//! `run`: attach, serve, follow the file, until a signal or `detach`.
//!
//! Here everything is put together and nothing decided: the file, the packet path, the tasks that
//! send events, and the loop that takes them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use log::LevelFilter;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time,
};

use super::{FAILED, SOCKET, detach::refused, table::counted, write};
use crate::{
    cli::{Places, Run},
    config,
    control::{self, Channels, Controller, Ended, Event, Posting, Settings, drains, follow, herald, surroundings},
    datapath::{
        Datapath,
        kernel::{KernelDatapath, Options},
    },
    health::prober,
    model::{Http, Model, Node},
    net::{Netlink, ground_faults},
    observe::{
        BAD_CONFIG,
        client::Refusal,
        http::{self, Door},
        socket::{Socket, refuse_live},
    },
    time::Now,
};

/// Events that may wait for the loop.
const INBOX: usize = 1024;
/// How often the host is looked at for what stands in the way of a gateway.
const LOOK: Duration = Duration::from_secs(2);
/// How long the last clients may take to hear that all is done.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the flags and the file come to.
struct Setup {
    file: PathBuf,
    /// The file's octets, as they were read for `model`.
    octets: Option<Vec<u8>>,
    model: Model,
    settings: Settings,
    socket: PathBuf,
    http: Option<Http>,
    pin_dir: PathBuf,
    state_dir: PathBuf,
    detach_on_exit: bool,
}

/// Runs in the foreground.
pub(super) fn run(places: &Places, flags: &Run) -> Result<String, Refusal> {
    log_to_stderr();
    let setup = prepare(places, flags)?;
    if let Some(level) = setup.model.log_level {
        log::set_max_level(level);
    }
    // Two workers: probes and clients go on while the loop sweeps flows.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| failed(format!("cannot start: {error}")))?;
    runtime.block_on(live(setup))?;
    Ok(String::new())
}

/// Our own words of every level, of others what is worth a warning; the level may change at a reload.
fn log_to_stderr() {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Warn).format_target(false);
    for ours in ["lb_userspace", "lb_ebpf", "tidegate"] {
        builder.filter_module(ours, LevelFilter::Trace);
    }
    // It warns of what comes to a socket whose reader is gone, which is so at every stop.
    builder.filter_module("netlink_proto", LevelFilter::Error);
    builder.init();
    log::set_max_level(LevelFilter::Info);
}

/// Flags over the file over defaults.
fn prepare(places: &Places, flags: &Run) -> Result<Setup, Refusal> {
    let file = places.config().to_owned();
    // Read before it is loaded: what changes between the two is news to the task that follows it.
    let octets = config::contents(&file);
    let bad = |text: String| Refusal { text, code: BAD_CONFIG };
    let model = config::load(&file).map_err(|faults| bad(format!("cannot start with this file\n{faults}")))?;
    let mut interfaces = if flags.iface.is_empty() { model.node.interfaces.clone() } else { flags.iface.clone() };
    let mut seen = BTreeSet::new();
    interfaces.retain(|name| seen.insert(name.clone()));
    if interfaces.is_empty() {
        return Err(bad(format!(
            "no interface is named: add `node: {{interfaces: [eth0]}}` to {}, or use --iface",
            file.display()
        )));
    }
    let xdp = flags.xdp.map_or(model.node.xdp, Into::into);
    let settings = Settings {
        file: file.clone(),
        node: Node { interfaces, xdp, ..model.node.clone() },
        interfaces_by_flag: !flags.iface.is_empty(),
        xdp_by_flag: flags.xdp.is_some(),
        socket_by_flag: places.socket.is_some(),
        socket: model.socket.clone(),
        http_by_flag: places.http.is_some(),
        http: model.http,
    };
    let http = places.http.or(model.http);
    let socket = places.socket.clone().or_else(|| model.socket.clone()).unwrap_or_else(|| SOCKET.into());
    let (pin_dir, state_dir, detach_on_exit) = (places.pin_dir.clone(), places.state_dir.clone(), flags.detach_on_exit);
    Ok(Setup { file, octets, model, settings, socket, http, pin_dir, state_dir, detach_on_exit })
}

/// From attaching to the end.
async fn live(setup: Setup) -> Result<(), Refusal> {
    // Before anything is attached: HUP would end us, and TERM and INT leave a start half done.
    let (events, inbox) = mpsc::channel(INBOX);
    follow_signals(&events).map_err(|error| failed(format!("cannot take signals: {error}")))?;
    refuse_live(&setup.socket).map_err(|error| failed(format!("{error:#}")))?;
    let door = door(setup.http).await.map_err(failed)?;
    let options = Options {
        pin_dir: setup.pin_dir.clone(),
        interfaces: setup.settings.node.interfaces.clone(),
        xdp: setup.settings.node.xdp,
        max_flows: setup.settings.node.max_flows,
    };
    let datapath = KernelDatapath::open(&options).map_err(|error| refused(&error))?;
    let is_first = !datapath.adopted();
    let mut datapath = Some(datapath);
    let result = serve(setup, &mut datapath, (events, inbox), door).await;
    // A first start that fails leaves nothing behind.
    if let (Err(_), Some(datapath), true) = (&result, datapath.take(), is_first)
        && let Err(error) = datapath.detach()
    {
        log::error!("cannot take everything away again: {error:#}");
    }
    result
}

/// Opens the door of HTTP, before anything is attached. An address that somebody named has to be free: who named
/// it, watches it. The default is anybody's, and clients are worth more than it: it is tried again while we serve.
async fn door(http: Option<Http>) -> Result<Option<Door>, String> {
    match http {
        Some(Http::Off) => Ok(None),
        None => Ok(Some(Door::open(http::DEFAULT).await)),
        Some(Http::At(address)) => {
            let door = Door::open(address).await;
            match door.fault() {
                Some(fault) => Err(fault.to_owned()),
                None => Ok(Some(door)),
            }
        }
    }
}

/// Takes the packet path from `datapath` once nothing can fail any more.
async fn serve(
    setup: Setup,
    datapath: &mut Option<KernelDatapath>,
    (events, inbox): (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    door: Option<Door>,
) -> Result<(), Refusal> {
    let failed_by = |error: anyhow::Error| failed(format!("{error:#}"));
    let socket = Socket::bind(&setup.socket).map_err(failed_by)?;
    let network = Arc::new(Netlink::new().map_err(failed_by)?);
    let (found, probes) = mpsc::channel(INBOX);
    let (targets, wanted_targets) = watch::channel(BTreeMap::new());
    let (addresses, wanted_addresses) = watch::channel(BTreeSet::new());
    let drained = drains::read(&setup.state_dir);
    let (drains, known_drains) = watch::channel(drained.clone());

    let Some(open) = datapath.take() else { return Ok(()) };
    let mut serves = open.adopted();
    let file = setup.file.clone();
    let load = Box::new(move || config::load(&file).map_err(|faults| faults.to_string()));
    let interfaces = setup.settings.node.interfaces.clone();
    let mut controller = match Controller::new(open, setup.settings, setup.model, load, Now::read()) {
        Ok(controller) => controller,
        Err((open, error)) => {
            *datapath = Some(open);
            return Err(failed_by(error));
        }
    };
    controller.recall(drained);
    controller.absorb(Event::Ground(ground_faults(&interfaces)), Now::read());

    let (answering, mut answered) = mpsc::channel(1);
    tokio::spawn(prober::probe(wanted_targets, found));
    tokio::spawn(surroundings::follow(Arc::clone(&network), wanted_addresses, events.clone()));
    let (postings, posted) = watch::channel(Posting::default());
    let herald = tokio::spawn(herald::herald(network, posted, events.clone()));
    tokio::spawn(follow::follow(setup.file, setup.octets, events.clone()));
    tokio::spawn(look_at_ground(interfaces, events.clone()));
    tokio::spawn(drains::keep(setup.state_dir, known_drains));
    if let Some(door) = door {
        tokio::spawn(door.serve(events.clone()));
    }
    let server = tokio::spawn(socket.serve(setup.pin_dir, events, answering));

    let channels = Channels { events: inbox, probes, targets, addresses, drains, postings };
    let ended = control::serve(&mut controller, channels, |controller| {
        serves = true;
        say_ready(controller);
    })
    .await;
    // Nobody posts any more: it ends with what it is at, and puts nothing back that is taken away below.
    let _ = time::timeout(FAREWELL, herald).await;
    // The socket's file goes first, so that nobody finds a controller that is leaving.
    server.abort();
    let _ = server.await;
    let open = controller.into_datapath();
    let result = match ended {
        Ended::Stopped if setup.detach_on_exit => open.detach().map_err(failed_by),
        Ended::Stopped if !serves => {
            log::info!("stopped before it ever served: what it had attached is taken away again");
            open.detach().map_err(failed_by)
        }
        Ended::Stopped => {
            log::info!("stopped; the packet path goes on forwarding, `tidegate detach` ends that");
            Ok(())
        }
        Ended::Detach(done) => {
            let result = open.detach();
            if result.is_ok() {
                log::info!("detached, as asked");
            }
            let _ = done.send(result.as_ref().map_err(|error| format!("{error:#}")).copied());
            result.map_err(failed_by)
        }
    };
    let _ = time::timeout(FAREWELL, answered.recv()).await;
    result
}

/// The line that scripts and people wait for.
fn say_ready<D: Datapath>(controller: &Controller<D>) {
    let nics: Vec<String> =
        controller.datapath().attached().iter().map(|nic| format!("{} ({})", nic.name, nic.mode)).collect();
    let services = counted(controller.services(), "service");
    // Not by `println!`: whoever waited for it may be gone, or its disk full, and we serve all the same.
    let line = format!("tidegate {} ready: {services} on {}\n", env!("CARGO_PKG_VERSION"), nics.join(", "));
    write(&mut io::stdout(), &line);
    log::info!("ready: {services} on {}", nics.join(", "));
    if let Some(address) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = notify(&address)
    {
        log::warn!("cannot tell the service manager that we serve: {error}");
    }
}

/// Tells systemd, where it is asked for (sd_notify(3)); a name with `@` is an abstract socket's.
fn notify(address: &OsStr) -> io::Result<()> {
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(drop)
}

/// HUP reads the file, TERM and INT stop.
fn follow_signals(events: &mpsc::Sender<Event>) -> io::Result<()> {
    let (mut hangup, mut terminate, mut interrupt) =
        (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let events = events.clone();
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                _ = hangup.recv() => Event::Reload(None),
                _ = terminate.recv() => Event::Stop,
                _ = interrupt.recv() => Event::Stop,
            };
            if events.send(event).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Says when what stands in the way of a gateway changes.
async fn look_at_ground(interfaces: Vec<String>, events: mpsc::Sender<Event>) {
    let mut last = None;
    loop {
        let faults = ground_faults(&interfaces);
        if last.as_ref() != Some(&faults) {
            if events.send(Event::Ground(faults.clone())).await.is_err() {
                return;
            }
            last = Some(faults);
        }
        tokio::select! {
            () = time::sleep(LOOK) => {}
            () = events.closed() => return,
        }
    }
}

fn failed(text: String) -> Refusal {
    Refusal { text, code: FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_hears_of_it_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("tidegate-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_name).unwrap();
        for (address, socket) in [(path.into_os_string(), by_path), (format!("@{name}").into(), by_name)] {
            notify(&address).unwrap();
            let mut text = [0; 16];
            let length = socket.recv(&mut text).unwrap();
            assert_eq!(&text[..length], b"READY=1");
        }
    }
}
