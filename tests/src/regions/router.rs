//! Carries packets between regions: each takes as long as its way is, and some are lost.
//!
//! One thread sees every IPv4 packet that arrives in this process's network, whose kernel forwards none; another sends
//! each on when it is due. So what happens, happens to packets, and TCP makes of it what it does on any network. It is
//! done here and not by the kernel (`tc … netem`) because many kernels lack that.
//!
//! What is lost is a matter of chance, and not to be replayed: which packets there are is the kernels' doing.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read as _,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

/// IPv4, as packet sockets call it: in network order.
const ETH_P_IP: i32 = 0x0800_u16.to_be() as i32;
/// Packets with their IP header, to be sent as they are.
const IPPROTO_RAW: i32 = 255;
const IPPROTO_TCP: u8 = 6;

/// What lies between two regions, one way.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// How long a packet takes, in milliseconds.
    pub delay_ms: u64,
    /// How many of a thousand packets are lost.
    pub lost_per_mille: u32,
}

/// The address of the region with this number.
pub(super) fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::from([10, 77, number, 2])
}

/// The number of the region with this address.
fn number(address: [u8; 4]) -> Option<u8> {
    if let [10, 77, number, 2] = address { Some(number) } else { None }
}

/// Runs until the process ends.
pub(super) struct Router {
    ways: Arc<Ways>,
}

#[derive(Default)]
struct Ways(Mutex<HashMap<(u8, u8), Way>>);

impl Router {
    pub(super) fn start() -> Router {
        let socket = |domain, kind, protocol| {
            Socket::new(domain, kind, Some(Protocol::from(protocol))).expect("a socket for packets")
        };
        let arriving = socket(Domain::PACKET, Type::DGRAM, ETH_P_IP);
        let leaving = socket(Domain::IPV4, Type::RAW, IPPROTO_RAW);
        let ways: Arc<Ways> = Arc::default();
        let (sender, received) = mpsc::channel();
        let known = ways.clone();
        thread::spawn(move || take(arriving, &known, &sender));
        thread::spawn(move || send_on(&leaving, &received));
        Router { ways }
    }

    pub(super) fn set_way(&self, from: u8, to: u8, way: Way) {
        self.ways.all().insert((from, to), way);
    }
}

impl Ways {
    fn all(&self) -> MutexGuard<'_, HashMap<(u8, u8), Way>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a packet that comes now arrives; `None`: never.
    fn arrival(&self, from: u8, to: u8) -> Option<Instant> {
        let way = *self.all().get(&(from, to))?;
        let is_lost = rand::random_ratio(way.lost_per_mille, 1000);
        (!is_lost).then(|| Instant::now() + Duration::from_millis(way.delay_ms))
    }
}

/// A packet on its way.
struct Packet {
    to: u8,
    bytes: Vec<u8>,
}

fn take(mut arriving: Socket, ways: &Ways, sender: &mpsc::Sender<(Instant, Packet)>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = arriving.read(&mut buffer) {
        if let Some(due) = read(&buffer[..count], ways)
            && sender.send(due).is_err()
        {
            return;
        }
    }
}

/// A packet between two regions, and when it arrives.
fn read(bytes: &[u8], ways: &Ways) -> Option<(Instant, Packet)> {
    let (from, to) = (number(*bytes.get(12..)?.first_chunk()?)?, number(*bytes.get(16..)?.first_chunk()?)?);
    let arrival = ways.arrival(from, to)?;
    let mut bytes = bytes.to_vec();
    write_checksum(&mut bytes)?;
    Some((arrival, Packet { to, bytes }))
}

fn send_on(leaving: &Socket, received: &mpsc::Receiver<(Instant, Packet)>) {
    let mut waiting: BTreeMap<(Instant, u64), Packet> = BTreeMap::new();
    for count in 0.. {
        let next = waiting.first_key_value().map(|((due, _), _)| due.saturating_duration_since(Instant::now()));
        match received.recv_timeout(next.unwrap_or(Duration::MAX)) {
            Ok((due, packet)) => _ = waiting.insert((due, count), packet),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        while let Some(first) = waiting.first_entry()
            && first.key().0 <= Instant::now()
        {
            let packet = first.remove();
            // Where a link is down, it is lost.
            _ = leaving.send_to(&packet.bytes, &SocketAddrV4::new(address(packet.to), 0).into());
        }
    }
}

/// Writes the checksum of a TCP segment, which the kernel has left to hardware that is not there.
fn write_checksum(packet: &mut [u8]) -> Option<()> {
    let header_bytes = usize::from(packet.first()? & 15) * 4;
    let (header, segment) = packet.split_at_mut_checked(header_bytes)?;
    if *header.get(9)? != IPPROTO_TCP {
        return Some(());
    }
    segment.get_mut(16..18)?.fill(0);
    let of_header = sum(header.get(12..20)?) + u32::from(IPPROTO_TCP) + u32::try_from(segment.len()).ok()?;
    let sum = of_header + sum(segment);
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    segment.get_mut(16..18)?.copy_from_slice(&(!(folded as u16)).to_be_bytes());
    Some(())
}

/// Of words of two bytes. What a packet holds fits by far.
fn sum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| pair.iter().zip([8, 0]).map(|(&byte, shift)| u32::from(byte) << shift).sum::<u32>();
    bytes.chunks(2).map(word).sum()
}
