//! `relay`: passes connections on to a gateway, as slowly as a long way would. For trying out on one machine what is far
//! apart: between clients and a gateway, or between nodes. It ends when it is told to.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{options::RelayOptions, payload::mix};

/// Bytes that are passed on at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Listens until the process ends.
pub(crate) fn run(options: &RelayOptions) -> Result<()> {
    let listener = TcpListener::bind(options.listen).with_context(|| format!("--listen {}", options.listen))?;
    println!("relay: {} to {}, {} ms each way", listener.local_addr()?, options.to, options.delay_ms);
    for (number, stream) in listener.incoming().enumerate() {
        if let Ok(stream) = stream
            && let Err(error) = pass_on(stream, options, number as u64)
        {
            eprintln!("relay: {error:#}");
        }
    }
    Ok(())
}

fn pass_on(near: TcpStream, options: &RelayOptions, number: u64) -> Result<()> {
    let to: SocketAddr = options.to;
    let far = TcpStream::connect(to).with_context(|| format!("can't connect to {to}"))?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
    }
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far.try_clone()?, near.try_clone()?)] {
        pump(from, to, Duration::from_millis(options.delay_ms));
    }
    if let Some(seconds) = options.lose_after_s {
        // A lost connection is all that a stream shows of a bad way.
        let after = Duration::from_secs(seconds) + Duration::from_millis(mix(number) % 1_000);
        thread::spawn(move || {
            thread::sleep(after);
            for stream in [near, far] {
                let _ = stream.shutdown(Shutdown::Both); // it may be over already
            }
        });
    }
    Ok(())
}

/// One thread reads, another writes when it is time.
fn pump(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, received) = mpsc::sync_channel::<(Instant, Vec<u8>)>(1_024);
    thread::spawn(move || {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            let bytes = piece.get(..count).unwrap_or_default().to_vec();
            if sender.send((Instant::now() + delay, bytes)).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        while let Ok((due, bytes)) = received.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both); // the other side hears of the end
    });
}
