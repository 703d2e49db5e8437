//! Where an answer ends, as a client that asked for DEPRECATE_EOF sees it. One result, not several.

/// Reads answers, one after the other.
#[derive(Debug, Default)]
pub struct Scanner {
    /// A packet's header and first byte, as far as they were read.
    begun: [u8; 5],
    have: usize,
    /// Bytes left of the packet.
    skip: usize,
    part: Part,
    is_last: bool,
    /// The answer is an error.
    pub is_error: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Part {
    #[default]
    First,
    /// So many definitions are to come.
    Columns(u8),
    Rows,
}

impl Scanner {
    /// Takes in what was read; whether the answer has ended with it.
    pub fn feed(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            if self.skip > 0 {
                let taken = self.skip.min(bytes.len());
                self.skip -= taken;
                bytes = bytes.get(taken..).unwrap_or_default();
            }
            if self.skip > 0 {
                return false;
            }
            if self.is_last {
                return true;
            }
            let free = self.begun.get_mut(self.have..).unwrap_or_default();
            let taken = free.len().min(bytes.len());
            let (now, rest) = bytes.split_at(taken);
            free.get_mut(..taken)
                .unwrap_or_default()
                .copy_from_slice(now);
            self.have += taken;
            bytes = rest;
            if self.have < self.begun.len() {
                return false;
            }
            self.have = 0;
            self.packet();
        }
    }

    fn packet(&mut self) {
        let [a, b, c, _, first] = self.begun;
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        self.skip = length.saturating_sub(1);
        self.part = match (self.part, first) {
            (Part::First | Part::Rows, 0xff) => {
                self.is_error = true;
                self.is_last = true;
                Part::First
            }
            (Part::First, 0) => {
                self.is_last = true;
                Part::First
            }
            (Part::First, columns) => Part::Columns(columns),
            (Part::Columns(1), _) => Part::Rows,
            (Part::Columns(columns), _) => Part::Columns(columns - 1),
            (Part::Rows, 0xfe) if length < 0xff_ffff => {
                self.is_last = true;
                Part::First
            }
            (Part::Rows, _) => Part::Rows,
        };
    }
}
