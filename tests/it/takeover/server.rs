//! A server and its clients in the little of MySQL's protocol that a hand-over needs: logins, statements that are
//! done, reads of one row. It remembers what was written, and how many sessions it has.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One row was changed; autocommit, and in a transaction or not.
const fn done(inside: bool) -> [u8; 7] {
    [0, 1, 0, 2 + inside as u8, 0, 0, 0]
}

/// HandshakeV10 of a MySQL 8 with mysql_native_password, without DEPRECATE_EOF.
fn greeting(id: u32) -> Vec<u8> {
    let mut payload = b"\x0a8.0.36\0".to_vec();
    payload.extend(id.to_le_bytes());
    payload.extend(b"abcdefgh\0");
    payload.extend(b"\x00\x82\x2d\x02\x00\x08\x00\x15");
    payload.extend([0; 10]);
    payload.extend(b"ijklmnopqrst\0mysql_native_password\0");
    payload
}

fn send(stream: &mut TcpStream, seq: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).expect("a short packet");
    let [a, b, c, _] = length.to_le_bytes();
    stream.write_all(&[&[a, b, c, seq], payload].concat())
}

/// A packet: its number and its payload.
fn receive(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let [a, b, c, seq] = header;
    let length = u32::from_le_bytes([a, b, c, 0]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload)?;
    Ok((seq, payload))
}

/// A server that does what it is told.
#[derive(Clone)]
pub struct Server {
    pub address: String,
    written: Arc<Mutex<Vec<String>>>,
    hangs: Arc<AtomicBool>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Self {
            address: listener.local_addr().expect("an address").to_string(),
            written: Arc::default(),
            hangs: Arc::default(),
        };
        let (serves, last) = (server.clone(), AtomicUsize::new(0));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (serves, id) = (serves.clone(), last.fetch_add(1, Ordering::SeqCst) + 1);
                std::thread::spawn(move || serves.session(stream, id as u32));
            }
        });
        server
    }

    /// What was written, in the order in which it was.
    pub fn written(&self) -> Vec<String> {
        self.written.lock().expect("nobody panics").clone()
    }

    /// From here on no write is answered, or it is again.
    pub fn set_hangs(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }

    fn session(&self, mut stream: TcpStream, id: u32) -> io::Result<()> {
        stream.set_nodelay(true)?;
        send(&mut stream, 0, &greeting(id))?;
        let (seq, _) = receive(&mut stream)?;
        send(&mut stream, seq + 1, &done(false))?;
        let mut inside = false;
        loop {
            let (_, command) = receive(&mut stream)?;
            match command.split_first() {
                Some((3, text)) => {
                    let text = String::from_utf8_lossy(text);
                    inside = match text.as_ref() {
                        "BEGIN" | "START TRANSACTION" => true,
                        "COMMIT" | "ROLLBACK" => false,
                        _ => inside,
                    };
                    self.query(&mut stream, &text, inside)?;
                }
                Some((1, _)) | None => return Ok(()),
                Some(_) => send(&mut stream, 1, &done(inside))?,
            }
        }
    }

    fn query(&self, stream: &mut TcpStream, text: &str, inside: bool) -> io::Result<()> {
        if !text.to_ascii_uppercase().starts_with("SELECT") {
            if text.starts_with("INSERT") {
                while self.hangs.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                self.written
                    .lock()
                    .expect("nobody panics")
                    .push(text.to_owned());
            }
            return send(stream, 1, &done(inside));
        }
        // One column of type LONGLONG, one row.
        let mut column = b"\x03def\x00\x00\x00\x01n\x00\x0c\x3f\x00".to_vec();
        column.extend(b"\x14\x00\x00\x00\x08\x00\x00\x00\x00\x00");
        let end = &[0xfe, 0, 0, 2 + inside as u8, 0];
        let packets: [&[u8]; 5] = [b"\x01", &column, end, b"\x011", end];
        for (seq, packet) in (1..).zip(packets) {
            send(stream, seq, packet)?;
        }
        Ok(())
    }
}

/// A client that is logged in.
pub struct Client(TcpStream);

impl Client {
    pub fn connect(address: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(super::PATIENCE))?;
        let (_, greeting) = receive(&mut stream)?;
        no_error(&greeting)?;
        let mut login = 0x0008_8200_u32.to_le_bytes().to_vec();
        login.extend(0x0100_0000_u32.to_le_bytes());
        login.push(0x2d);
        login.extend([0; 23]);
        login.extend(b"app\0\x14aaaaaaaaaaaaaaaaaaaamysql_native_password\0");
        send(&mut stream, 1, &login)?;
        let (_, answer) = receive(&mut stream)?;
        no_error(&answer)?;
        Ok(Self(stream))
    }

    /// Runs a statement; an error of the server's is one here.
    pub fn query(&mut self, text: &str) -> io::Result<()> {
        send(&mut self.0, 0, &[b"\x03", text.as_bytes()].concat())?;
        let (_, first) = receive(&mut self.0)?;
        no_error(&first)?;
        let mut ends_left = if first.first() == Some(&0) { 0 } else { 2 };
        while ends_left > 0 {
            let (_, packet) = receive(&mut self.0)?;
            no_error(&packet)?;
            ends_left -= usize::from(packet.first() == Some(&0xfe) && packet.len() < 9);
        }
        Ok(())
    }

    /// Says goodbye, and sees that the other end hears it.
    pub fn quit(mut self) -> io::Result<()> {
        send(&mut self.0, 0, b"\x01")?;
        let _closed = self.0.read(&mut [0; 16]);
        Ok(())
    }

    /// Whether the other end closes the connection, within the time of a read.
    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.0.read(&mut [0; 64]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }
}

fn no_error(packet: &[u8]) -> io::Result<()> {
    if packet.first() == Some(&0xff) {
        let words = String::from_utf8_lossy(packet.get(3..).unwrap_or_default()).into_owned();
        return Err(io::Error::other(words));
    }
    Ok(())
}
