//! `/liveness`, `/readiness` and `/metrics`: a small HTTP server on a thread of its own.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Notify;

use crate::bgp::BgpMetrics;
use crate::health::Health;

/// A running server.
pub(crate) struct Server {
    name: String,
    listener: TcpListener,
    stop: Arc<Notify>,
}

impl Server {
    /// What it serves.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its listening socket, for another process.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.listener.try_clone().map(OwnedFd::from)
    }

    /// No more connections are taken; those that were are served on.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }
}

/// Where something is served.
type Place = (String, u16);

/// What a process has to serve.
pub(crate) struct Pages {
    pub(crate) health: Health,
    pub(crate) metrics: PrometheusHandle,
    pub(crate) bgp: BgpMetrics,
}

impl Pages {
    /// Serves each of them that has a place, on the socket that another process had for it by name.
    ///
    /// # Errors
    /// As [`serve`].
    pub(crate) fn serve(
        self,
        health: Option<&Place>,
        metrics: Option<&Place>,
        mut inherited: BTreeMap<String, OwnedFd>,
    ) -> io::Result<Vec<Server>> {
        let pages = [
            ("health", health, health_routes(self.health)),
            ("metrics", metrics, metrics_routes(self.metrics, self.bgp)),
        ];
        let wanted = pages.into_iter().filter_map(|(name, place, routes)| Some((name, place?, routes)));
        wanted
            .map(|(name, (host, port), routes)| serve(name, (host, *port), inherited.remove(name), routes))
            .collect()
    }
}

/// Serves these routes on a thread until the process ends: on the socket that another process had for it, if that has
/// the address. Binding happens before this returns, so that a port in use is an error of the start, not a line in a log.
///
/// # Errors
/// The address does not resolve, or is in use.
fn serve(
    name: &str,
    (host, port): (&str, u16),
    inherited: Option<OwnedFd>,
    router: Router,
) -> io::Result<Server> {
    let inherited = inherited.map(TcpListener::from).filter(|listener| is_at(listener, host, port));
    let bound = inherited.map_or_else(|| bind(host, port), Ok);
    let listener = bound.map_err(|error| {
        io::Error::new(error.kind(), format!("{name}: cannot listen on {host}:{port}: {error}"))
    })?;
    listener.set_nonblocking(true)?;
    let stop = Arc::new(Notify::new());
    let server = Server { name: name.to_owned(), listener: listener.try_clone()?, stop: stop.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let run = move || {
        runtime.block_on(async move {
            let served = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => axum::serve(Stoppable { listener, stop }, router).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(%error, "the HTTP server has ended");
            }
        });
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(server)
}

/// A listener that takes no more connections once it is told so. The server's own way to stop also closes connections whose
/// request is still to come.
struct Stoppable {
    listener: tokio::net::TcpListener,
    stop: Arc<Notify>,
}

impl axum::serve::Listener for Stoppable {
    type Io = tokio::net::TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        tokio::select! {
            accepted = axum::serve::Listener::accept(&mut self.listener) => accepted,
            () = self.stop.notified() => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Whether a socket listens where it is wanted.
fn is_at(listener: &TcpListener, host: &str, port: u16) -> bool {
    let wanted: Vec<_> = (host, port).to_socket_addrs().into_iter().flatten().collect();
    listener.local_addr().is_ok_and(|address| wanted.contains(&address))
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
fn health_routes(health: Health) -> Router {
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
fn metrics_routes(metrics: PrometheusHandle, bgp: BgpMetrics) -> Router {
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
        serve("health", ("127.0.0.1", port), None, health_routes(health.clone())).unwrap();
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
    fn a_server_goes_on_in_another_one_with_its_socket() {
        let port = free_port();
        let (old, new) = (Health::default(), Health::default());
        let part = old.register("test", None);
        part.not_ready("old");
        let first = serve("health", ("127.0.0.1", port), None, health_routes(old)).unwrap();
        let socket = first.share().unwrap();
        first.stop();
        let _second = serve("health", ("127.0.0.1", port), Some(socket), health_routes(new)).unwrap();
        testkit::eventually("only the new one answers", || {
            (0..8).all(|_| fetch(port, "/readiness").starts_with("HTTP/1.1 200"))
        });
        let elsewhere =
            serve("health", ("127.0.0.1", free_port()), first.share().ok(), Router::new()).unwrap();
        assert_ne!(
            elsewhere.listener.local_addr().unwrap().port(),
            port,
            "a socket of another address is left"
        );
    }

    #[test]
    fn a_port_in_use_is_an_error_that_names_it() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = serve("health", ("127.0.0.1", port), None, Router::new()).err().unwrap().to_string();
        assert!(error.starts_with(&format!("health: cannot listen on 127.0.0.1:{port}")), "{error}");
    }
}
