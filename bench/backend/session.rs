//! One connection of the canned server's.

use super::answers::{self, Form, Size};
use super::statements::{Wish, wish};
use super::{House, greeting, questions};
use crate::protocol::{
    DEPRECATE_EOF, INIT_DB, PING, QUERY, QUIT, SSL, STATISTICS, STMT_CLOSE, STMT_EXECUTE,
    STMT_PREPARE, STMT_SEND_LONG_DATA, header, packet,
};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// A command is read at once up to this length.
const BUFFER_BYTES: usize = 1024;

/// A connection, on TCP or within TLS.
pub struct Session<S> {
    house: Rc<House>,
    stream: S,
    /// What was read and not yet answered.
    input: Vec<u8>,
    output: Vec<u8>,
    form: Form,
    /// What the prepared statements ask for, by their ids.
    prepared: HashMap<u32, Wish>,
}

impl Session<TcpStream> {
    /// Greets, and answers until the client is gone.
    pub async fn serve(house: Rc<House>, mut stream: TcpStream, number: u32) {
        let greeting = greeting::greeting(number, house.tls.is_some());
        if stream.write_all(&greeting).await.is_err() {
            return;
        }
        let Ok((sequence, payload)) = read_packet(&mut stream).await else {
            return;
        };
        let wants_tls = greeting::capabilities(&payload).is_some_and(|bits| bits & SSL != 0);
        // A broken connection is the client's to complain of.
        let _gone = match house.tls.clone().filter(|_| wants_tls) {
            None => Self::new(house, stream).talk(sequence, payload).await,
            Some(tls) => match tls.accept(stream).await {
                Err(error) => Err(error),
                Ok(mut stream) => match read_packet(&mut stream).await {
                    Err(error) => Err(error),
                    Ok((sequence, payload)) => {
                        Session::new(house, stream).talk(sequence, payload).await
                    }
                },
            },
        };
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    fn new(house: Rc<House>, stream: S) -> Self {
        Self {
            house,
            stream,
            input: Vec::with_capacity(BUFFER_BYTES),
            output: Vec::new(),
            form: Form::default(),
            prepared: HashMap::new(),
        }
    }

    async fn talk(mut self, mut sequence: u8, login: Vec<u8>) -> io::Result<()> {
        let bits = greeting::capabilities(&login).unwrap_or_default();
        self.form.deprecate_eof = bits & DEPRECATE_EOF != 0;
        if !greeting::is_native(bits, &login) {
            let switch = greeting::switch(sequence.wrapping_add(1));
            self.stream.write_all(&switch).await?;
            sequence = read_packet(&mut self.stream).await?.0;
        }
        packet(
            &mut self.output,
            sequence.wrapping_add(1),
            &[0, 0, 0, 2, 0, 0, 0],
        );
        loop {
            if !self.output.is_empty() {
                self.stream.write_all(&self.output).await?;
                self.stream.flush().await?;
                self.output.clear();
            }
            while let Some(payload) = self.next_command() {
                if payload.first() == Some(&QUIT) {
                    return self.stream.shutdown().await;
                }
                if let Some(delay) = self.house.delay {
                    tokio::time::sleep(delay).await;
                }
                self.answer(&payload).await?;
            }
            if !self.output.is_empty() {
                continue;
            }
            self.input.reserve(BUFFER_BYTES / 2);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(());
            }
        }
    }

    /// The next whole command that was read.
    fn next_command(&mut self) -> Option<Vec<u8>> {
        let (length, _) = header(&self.input)?;
        let payload = self.input.get(4..4 + length)?.to_vec();
        self.input.drain(..4 + length);
        Some(payload)
    }

    async fn answer(&mut self, payload: &[u8]) -> io::Result<()> {
        let Some((kind, rest)) = payload.split_first() else {
            return Ok(());
        };
        match *kind {
            QUERY => self.fulfil(wish(rest), rest, false).await?,
            STMT_PREPARE => self.prepare(rest),
            STMT_EXECUTE => {
                let id = rest.first_chunk().copied().map(u32::from_le_bytes);
                let wish = id.and_then(|id| self.prepared.get(&id).copied());
                self.fulfil(wish.unwrap_or(Wish::Nothing), rest, true)
                    .await?;
            }
            STMT_CLOSE => {
                let id = rest.first_chunk().copied().map(u32::from_le_bytes);
                self.prepared.remove(&id.unwrap_or_default());
            }
            STMT_SEND_LONG_DATA => {}
            STATISTICS => packet(&mut self.output, 1, b"Uptime: 1"),
            PING | INIT_DB => answers::ok(&mut self.output, self.form, 0),
            _ => answers::ok(&mut self.output, self.form, 0),
        }
        Ok(())
    }

    fn prepare(&mut self, text: &[u8]) {
        let wish = wish(text);
        let id = self.prepared.keys().max().unwrap_or(&0) + 1;
        self.prepared.insert(id, wish);
        let parameters = text.iter().filter(|byte| **byte == b'?').count() as u16;
        let reads = match wish {
            Wish::Read(size) => Some(size),
            Wish::Changed | Wish::Begin | Wish::End | Wish::Nothing | Wish::Question => None,
        };
        answers::prepared(&mut self.output, self.form, id, parameters, reads);
    }

    async fn fulfil(&mut self, wish: Wish, text: &[u8], binary: bool) -> io::Result<()> {
        let form = Form {
            binary,
            ..self.form
        };
        if self.house.flood {
            return self.read(Size::G1, form).await;
        }
        match wish {
            Wish::Read(size) => return self.read(size, form).await,
            Wish::Changed => answers::ok(&mut self.output, form, 1),
            Wish::Begin => {
                self.form.in_transaction = true;
                answers::ok(&mut self.output, self.form, 0);
            }
            Wish::End => {
                self.form.in_transaction = false;
                answers::ok(&mut self.output, self.form, 0);
            }
            Wish::Nothing => answers::ok(&mut self.output, form, 0),
            Wish::Question => {
                let (columns, rows) = questions::answer(&String::from_utf8_lossy(text));
                answers::rows(&mut self.output, form, columns, &rows);
            }
        }
        Ok(())
    }

    async fn read(&mut self, size: Size, form: Form) -> io::Result<()> {
        let house = Rc::clone(&self.house);
        let answer = house.answers.read(size, form);
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.output.clear();
        }
        self.stream.write_all(&answer.head).await?;
        for _ in 0..answer.times {
            self.stream.write_all(&answer.middle).await?;
        }
        if !answer.tail.is_empty() {
            self.stream.write_all(&answer.tail).await?;
        }
        self.stream.flush().await
    }
}

/// One packet, and nothing behind it: in the login each side waits for the other, and what follows a wish
/// for TLS is TLS.
async fn read_packet<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(u8, Vec<u8>)> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).await?;
    let (length, sequence) = header(&bytes).unwrap_or_default();
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok((sequence, payload))
}
