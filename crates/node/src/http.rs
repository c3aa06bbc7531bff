//! `/liveness`, `/readiness` and `/metrics`: a small HTTP server on a thread of its own.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::time::Instant;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::bgp::BgpMetrics;
use crate::health::Health;

/// Binds an address and serves these routes on a thread until the process ends. Binding happens before this returns,
/// so that a port in use is an error of the start, not a line in a log.
///
/// # Errors
/// The address does not resolve, or is in use.
pub(crate) fn serve(name: &str, host: &str, port: u16, router: Router) -> io::Result<()> {
    let listener = bind(host, port).map_err(|error| {
        io::Error::new(error.kind(), format!("{name}: cannot listen on {host}:{port}: {error}"))
    })?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let run = move || {
        runtime.block_on(async move {
            let served = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => axum::serve(listener, router).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(%error, "the HTTP server has ended");
            }
        });
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(())
}

fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    TcpListener::bind(&addresses[..]).or_else(|error| match host {
        // No IPv6 on this host: "everywhere" is then 0.0.0.0.
        "::" => TcpListener::bind(("0.0.0.0", port)),
        _ => Err(error),
    })
}

/// `/liveness` and `/readiness`: 200, or 503 and a line for each part that is not; readiness with a line for each notice.
pub(crate) fn health_routes(health: Health) -> Router {
    let readiness = health.clone();
    Router::new()
        .route("/liveness", get(async move || verdict(&health.not_live(Instant::now()), "live", &[])))
        .route(
            "/readiness",
            get(async move || verdict(&readiness.not_ready(), "ready", &readiness.notices())),
        )
}

fn verdict(causes: &[String], yes: &str, notices: &[String]) -> (StatusCode, String) {
    let (status, no) = match causes {
        [] => (StatusCode::OK, ""),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not "),
    };
    let notices = notices.iter().map(|notice| format!("notice: {notice}"));
    let lines = std::iter::once(format!("{no}{yes}")).chain(causes.iter().cloned()).chain(notices);
    (status, lines.map(|line| line + "\n").collect())
}

/// `/metrics` in Prometheus' text format: those of the registry, and those of BGP's sessions, which are made on demand.
pub(crate) fn metrics_routes(metrics: PrometheusHandle, bgp: BgpMetrics) -> Router {
    Router::new().route("/metrics", get(async move || metrics.render() + &bgp.render()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn fetch(port: u16, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn free_port() -> u16 {
        TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn readiness_names_the_part_that_is_not() {
        let health = Health::default();
        let part = health.register("bgp", None);
        let port = free_port();
        serve("health", "127.0.0.1", port, health_routes(health.clone())).unwrap();
        part.not_ready("peer 10.0.0.2 is Connect: connection refused");
        let answer = fetch(port, "/readiness");
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.ends_with("not ready\nbgp: peer 10.0.0.2 is Connect: connection refused\n"),
            "{answer}"
        );
        part.ready();
        health.set_notices("test", vec!["pool 10.0.0.0/8 asks for ipipMode".to_owned()]);
        let answer = fetch(port, "/readiness");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("\r\nready\nnotice: pool 10.0.0.0/8 asks for ipipMode\n"), "{answer}");
        assert!(fetch(port, "/liveness").starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn a_port_in_use_is_an_error_that_names_it() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = serve("health", "127.0.0.1", port, Router::new()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("health: cannot listen on 127.0.0.1:{port}")), "{error}");
    }
}
