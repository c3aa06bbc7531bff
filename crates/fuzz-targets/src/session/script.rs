//! Octets that are taken one after the other.

/// What is left of a script.
#[derive(Debug, Clone)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// A script from its beginning.
    pub fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// The next octet; 0 behind the end.
    pub fn octet(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    /// The next octets, fewer at the end.
    pub fn take(&mut self, octets: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(octets.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

impl Iterator for Script<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}
