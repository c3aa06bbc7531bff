//! Every engine passes the store suite.

mod memory {
    use datastore::Memory;
    use datastore::suite::Subject;

    fn subject() -> Subject {
        let memory = Memory::new();
        let compacted = memory.clone();
        Subject::new(memory.clone(), memory, move |up_to| compacted.compact(up_to))
    }

    datastore::store_suite!(subject);
}

mod sqlite {
    use datastore::Sqlite;
    use datastore::suite::Subject;

    fn subject() -> Subject {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("tortie.db");
        let store = Sqlite::open(&file).expect("a new datastore");
        let other = Sqlite::open(&file).expect("the same datastore");
        let compacting = store.clone();
        let compact = move |up_to: &_| compacting.compact(up_to).expect("history is compacted");
        Subject::new(store, other, compact).keeping(folder)
    }

    datastore::store_suite!(subject);
}

mod faultless {
    use datastore::suite::Subject;
    use datastore::{FaultStore, Memory, Outcome};

    fn subject() -> Subject {
        let memory = Memory::new();
        let store = FaultStore::new(memory.clone(), |_| Outcome::Go);
        Subject::new(store.clone(), store, move |up_to| memory.compact(up_to))
    }

    datastore::store_suite!(subject);
}
