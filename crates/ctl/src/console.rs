use std::io::{self, Read, Write};

use api::wire::DEFAULT_SOCKET;

/// All that calicoctl touches of the process: its streams and its environment.
pub struct Console<'a> {
    /// Where `-f -` reads from.
    pub input: &'a mut dyn Read,
    /// Results.
    pub output: &'a mut dyn Write,
    /// Everything else.
    pub errors: &'a mut dyn Write,
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Console<'_> {
    /// Where this host's node is asked.
    pub(crate) fn node_socket(&self) -> String {
        let socket = (self.variable)("TORTIE_NODE_SOCKET").filter(|path| !path.is_empty());
        socket.unwrap_or_else(|| DEFAULT_SOCKET.to_owned())
    }
}

/// Standard output; when its reader has gone (`calicoctl get … | head -1`), what is written is dropped without an error.
pub(crate) struct Pipe<W>(Option<W>);

impl<W: Write> Pipe<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self(Some(inner))
    }

    fn forgive<T>(&mut self, result: io::Result<T>, done: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.0 = None;
                Ok(done)
            }
            other => other,
        }
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(inner) = &mut self.0 else { return Ok(bytes.len()) };
        let result = inner.write(bytes);
        self.forgive(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(inner) = &mut self.0 else { return Ok(()) };
        let result = inner.flush();
        self.forgive(result, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed(io::ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_reader_that_has_gone_is_forgiven() {
        let mut pipe = Pipe::new(Closed(io::ErrorKind::BrokenPipe));
        pipe.write_all(b"one").unwrap();
        pipe.write_all(b"two").unwrap();
        pipe.flush().unwrap();
        let mut full = Pipe::new(Closed(io::ErrorKind::StorageFull));
        assert_eq!(full.write_all(b"one").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(full.flush().is_err());
    }
}
