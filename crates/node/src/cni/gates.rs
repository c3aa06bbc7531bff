//! `readiness_gates`: URLs that have to answer before ADD goes on.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use api::cni::code;
use api::wire::WireError;

use super::{later, refuse};

/// control-plane.md 2.1: polled every 5 s, up to 30 s.
const LIMIT: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_secs(5);

/// Waits until every URL answers with a status of 2xx or 3xx. A gate that answers with a client error (4xx) will not open
/// by waiting.
pub(super) fn wait(urls: &[String]) -> Result<(), WireError> {
    let deadline = Instant::now() + LIMIT;
    urls.iter().try_for_each(|url| wait_for(url, deadline))
}

fn wait_for(url: &str, deadline: Instant) -> Result<(), WireError> {
    loop {
        let reason = match ask(url)? {
            Ok(status) if (200..400).contains(&status) => return Ok(()),
            Ok(status) => format!("it answers {status}"),
            Err(error) => error.to_string(),
        };
        if reason.starts_with("it answers 4") || Instant::now() + PERIOD > deadline {
            return Err(later(format!("readiness gate {url} is not open: {reason}")));
        }
        std::thread::sleep(PERIOD);
    }
}

/// The status that a URL answers with; the outer error is about the URL itself.
fn ask(url: &str) -> Result<std::io::Result<u16>, WireError> {
    let bad =
        || refuse(code::INVALID_CONFIG, format!("readiness_gates {url:?}: use http://HOST[:PORT]/PATH"));
    let rest = url.strip_prefix("http://").ok_or_else(bad)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    Ok(fetch_status(&address, authority, path))
}

fn fetch_status(address: &str, host: &str, path: &str) -> std::io::Result<u16> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(PERIOD))?;
    // In one piece: a server that answers at the first line would reset a connection that still sends.
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let status = std::str::from_utf8(&head[9..]).ok().and_then(|text| text.parse().ok());
    status.ok_or_else(|| std::io::Error::other("it does not speak HTTP"))
}

/// Connects to the first address that answers: `localhost` is often two, and who listens has one.
fn connect(address: &str) -> std::io::Result<TcpStream> {
    let mut outcome = Err(std::io::Error::new(std::io::ErrorKind::NotFound, "its host has no address"));
    for address in address.to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&address, PERIOD);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_gate_lets_through_and_one_that_says_no_does_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/readiness", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 404 Not Found\r\n\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 256]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        wait(std::slice::from_ref(&url)).unwrap();
        assert!(wait(&[url]).unwrap_err().msg.contains("it answers 404"));
        assert_eq!(wait(&["ftp://x".to_owned()]).unwrap_err().code, code::INVALID_CONFIG);
    }
}
