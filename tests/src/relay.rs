//! A network between two processes that can be made slow, cut, or silent: bytes are passed on by this process.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

/// How often a silent relay looks whether it may speak again.
const LOOK: Duration = Duration::from_millis(5);

/// What the system keeps of a connection on which only so much passes in a second.
const SLOW_BUFFER_BYTES: usize = 16 * 1024;

/// Passes connections on. Ends with the process.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    target: Mutex<Option<SocketAddr>>,
    delay_ms: AtomicU64,
    /// Of each connection, each way; 0: any number.
    bytes_per_second: AtomicU64,
    is_cut: AtomicBool,
    is_silent: AtomicBool,
    last: AtomicU64,
    connections: Mutex<HashMap<u64, [TcpStream; 2]>>,
}

impl Relay {
    /// Listens on a port of the system's choice; whoever connects is let go until a target is named.
    pub fn start() -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared: Arc<Shared> = Arc::default();
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                accepting.pass_on(stream);
            }
        });
        Relay { address, shared }
    }

    /// Where to connect instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where connections go from now on.
    pub fn to(&self, target: SocketAddr) {
        *self.shared.target() = Some(target);
    }

    /// Everything takes so much longer, each way.
    pub fn delay_ms(&self, delay_ms: u64) {
        self.shared.delay_ms.store(delay_ms, Ordering::Relaxed);
    }

    /// No more than so many bytes pass in a second, of each connection from now on, each way; who sends more waits.
    pub fn bytes_per_second(&self, bytes_per_second: u64) {
        self.shared.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Ends all connections; new ones end at once.
    pub fn cut(&self) {
        self.shared.is_cut.store(true, Ordering::SeqCst);
        for (_, ends) in self.shared.connections().drain() {
            ends.iter().for_each(|end| _ = end.shutdown(Shutdown::Both));
        }
    }

    /// Nothing passes any more, and nobody is told.
    pub fn silence(&self) {
        self.shared.is_silent.store(true, Ordering::SeqCst);
    }

    /// All is well again.
    pub fn mend(&self) {
        self.shared.is_cut.store(false, Ordering::SeqCst);
        self.shared.is_silent.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn pass_on(self: &Arc<Self>, one: TcpStream) {
        let Some(target) = *self.target() else { return };
        let Ok(other) = TcpStream::connect(target) else { return };
        if self.bytes_per_second.load(Ordering::Relaxed) > 0 {
            for end in [&one, &other] {
                // What waits shall wait where it comes from.
                SockRef::from(end).set_recv_buffer_size(SLOW_BUFFER_BYTES).expect("a buffer size");
            }
        }
        let clone = |stream: &TcpStream| stream.try_clone().expect("a handle");
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        self.connections().insert(number, [clone(&one), clone(&other)]);
        // Looked at behind the entry: whoever cuts meanwhile finds it there.
        if self.is_cut.load(Ordering::SeqCst) {
            self.forget(number);
        }
        for (from, to) in [(clone(&one), clone(&other)), (other, one)] {
            _ = from.set_nodelay(true);
            _ = to.set_nodelay(true);
            self.pump(number, from, to);
        }
    }

    /// One thread reads, another writes when it is time.
    fn pump(self: &Arc<Self>, number: u64, mut from: TcpStream, mut to: TcpStream) {
        let (sender, received) = mpsc::channel::<(Instant, Vec<u8>)>();
        let (reading, writing) = (self.clone(), self.clone());
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = from.read(reading.at_once(&mut buffer)) {
                thread::sleep(reading.duration_of(count));
                let due = Instant::now() + Duration::from_millis(reading.delay_ms.load(Ordering::Relaxed));
                if sender.send((due, buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
        });
        thread::spawn(move || {
            while let Ok((due, bytes)) = received.recv() {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                while writing.is_silent.load(Ordering::SeqCst) {
                    thread::sleep(LOOK);
                }
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            writing.forget(number);
        });
    }

    /// What is read at once: little where little passes, so that it flows.
    fn at_once<'a>(&self, buffer: &'a mut [u8]) -> &'a mut [u8] {
        let is_slow = self.bytes_per_second.load(Ordering::Relaxed) > 0;
        let length = if is_slow { 1024 } else { buffer.len() };
        &mut buffer[..length]
    }

    /// How long so many bytes take.
    fn duration_of(&self, bytes: usize) -> Duration {
        let bytes_per_second = self.bytes_per_second.load(Ordering::Relaxed);
        let micros = (bytes as u64 * 1_000_000).checked_div(bytes_per_second);
        Duration::from_micros(micros.unwrap_or_default())
    }

    fn forget(&self, number: u64) {
        if let Some(ends) = self.connections().remove(&number) {
            ends.iter().for_each(|end| _ = end.shutdown(Shutdown::Both));
        }
    }

    fn target(&self) -> MutexGuard<'_, Option<SocketAddr>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, [TcpStream; 2]>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
