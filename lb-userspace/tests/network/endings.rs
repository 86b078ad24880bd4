//! How connections really begin and end, and that nothing is left of them when they have.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddrV4, TcpListener, TcpStream},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{setsockopt, sockopt},
    time::{TimeVal, TimeValLike as _},
};
use testkit::{Host, Topology};
use tokio::net::TcpSocket;

use crate::{
    file::{WEB, endpoint, web},
    stage::{SOON, Stage, until},
};

/// One backend without probes, whose server is the test itself.
fn one(keys: &str) -> (Stage, TcpListener) {
    let file = web(&[0]).unprobed().file().replace("    listen", &format!("    {keys}\n    listen"));
    let stage = Stage::serving(Topology::two_arms(1).unwrap(), &file, &[]);
    let listener = listen(&stage.topology.backends[0]);
    (stage, listener)
}

fn listen(backend: &Host) -> TcpListener {
    let listener = backend.call(|| TcpListener::bind(endpoint(0)).unwrap());
    setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::seconds(SOON.as_secs().cast_signed())).unwrap();
    listener
}

/// A connection from a port of the client, any where it is 0.
fn dial(client: &Host, port: u16, prepare: impl FnOnce(&TcpSocket) + Send + 'static) -> TcpStream {
    let source = SocketAddrV4::new(Topology::sources()[0], port);
    let stream = client.run(async move {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(source.into()).unwrap();
        prepare(&socket);
        socket.connect(WEB.into()).await.unwrap().into_std().unwrap()
    });
    patient(stream)
}

/// Both ends of a new connection.
fn pair(stage: &Stage, listener: &TcpListener) -> [TcpStream; 2] {
    let client = dial(stage.client(), 0, |_| ());
    [client, accept(listener)]
}

fn accept(listener: &TcpListener) -> TcpStream {
    patient(listener.accept().unwrap().0)
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// One line each way, the client's first.
fn exchange(ends: &mut [TcpStream; 2]) {
    for (from, to) in [(0, 1), (1, 0)] {
        ends[from].write_all(b"line").unwrap();
        let mut line = [0; 4];
        ends[to].read_exact(&mut line).unwrap();
        assert_eq!(&line, b"line");
    }
}

/// All that still comes; a reset is an error.
fn rest(stream: &mut TcpStream) -> std::io::Result<usize> {
    stream.read_to_end(&mut Vec::new())
}

/// Closing this end sends RST.
fn break_at_close(stream: &TcpStream) {
    setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
}

/// A counter of a host's extended TCP statistics.
fn extended(host: &Host, name: &str) -> u64 {
    let text = host.call(|| fs::read_to_string("/proc/thread-self/net/netstat")).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|(its, _)| *its == name).unwrap().1.parse().unwrap()
}

/// Nothing is left, and no idle time did it: the shortest is 30 s.
#[track_caller]
fn expect_nothing_left(stage: &Stage) {
    let began = Instant::now();
    stage.until_status("no flow is left", |status| status["flows"]["live"] == 0 && status["flows"]["half_open"] == 0);
    eprintln!("no flow was left after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_client_that_has_said_all_hears_the_answer_however_long_it_takes() {
    let (stage, listener) = one("timeouts: {syn: 10s, established: 1h, fin: 1s}");
    let [mut client, mut server] = pair(&stage, &listener);
    client.write_all(b"all").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    server.read_to_string(&mut said).unwrap();
    assert_eq!(said, "all");
    // Longer than a connection that both have ended may be silent.
    let silent = Instant::now();
    until("the silence is long", || silent.elapsed() > Duration::from_millis(2500));
    assert_eq!(stage.tidegate.ask(&["status"]).unwrap()["flows"]["live"], 1);
    let sender = thread::spawn(move || server.write_all(&vec![7; 4 << 20]).unwrap());
    assert_eq!(rest(&mut client).unwrap(), 4 << 20);
    sender.join().unwrap();
    expect_nothing_left(&stage);
}

#[test]
fn connections_end_whoever_closes_first_and_when_both_do_at_once() {
    let (stage, listener) = one("");
    for round in 0..40 {
        let mut ends = pair(&stage, &listener);
        exchange(&mut ends);
        let [mut client, mut server] = ends;
        let (first, second) = if round % 2 == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(second).unwrap(), 0);
        second.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(first).unwrap(), 0);
    }
    for _ in 0..40 {
        let mut ends = pair(&stage, &listener);
        exchange(&mut ends);
        let together = Barrier::new(2);
        thread::scope(|scope| {
            for end in &mut ends {
                scope.spawn(|| {
                    together.wait();
                    end.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(rest(end).unwrap(), 0);
                });
            }
        });
    }
    let packets = stage.tidegate.ask(&["status"]).unwrap()["packets"].clone();
    assert_eq!((&packets["flow_created"], &packets["orphan_reply"]), (&80.into(), &0.into()), "{packets}");
    expect_nothing_left(&stage);
}

#[test]
fn a_connection_that_either_side_breaks_off_is_broken_for_the_other_and_gone() {
    let (stage, listener) = one("");
    for round in 0..20 {
        let mut ends = pair(&stage, &listener);
        exchange(&mut ends);
        let [client, server] = ends;
        let (breaks, mut hears) = if round % 2 == 0 { (client, server) } else { (server, client) };
        break_at_close(&breaks);
        drop(breaks);
        assert_eq!(rest(&mut hears).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
    expect_nothing_left(&stage);
}

#[test]
fn two_hundred_connections_in_a_row_share_four_ports_of_the_client() {
    let (stage, listener) = one("");
    let any = dial(stage.client(), 0, |_| ());
    let first = any.local_addr().unwrap().port();
    drop((any, accept(&listener)));
    for round in 0..200 {
        // The server closes first, or the client breaks off: so the client's port is free at once.
        let client = dial(stage.client(), first / 2 + round % 4, |_| ());
        let mut ends = [client, accept(&listener)];
        exchange(&mut ends);
        let [mut client, server] = ends;
        if round % 3 == 0 {
            break_at_close(&client);
        } else {
            drop(server);
            assert_eq!(rest(&mut client).unwrap(), 0);
        }
    }
    let packets = stage.tidegate.ask(&["status"]).unwrap()["packets"].clone();
    assert_eq!((&packets["flow_created"], &packets["redispatched"]), (&201.into(), &0.into()), "{packets}");
    expect_nothing_left(&stage);
}

#[test]
fn data_in_the_first_packet_and_answers_before_the_handshake_is_over_arrive() {
    let (stage, listener) = one("");
    drop(listener);
    let backend = &stage.topology.backends[0];
    // The client asks for it; the backend grants it on every port that is opened from now on.
    stage.client().sysctl("net/ipv4/tcp_fastopen", "1").unwrap();
    backend.sysctl("net/ipv4/tcp_fastopen", "1026").unwrap();
    let listener = listen(backend);
    for _ in 0..20 {
        let mut client =
            dial(stage.client(), 0, |socket| setsockopt(socket, sockopt::TcpFastOpenConnect, &true).unwrap());
        client.write_all(b"early").unwrap();
        let mut server = accept(&listener);
        server.write_all(&vec![7; 20_000]).unwrap();
        let mut said = [0; 5];
        server.read_exact(&mut said).unwrap();
        drop(server);
        assert_eq!(rest(&mut client).unwrap(), 20_000);
    }
    // The first only fetched the cookie.
    assert_eq!((extended(stage.client(), "TCPFastOpenActive"), extended(backend, "TCPFastOpenPassive")), (19, 19));
    expect_nothing_left(&stage);
}

#[test]
fn a_backend_that_answers_every_client_with_a_cookie_serves_them_all() {
    let stage = Stage::two_arms(1, &web(&[0]).unprobed().file());
    stage.topology.backends[0].sysctl("net/ipv4/tcp_syncookies", "2").unwrap();
    let pings = stage.pings(30);
    stage.ask_all(WEB).expect_no_failure();
    pings.stop().expect_no_failure();
    assert_eq!(extended(&stage.topology.backends[0], "SyncookiesRecv"), 271);
    expect_nothing_left(&stage);
}
