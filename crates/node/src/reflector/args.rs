//! The command line of `tortie reflector`.

use std::net::IpAddr;
use std::path::PathBuf;

use calc::bgp_plan::RouterIdSource;
use clap::Args;
use tracing::Level;

/// Run a BGP speaker alone, such as a route reflector: no workloads, no policy
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tortie reflector --node rr-1                            a node of the datastore that only reflects
  tortie reflector --file resources.yaml --node rr-1      the same from a file
  tortie reflector --file r.yaml --node a --listen 127.0.0.2 --port 1790 --socket /tmp/a.sock --fresh
  TORTIE_NODE_SOCKET=/tmp/a.sock calicoctl node status    its sessions

FILE has resources as calicoctl takes them, such as Node (this one has to be there), BGPPeer,
BGPConfiguration, BGPFilter, IPPool. It is read again when it changes and at SIGHUP; one that
cannot be used changes nothing. Without FILE the datastore is read: TORTIE_DATASTORE, or what
calicoctl's configuration says. A prefix that the node originates, if it lies in an IPPool:
  apiVersion: projectcalico.org/v3
  kind: BlockAffinity
  metadata: {name: rr-1-block}
  spec: {state: confirmed, node: rr-1, cidr: 10.65.0.0/26}

SIGTERM stops it. Peers keep its routes for the restart time, and the next start waits until all
peers have said what they have (30 s at most) before it tells anybody what it has learned. With
--fresh neither is so. TORTIE_LOG_FORMAT=json writes the log in JSON. Exit code 1: cannot start.")]
pub struct ReflectorArgs {
    /// The Node resource that says who this is
    #[arg(long, env = "NODENAME")]
    pub(crate) node: String,
    /// File of resources, instead of the datastore
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    /// Address to listen on, instead of what BGPConfiguration says; can be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Vec<IpAddr>,
    /// TCP port to listen on, instead of what BGPConfiguration says
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// BGP identifier: an IPv4 address, or hash (of the name); the node's IPv4 address if not given
    #[arg(long, value_name = "ID", value_parser = router_id, env = "CALICO_ROUTER_ID", default_value = "")]
    pub(crate) router_id: RouterIdSource,
    /// Unix socket for questions [default: /var/run/calico/reflector-NODE.sock]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Folder of BGP passwords: FOLDER/SECRET/KEY
    #[arg(long, value_name = "FOLDER", env = "TORTIE_SECRETS_DIR", default_value = crate::bgp::PASSWORDS)]
    pub(crate) secrets: PathBuf,
    /// Put routes into the kernel, with protocol 12 (bird), as a node does
    #[arg(long)]
    pub(crate) kernel: bool,
    /// Start as if for the first time, and let peers drop our routes at the stop
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Take the place of a reflector that runs with this socket: its sessions and sockets; it then ends
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Serve /liveness and /readiness here
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub(crate) health: Option<(String, u16)>,
    /// Serve /metrics here
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub(crate) metrics: Option<(String, u16)>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: Level,
}

impl ReflectorArgs {
    /// Where questions are answered.
    pub(crate) fn socket(&self) -> PathBuf {
        let default = || format!("/var/run/calico/reflector-{}.sock", self.node).into();
        self.socket.clone().unwrap_or_else(default)
    }
}

fn router_id(text: &str) -> Result<RouterIdSource, String> {
    match text {
        "" => Ok(RouterIdSource::NodeAddress),
        "hash" => Ok(RouterIdSource::NameHash),
        _ => text.parse().map(RouterIdSource::Literal).map_err(|_| "use hash or an IPv4 address".to_owned()),
    }
}

/// `HOST:PORT`; an IPv6 address in brackets.
fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parts.ok_or("use HOST:PORT, such as localhost:9099 or [::1]:9099")?;
    Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ReflectorArgs,
    }

    fn parse(text: &str) -> Result<ReflectorArgs, String> {
        let words = std::iter::once("reflector").chain(text.split_whitespace());
        Command::try_parse_from(words).map(|command| command.args).map_err(|error| error.to_string())
    }

    #[test]
    fn one_instance_of_several_is_told_apart_by_address_port_and_socket() {
        let args =
            parse("--node a --file r.yaml --listen 127.0.0.2 --listen ::1 --port 1790 --health [::1]:9099")
                .unwrap();
        assert_eq!((args.listen.len(), args.port), (2, Some(1790)));
        assert_eq!(args.socket(), PathBuf::from("/var/run/calico/reflector-a.sock"));
        assert_eq!(args.health, Some(("::1".to_owned(), 9099)));
        assert_eq!(args.router_id, RouterIdSource::NodeAddress);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_can() {
        for (text, expected) in [
            ("--node a --router-id magic", "use hash or an IPv4 address"),
            ("--node a --metrics 9091", "use HOST:PORT"),
            ("--node a --listen eth0", "invalid IP address"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
