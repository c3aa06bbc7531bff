//! A file that cannot be the embedded datastore gets a clear error, and is not changed.
//!
//! Some tests need root: they become another user, or mount things in a mount namespace of a child process.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use api::Key;
use datastore::{Scope, Sqlite, Store, StoreError};
use rustix::mount::{MountFlags, MountPropagationFlags};
use tempfile::TempDir;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    set_mode(folder.path(), 0o755);
    folder
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

/// A datastore with one row, closed.
fn datastore(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("tortie.db");
    let store = Sqlite::open(&path).expect("a new datastore");
    store.create(&Key::IpamConfig, "{}").expect("a new row");
    path
}

/// Every file below a folder, with its content.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).expect("a file")))
        .collect()
}

/// Asserts that the path is refused for good with these words, and that nothing beside it changes.
#[track_caller]
fn assert_refused(path: &Path, words: &[&str]) {
    let parent = path.parent().expect("a path in a folder");
    let before = parent.is_dir().then(|| contents(parent));
    let error = Sqlite::open(path).expect_err("it cannot be used");
    assert_words(&error, path, words);
    assert!(matches!(error, StoreError::Unavailable { temporary: false, .. }), "{error:?}");
    // Not assert_eq: nobody wants to read the bytes.
    assert!(
        parent.is_dir().then(|| contents(parent)) == before,
        "something was changed in {}",
        parent.display()
    );
}

#[track_caller]
fn assert_words(error: &StoreError, path: &Path, words: &[&str]) {
    let text = error.to_string();
    let name = path.display().to_string();
    for word in words.iter().copied().chain([name.as_str()]) {
        assert!(text.contains(word), "`{text}` does not say `{word}`");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let folder = folder();
    let path = folder.path().join("notes.txt");
    for content in ["short".to_owned(), "not a database\n".repeat(1000)] {
        fs::write(&path, content).expect("a new file");
        assert_refused(&path, &["not an SQLite database"]);
    }
}

#[test]
fn a_database_of_something_else_is_refused() {
    let folder = folder();
    let path = folder.path().join("other.db");
    let other = rusqlite::Connection::open(&path).expect("a new database");
    other.execute_batch("CREATE TABLE songs (title TEXT)").expect("a new table");
    drop(other);
    assert_refused(&path, &["not a datastore of Tortie"]);
}

#[test]
fn a_datastore_of_another_schema_version_is_refused() {
    let folder = folder();
    let path = datastore(&folder);
    for version in [2, 0] {
        let database = rusqlite::Connection::open(&path).expect("a database");
        database.pragma_update(None, "user_version", version).expect("a pragma");
        drop(database);
        assert_refused(&path, &[&format!("schema version {version}"), "knows only 1"]);
    }
}

#[test]
fn a_damaged_datastore_is_refused() {
    let folder = folder();
    let path = datastore(&folder);
    let mut content = fs::read(&path).expect("a file");
    content[100..].fill(0x5a);
    fs::write(&path, content).expect("our own file");
    assert_refused(&path, &["damaged"]);
}

#[test]
fn a_missing_folder_is_named() {
    let folder = folder();
    let missing = folder.path().join("no/such");
    assert_refused(&missing.join("tortie.db"), &[&missing.display().to_string(), "make it first"]);
    assert!(!missing.exists());
}

#[test]
fn a_folder_is_no_file() {
    let folder = folder();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).expect("a new folder");
    assert_refused(&inner, &["is a folder"]);
    let error = Sqlite::open("").expect_err("no name");
    assert!(error.to_string().contains("not the name of a file"), "{error}");
    let error = Sqlite::open("/dev/null").expect_err("a device");
    assert!(error.to_string().contains("not an ordinary file"), "{error}");
}

#[test]
fn an_empty_file_becomes_a_datastore() {
    let folder = folder();
    let path = folder.path().join("tortie.db");
    fs::write(&path, "").expect("a new file");
    let store = Sqlite::open(&path).expect("an empty file is as good as none");
    store.create(&Key::IpamConfig, "{}").expect("a new row");
    let mode = fs::metadata(&path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "only its owner may read it");
}

/// Runs `work` on a thread that is another user, without capabilities.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    require_root();
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("root may become anyone");
            work()
        });
        thread.join().expect("the work does not panic")
    })
}

#[track_caller]
fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: run it with sudo, or as root in a container"
    );
}

#[test]
fn wrong_permissions_are_named() {
    let folder = folder();
    let path = datastore(&folder);
    for mode in [0o444, 0o600, 0o000] {
        set_mode(folder.path(), 0o777);
        set_mode(&path, mode);
        let before = contents(folder.path());
        let error = as_nobody(|| Sqlite::open(&path)).expect_err("it is not for nobody");
        assert_words(&error, &path, &["it is read-only, or not to be read", "permissions"]);
        assert!(contents(folder.path()) == before, "something was changed");
    }
    set_mode(&path, 0o666);
    set_mode(folder.path(), 0o755);
    let error = as_nobody(|| Sqlite::open(&path)).expect_err("there is no room for a write-ahead log");
    assert_words(&error, &path, &["its folder is read-only", "permissions"]);
    set_mode(folder.path(), 0o777);
    as_nobody(|| Sqlite::open(&path)).expect("now it is for everyone");
}

/// Runs this same test again in a child with a mount namespace of its own, where [`is_child`] holds.
fn in_mount_namespace(test: &str) {
    require_root();
    let this = std::env::current_exe().expect("a test binary");
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(this)
        .args(["--exact", test, "--nocapture"])
        .env("TORTIE_TEST_CHILD", test)
        .output()
        .expect("unshare (util-linux) can be run");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "the child failed:\n{said}");
}

fn is_child(test: &str) -> bool {
    std::env::var("TORTIE_TEST_CHILD").is_ok_and(|name| name == test)
}

/// Mounts a small file system on a folder, in this mount namespace only.
fn mount_tmpfs(folder: &Path, size: &str) {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .expect("our own mount namespace");
    let options = std::ffi::CString::new(format!("size={size},mode=0755")).expect("no nul");
    rustix::mount::mount("tmpfs", folder, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
        .expect("tmpfs can be mounted");
}

#[test]
fn a_read_only_file_system_is_named() {
    if !is_child("a_read_only_file_system_is_named") {
        return in_mount_namespace("a_read_only_file_system_is_named");
    }
    let folder = folder();
    mount_tmpfs(folder.path(), "4m");
    let path = datastore(&folder);
    let read_only = MountFlags::RDONLY;
    rustix::mount::mount_remount(folder.path(), read_only, c"").expect("our own mount");
    assert_refused(&path, &["mounted read-only"]);
    assert_refused(&folder.path().join("new.db"), &["mounted read-only"]);
}

#[test]
fn a_full_disk_refuses_writes_and_keeps_what_was_written() {
    if !is_child("a_full_disk_refuses_writes_and_keeps_what_was_written") {
        return in_mount_namespace("a_full_disk_refuses_writes_and_keeps_what_was_written");
    }
    let folder = folder();
    mount_tmpfs(folder.path(), "1m");
    let filler = folder.path().join("filler");
    fs::write(&filler, vec![0; 300_000]).expect("there is room");
    let store = Sqlite::open(folder.path().join("tortie.db")).expect("there is room");
    let value = "v".repeat(5_000);
    let key = |n: usize| Key::Handle(format!("h{n:04}"));
    let (written, error) = (0..1_000)
        .find_map(|n| store.create(&key(n), &value).err().map(|error| (n, error)))
        .expect("a megabyte is full after that");
    assert!(written > 20, "there was room for more than {written} rows");
    assert_words(&error, store.path(), &["no space left"]);
    assert!(matches!(error, StoreError::Unavailable { temporary: true, .. }), "{error:?}");

    let listing = store.list(&Scope::Handles).expect("reading needs no room");
    assert_eq!(listing.entries.len(), written, "what was acknowledged, and nothing else");
    let full = Sqlite::open(folder.path().join("second.db")).expect_err("no room for another");
    assert_words(&full, &folder.path().join("second.db"), &["no space left"]);
    let left: Vec<_> =
        fs::read_dir(folder.path()).expect("ours").map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        left.iter().all(|name| name == "filler" || name.to_string_lossy().starts_with("tortie.db")),
        "{left:?}"
    );

    fs::remove_file(filler).expect("it is there");
    store.create(&key(written), &value).expect("there is room again");
    let reopened = Sqlite::open(store.path()).expect("it is sound");
    assert_eq!(reopened.list(&Scope::Handles).expect("sound").entries.len(), written + 1);
}

#[test]
fn a_file_that_was_removed_or_replaced_is_noticed() {
    let folder = folder();
    let path = datastore(&folder);
    let store = Sqlite::open(&path).expect("a datastore");
    let revision = store.list(&Scope::Handles).expect("a list").revision;
    let mut watch = store.watch(&[Scope::Handles], &revision).expect("a watch");
    fs::remove_file(&path).expect("it is there");
    let wait = std::time::Duration::from_secs(20);
    assert_words(&watch.next(wait).expect_err("the file is gone"), &path, &["was removed"]);
    assert_words(&store.get(&Key::IpamConfig).expect_err("the file is gone"), &path, &["was removed"]);
    assert!(store.create(&Key::Handle("h".into()), "{}").is_err(), "nobody would ever see it");

    fs::remove_file(folder.path().join("tortie.db-wal")).expect("it is there");
    fs::remove_file(folder.path().join("tortie.db-shm")).expect("it is there");
    let new = Sqlite::open(&path).expect("a new datastore in its place");
    new.create(&Key::IpamConfig, "new").expect("it is empty");
    assert_words(&store.get(&Key::IpamConfig).expect_err("another file"), &path, &["was replaced"]);
}

#[test]
fn many_that_open_a_new_file_at_once_share_it() {
    const OPENERS: usize = 12;
    for _ in 0..5 {
        let folder = folder();
        let path = folder.path().join("tortie.db");
        let barrier = std::sync::Barrier::new(OPENERS);
        std::thread::scope(|threads| {
            for n in 0..OPENERS {
                let (path, barrier) = (&path, &barrier);
                threads.spawn(move || {
                    barrier.wait();
                    let store = Sqlite::open(path).expect("whoever comes first makes it");
                    store.create(&Key::Handle(format!("h{n}")), "{}").expect("a new row");
                });
            }
        });
        let store = Sqlite::open(&path).expect("a datastore");
        assert_eq!(store.list(&Scope::Handles).expect("a list").entries.len(), OPENERS);
    }
}
