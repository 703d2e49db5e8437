//! The frame around every packet, and the reader that cannot over-read.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html>

/// Bytes of a packet's header: a 3-byte length and a sequence number.
pub const HEADER_LEN: usize = 4;

/// The longest payload one header can carry. A payload of exactly this length is continued in
/// the next packet.
pub const CHUNK_MAX: usize = 0xFF_FFFF;

/// A packet's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Payload length in bytes, at most [`CHUNK_MAX`].
    pub len: u32,
    /// Sequence number within the exchange.
    pub seq: u8,
}

impl Header {
    /// Reads a header from its four bytes.
    #[must_use]
    pub const fn parse(bytes: [u8; HEADER_LEN]) -> Self {
        let [a, b, c, seq] = bytes;
        Self {
            len: u32::from_le_bytes([a, b, c, 0]),
            seq,
        }
    }

    /// The header's four bytes. A length above [`CHUNK_MAX`] cannot be said and is cut to it.
    #[must_use]
    pub const fn encode(self) -> [u8; HEADER_LEN] {
        let len = if self.len > 0xFF_FFFF {
            0xFF_FFFF
        } else {
            self.len
        };
        let [a, b, c, _] = len.to_le_bytes();
        [a, b, c, self.seq]
    }
}

/// Appends `payload` to `out` as one packet, or as several where it is [`CHUNK_MAX`] bytes or
/// longer, and returns the sequence number that follows.
pub fn write_packet(out: &mut Vec<u8>, mut seq: u8, payload: &[u8]) -> u8 {
    let mut rest = payload;
    loop {
        let (chunk, tail) = rest.split_at(rest.len().min(CHUNK_MAX));
        let len = u32::try_from(chunk.len()).unwrap_or(0);
        out.extend_from_slice(&Header { len, seq }.encode());
        out.extend_from_slice(chunk);
        seq = seq.wrapping_add(1);
        if chunk.len() < CHUNK_MAX {
            return seq;
        }
        rest = tail;
    }
}

/// The input ended before what it promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the packet is shorter than its content says")]
pub struct Short;

/// Reads a payload from the front. Every method takes what it returns, or returns [`Short`] and
/// takes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over a whole payload.
    #[must_use]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte, without taking it.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes one byte.
    pub fn u8(&mut self) -> Result<u8, Short> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Takes a little-endian 2-byte integer.
    pub fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(u16::from_le_bytes)
    }

    /// Takes a little-endian 3-byte integer.
    pub fn u24(&mut self) -> Result<u32, Short> {
        self.array::<3>()
            .map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    /// Takes a little-endian 4-byte integer.
    pub fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes a little-endian 8-byte integer.
    pub fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes a length-encoded integer; `None` is the NULL marker `0xFB`.
    ///
    /// <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_dt_integers.html>
    pub fn lenenc(&mut self) -> Result<Option<u64>, Short> {
        let before = *self;
        let taken = match self.u8()? {
            0xFB => Ok(None),
            0xFC => self.u16().map(|n| Some(u64::from(n))),
            0xFD => self.u24().map(|n| Some(u64::from(n))),
            0xFE => self.u64().map(Some),
            0xFF => Err(Short),
            small => Ok(Some(u64::from(small))),
        };
        if taken.is_err() {
            *self = before;
        }
        taken
    }

    /// Takes a length-encoded integer that cannot be NULL.
    pub fn lenenc_int(&mut self) -> Result<u64, Short> {
        let before = *self;
        self.lenenc()?.ok_or_else(|| {
            *self = before;
            Short
        })
    }

    /// Takes a length-encoded string; `None` is NULL.
    pub fn lenenc_bytes(&mut self) -> Result<Option<&'a [u8]>, Short> {
        let before = *self;
        let Some(len) = self.lenenc()? else {
            return Ok(None);
        };
        let taken = usize::try_from(len)
            .map_err(|_| Short)
            .and_then(|len| self.bytes(len));
        if taken.is_err() {
            *self = before;
        }
        taken.map(Some)
    }

    /// Takes a string up to its zero byte, and the zero byte.
    pub fn null_bytes(&mut self) -> Result<&'a [u8], Short> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(Short)?;
        let taken = self.bytes(end)?;
        self.u8()?;
        Ok(taken)
    }
}

/// Appends a length-encoded integer.
pub fn write_lenenc(out: &mut Vec<u8>, n: u64) {
    let bytes = n.to_le_bytes();
    let [a, b, c, ..] = bytes;
    match n {
        0..=0xFA => out.push(a),
        0xFB..=0xFFFF => out.extend_from_slice(&[0xFC, a, b]),
        0x1_0000..=0xFF_FFFF => out.extend_from_slice(&[0xFD, a, b, c]),
        _ => {
            out.push(0xFE);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends a length-encoded string.
pub fn write_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_lenenc(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        let header = Header {
            len: 0x12_3456,
            seq: 7,
        };
        assert_eq!(Header::parse(header.encode()), header);
    }

    #[test]
    fn length_encoded_integers_read_back_at_every_width() {
        for n in [
            0,
            250,
            251,
            0xFFFF,
            0x1_0000,
            0xFF_FFFF,
            0x100_0000,
            u64::MAX,
        ] {
            let mut out = Vec::new();
            write_lenenc(&mut out, n);
            assert_eq!(Reader::new(&out).lenenc(), Ok(Some(n)), "{n}");
        }
    }

    #[test]
    fn a_short_string_is_not_taken() {
        let mut reader = Reader::new(&[5, b'a', b'b']);
        assert_eq!(reader.lenenc_bytes(), Err(Short));
        assert_eq!(reader.rest().len(), 3);
    }

    #[test]
    fn a_payload_of_the_largest_chunk_is_followed_by_an_empty_one() {
        let mut out = Vec::new();
        let next = write_packet(&mut out, 0, &vec![1; CHUNK_MAX]);
        assert_eq!(next, 2);
        assert_eq!(out.len(), CHUNK_MAX + 2 * HEADER_LEN);
    }
}
