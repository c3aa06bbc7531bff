//! Sockets and namespaces against the real kernel.

use kernel::netlink::{Errno, Message, Protocol, Socket, flags};
use kernel::netns::{self, Netns};
use testkit::{TestNamespace, require_root};

const RTM_GETLINK: u16 = 18;
const RTM_DELLINK: u16 = 17;
const RTM_NEWLINK: u16 = 16;

fn link_header(index: i32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

fn bridge(name: &str) -> Message {
    let mut message = Message::new(RTM_NEWLINK, flags::CREATE | flags::EXCLUSIVE);
    message.push(&link_header(0)).attribute(3, format!("{name}\0").as_bytes());
    message.nested(18, |info| {
        info.attribute(1, b"bridge");
    });
    message
}

fn socket_in(namespace: &TestNamespace) -> Socket {
    Socket::open_in(&Netns::open(namespace.path()).unwrap(), Protocol::Route).unwrap()
}

fn names(socket: &mut Socket) -> Vec<String> {
    let mut request = Message::new(RTM_GETLINK, flags::DUMP);
    request.push(&link_header(0));
    socket
        .dump(&request, "links", |reply| {
            kernel::netlink::attributes(&reply.payload[16..])
                .find(|found| found.kind == 3)
                .map(|found| found.string())
        })
        .unwrap()
}

#[test]
fn a_socket_stays_in_the_namespace_where_it_was_opened() {
    let namespace = TestNamespace::new();
    let mut socket = socket_in(&namespace);
    socket.acknowledge(&bridge("br-probe"), "link br-probe").unwrap();
    assert_eq!(names(&mut socket), ["lo", "br-probe"]);
}

#[test]
fn a_refusal_names_the_object_and_gives_the_kernels_reason() {
    let namespace = TestNamespace::new();
    let mut socket = socket_in(&namespace);
    let mut request = Message::new(RTM_DELLINK, 0);
    request.push(&link_header(4711));
    let error = socket.acknowledge(&request, "link number 4711").unwrap_err();
    assert!(error.is_absent());
    assert_eq!(error.errno(), Some(Errno::NODEV));
    assert!(error.to_string().starts_with("link number 4711: "), "{error}");
    let error = socket.acknowledge(&bridge("a-name-that-is-too-long"), "link x").unwrap_err();
    assert!(error.to_string().contains("policy validation"), "no text from the kernel: {error}");
}

#[test]
fn one_refused_message_of_a_batch_does_not_stop_the_others() {
    let namespace = TestNamespace::new();
    let mut socket = socket_in(&namespace);
    let messages: Vec<_> = (0..1200).map(|index| bridge(&format!("br{}", index % 3))).collect();
    let outcomes = socket.batch(&messages, "bridges").unwrap();
    assert_eq!(outcomes.len(), messages.len());
    assert!(outcomes[..3].iter().all(Result::is_ok));
    assert!(outcomes[3..].iter().all(|outcome| outcome.as_ref().unwrap_err().errno == Errno::EXIST));
    assert_eq!(names(&mut socket).len(), 4);
}

#[test]
fn code_runs_inside_a_namespace_and_its_panic_reaches_the_caller() {
    require_root();
    let (namespace, here) = (Netns::make().unwrap(), Netns::current().unwrap());
    assert_ne!(namespace, here);
    assert_eq!(namespace.run(|| Netns::current().unwrap()).unwrap(), namespace);
    assert_eq!(Netns::current().unwrap(), here);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| namespace.run(|| panic!("inside"))));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"inside"));
}

#[test]
fn a_named_namespace_lasts_until_its_name_is_removed() {
    require_root();
    let directory = std::env::temp_dir().join(format!("tortie-netns-{}", std::process::id()));
    let path = directory.join("node-1");
    let made = Netns::make_named(&path).unwrap();
    assert_eq!(Netns::open(&path).unwrap(), made);
    assert!(Netns::make_named(&path).unwrap_err().to_string().contains("node-1"));
    assert_eq!(Netns::open(&path).unwrap(), made, "a second attempt must not harm the first");
    assert!(netns::remove_directory(&directory).is_err(), "there is still a namespace in it");
    assert_eq!(Netns::open(&path).unwrap(), made, "nor must that");
    netns::remove_named(&path).unwrap();
    netns::remove_named(&path).unwrap();
    assert!(Netns::open(&path).unwrap_err().is_gone());
    netns::remove_directory(&directory).unwrap();
    assert!(!directory.exists());
}

#[test]
fn what_is_no_namespace_is_refused() {
    let error = Netns::open("/proc/self/status").unwrap_err();
    assert_eq!(error.to_string(), "/proc/self/status is not a network namespace");
    assert!(Netns::open("/nowhere").unwrap_err().is_gone());
}
