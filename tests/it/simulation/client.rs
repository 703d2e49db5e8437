//! A fake client: logs in through the relay, sends its script in pieces, pipelines, stalls, and
//! keeps every byte that comes back with the virtual time at which each answer was whole.

use super::script::{self, Command};
use super::server::Record;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

/// What one client saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Every byte after the login's OK.
    pub bytes: Vec<u8>,
    /// Virtual time since the world began at which each answer was whole.
    pub times: Vec<Duration>,
    /// Commands sent whole that have an answer.
    pub commands: u64,
    /// Whether the script came to its end.
    pub finished: bool,
}

/// How a client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// With COM_QUIT, after its whole script.
    Quit,
    /// By closing, after this many commands, perhaps in the middle of an answer.
    Vanish(usize),
}

/// Runs a session, to its end or until the connection breaks. `primary` is the primary's record
/// and the session's place in it: clients log in one by one.
pub async fn run(
    mut stream: DuplexStream,
    commands: Vec<Command>,
    leaving: Leaving,
    seed: u64,
    world: Instant,
    primary: (Record, usize),
) -> Seen {
    let mut seen = Seen::default();
    let script = script(
        &mut stream,
        &commands,
        leaving,
        StdRng::seed_from_u64(seed),
        world,
        &primary,
        &mut seen,
    );
    seen.finished = matches!(script.await, Ok(true));
    seen
}

/// Whether the script came to its end.
async fn script(
    stream: &mut DuplexStream,
    commands: &[Command],
    leaving: Leaving,
    mut rng: StdRng,
    world: Instant,
    primary: &(Record, usize),
    seen: &mut Seen,
) -> std::io::Result<bool> {
    let mut owed = 0usize;
    for (at, command) in commands.iter().enumerate() {
        if leaving == Leaving::Vanish(at) {
            return Ok(false);
        }
        // Counted first: it may be there though the connection breaks over it.
        seen.commands += u64::from(command.answered);
        owed += usize::from(command.answered);
        send(stream, &command.payload, &mut rng).await?;
        if !command.pipelined || at + 1 == commands.len() {
            while owed > 0 {
                answer(stream, seen, primary, world).await?;
                owed -= 1;
            }
            // At times so long that the session's connection to the shadow is parked.
            let pause = match rng.random_range(0..30u32) {
                0 => 2_000_000,
                1..=10 => rng.random_range(1..20_000u64),
                _ => 0,
            };
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
    }
    send(stream, &[1], &mut rng).await?;
    Ok(true)
}

/// Reads the greeting, logs in, reads the OK.
pub async fn log_in(stream: &mut DuplexStream) -> std::io::Result<()> {
    packet(stream).await?;
    stream.write_all(&script::login()).await?;
    packet(stream).await
}

async fn packet(stream: &mut DuplexStream) -> std::io::Result<()> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let len = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
    stream.read_exact(&mut vec![0; len]).await.map(drop)
}

async fn send(stream: &mut DuplexStream, payload: &[u8], rng: &mut StdRng) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    understudy::wire::packet::write_packet(&mut bytes, 0, payload);
    if rng.random_range(0..4u32) == 0 && bytes.len() > 1 {
        let (first, second) = bytes.split_at(rng.random_range(1..bytes.len()));
        stream.write_all(first).await?;
        tokio::time::sleep(Duration::from_micros(rng.random_range(1..3000u64))).await;
        return stream.write_all(second).await;
    }
    stream.write_all(&bytes).await
}

/// Reads the next answer whole: its length is in the primary's record once the primary began it.
async fn answer(
    stream: &mut DuplexStream,
    seen: &mut Seen,
    (record, number): &(Record, usize),
    world: Instant,
) -> std::io::Result<()> {
    let mut byte = [0; 1];
    stream.read_exact(&mut byte).await?;
    let len = record.lock().unwrap()[*number]
        .answers
        .get(seen.times.len())
        .copied();
    // The proxy's own word, where the primary broke off before it had said one.
    let len = len.ok_or(std::io::ErrorKind::ConnectionReset)?;
    seen.bytes.push(byte[0]);
    let mut rest = vec![0; len - 1];
    stream.read_exact(&mut rest).await?;
    seen.bytes.extend_from_slice(&rest);
    seen.times.push(world.elapsed());
    Ok(())
}
