//! Cuts a byte stream, arriving in any pieces, into the parts of packets. Copies nothing and
//! assumes nothing about sequence numbers; what a part means is its caller's business.

use super::packet::{CHUNK_MAX, HEADER_LEN, Header};

/// A part of a packet's payload, without headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// The bytes. Only an empty packet's first part is empty, and a last part that ends a packet
    /// of a multiple of [`CHUNK_MAX`] bytes.
    pub(super) data: &'a [u8],
    /// Whether the packet begins here.
    pub(super) first: bool,
    /// Whether the packet ends here.
    pub(super) last: bool,
    /// Length of the chunk that the part lies in.
    pub(super) chunk_len: usize,
    /// Sequence number of that chunk.
    pub(super) seq: u8,
}

/// Where the stream stands between two pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    header: [u8; HEADER_LEN],
    header_have: usize,
    chunk_len: usize,
    chunk_left: usize,
    inside: bool,
}

impl Frames {
    pub(super) const fn new() -> Self {
        Self {
            header: [0; HEADER_LEN],
            header_have: 0,
            chunk_len: 0,
            chunk_left: 0,
            inside: false,
        }
    }

    /// Whether the stream stands between two packets.
    pub(super) const fn at_boundary(&self) -> bool {
        self.header_have == 0 && !self.inside
    }

    /// Takes the next part from the front of `piece`; `None` once the piece is used up. A first
    /// part is held back until one byte of its payload is there.
    pub(super) fn next<'a>(&mut self, piece: &mut &'a [u8]) -> Option<Part<'a>> {
        if self.header_have < HEADER_LEN {
            self.read_header(piece)?;
        }
        if piece.is_empty() && self.chunk_left > 0 {
            return None;
        }
        let (data, rest) = piece
            .split_at_checked(self.chunk_left)
            .unwrap_or((piece, &[]));
        *piece = rest;
        self.chunk_left -= data.len();
        let ends_chunk = self.chunk_left == 0;
        let part = Part {
            data,
            first: !self.inside,
            last: ends_chunk && self.chunk_len < CHUNK_MAX,
            chunk_len: self.chunk_len,
            seq: self.header[HEADER_LEN - 1],
        };
        self.inside = !part.last;
        if ends_chunk {
            self.header_have = 0;
        }
        Some(part)
    }

    fn read_header(&mut self, piece: &mut &[u8]) -> Option<()> {
        if self.header_have == 0
            && let Some((whole, rest)) = piece.split_first_chunk::<HEADER_LEN>()
        {
            self.header = *whole;
            self.header_have = HEADER_LEN;
            *piece = rest;
        }
        while self.header_have < HEADER_LEN {
            let (byte, rest) = piece.split_first()?;
            *self.header.get_mut(self.header_have)? = *byte;
            self.header_have += 1;
            *piece = rest;
        }
        let [a, b, c, _] = self.header;
        self.chunk_len = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        debug_assert_eq!(
            u32::try_from(self.chunk_len),
            Ok(Header::parse(self.header).len)
        );
        self.chunk_left = self.chunk_len;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::write_packet;
    use super::*;

    fn packets(stream: &[u8], piece_len: usize) -> Vec<Vec<u8>> {
        let mut frames = Frames::new();
        let mut packets = Vec::new();
        for mut piece in stream.chunks(piece_len) {
            while let Some(part) = frames.next(&mut piece) {
                if part.first {
                    packets.push(Vec::new());
                }
                packets.last_mut().unwrap().extend_from_slice(part.data);
            }
        }
        assert!(frames.at_boundary());
        packets
    }

    #[test]
    fn packets_come_out_as_they_went_in_whatever_the_pieces() {
        let payloads = [
            b"".to_vec(),
            b"a".to_vec(),
            vec![7; 300],
            b"".to_vec(),
            vec![1; 4],
        ];
        let mut stream = Vec::new();
        for payload in &payloads {
            write_packet(&mut stream, 3, payload);
        }
        for piece_len in 1..stream.len() {
            assert_eq!(
                packets(&stream, piece_len),
                payloads,
                "pieces of {piece_len}"
            );
        }
    }

    #[test]
    fn chunks_of_the_largest_size_are_one_packet_with_what_follows() {
        for len in [CHUNK_MAX, CHUNK_MAX + 1, 2 * CHUNK_MAX] {
            let mut stream = Vec::new();
            write_packet(&mut stream, 0, &vec![0xFE; len]);
            write_packet(&mut stream, 0, b"next");
            let packets = packets(&stream, 0xFFFF);
            assert_eq!(packets.iter().map(Vec::len).collect::<Vec<_>>(), [len, 4]);
        }
    }
}
