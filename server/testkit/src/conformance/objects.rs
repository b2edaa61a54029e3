//! What every [`Objects`] must do.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use ports::objects::{Objects, ObjectsError};

/// An empty place for objects, and whatever has to live as long as it does.
#[derive(Debug)]
pub struct Fresh {
    /// The place.
    pub objects: Arc<dyn Objects>,
    _kept: Box<dyn Any + Send>,
}

impl Fresh {
    /// A place that needs nothing else.
    pub fn new(objects: impl Objects + 'static) -> Self {
        Self::keeping(objects, ())
    }

    /// A place, and what it stands on: a temporary directory.
    pub fn keeping(objects: impl Objects + 'static, kept: impl Any + Send) -> Self {
        Self { objects: Arc::new(objects), _kept: Box::new(kept) }
    }
}

/// Makes one test of each behaviour; `$fresh` is an `async fn` that gives a [`Fresh`].
#[macro_export]
macro_rules! objects_conformance {
    ($fresh:ident) => {
        $crate::objects_conformance! { $fresh:
            what_is_put_is_read,
            a_part_is_read,
            what_was_never_put_is_not_there,
            the_same_key_again_replaces_the_object_whole,
            what_is_deleted_is_gone,
            a_key_that_is_no_safe_path_is_refused,
            a_key_below_another_is_another_object,
            a_reader_sees_one_object_or_the_other,
        }
    };
    ($fresh:ident: $($name:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            let fresh = $fresh().await;
            $crate::conformance::objects::$name(&*fresh.objects).await;
        }
    )+};
}

async fn put(objects: &dyn Objects, key: &str, bytes: &[u8]) {
    objects.put(key, Bytes::copy_from_slice(bytes)).await.expect("the object is stored");
}

async fn get(objects: &dyn Objects, key: &str, offset: u64, length: u64) -> Option<Bytes> {
    objects.get(key, offset, length).await.expect("the storage answers")
}

/// What is put is read, nothing and a megabyte too.
pub async fn what_is_put_is_read(objects: &dyn Objects) {
    for (key, bytes) in
        [("a", vec![]), ("runs/run_1/log.jsonl", b"one\n".to_vec()), ("b.bin", vec![7; 1 << 20])]
    {
        put(objects, key, &bytes).await;
        assert_eq!(get(objects, key, 0, u64::MAX).await.as_deref(), Some(&bytes[..]), "{key}");
    }
}

/// A part is read; a part past the end is empty.
pub async fn a_part_is_read(objects: &dyn Objects) {
    put(objects, "digits", b"0123456789").await;
    let cases: [(u64, u64, &[u8]); 7] = [
        (0, 4, b"0123"),
        (3, 4, b"3456"),
        (8, 40, b"89"),
        (10, 1, b""),
        (99, 1, b""),
        (u64::MAX, u64::MAX, b""),
        (2, 0, b""),
    ];
    for (offset, length, expect) in cases {
        assert_eq!(
            get(objects, "digits", offset, length).await.as_deref(),
            Some(expect),
            "{length} from {offset}"
        );
    }
}

/// What was never put is `None`, whichever part is asked for; a directory is no object.
pub async fn what_was_never_put_is_not_there(objects: &dyn Objects) {
    put(objects, "logs/one", b"1").await;
    for key in ["two", "logs/two", "logs", "logs/one/more"] {
        assert_eq!(get(objects, key, 0, 10).await, None, "{key}");
        assert_eq!(get(objects, key, 5, 0).await, None, "{key}");
        objects.delete(key).await.expect("there is nothing to remove");
    }
    assert_eq!(get(objects, "logs/one", 0, 10).await.as_deref(), Some(&b"1"[..]));
}

/// The same key again replaces the object whole, a longer one by a shorter one too.
pub async fn the_same_key_again_replaces_the_object_whole(objects: &dyn Objects) {
    put(objects, "log", b"a long one").await;
    put(objects, "log", b"short").await;
    assert_eq!(get(objects, "log", 0, 99).await.as_deref(), Some(&b"short"[..]));
}

/// What is deleted is gone; deleting nothing is fine.
pub async fn what_is_deleted_is_gone(objects: &dyn Objects) {
    put(objects, "log", b"1").await;
    for _ in 0..2 {
        objects.delete("log").await.expect("an object is removed, if there is one");
        assert_eq!(get(objects, "log", 0, 99).await, None);
    }
}

/// A key that is no safe path is refused by every method.
pub async fn a_key_that_is_no_safe_path_is_refused(objects: &dyn Objects) {
    let long = "a/".repeat(600) + "a";
    let keys = [
        "",
        "/",
        "/etc/passwd",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a/.hidden",
        "a b",
        "a\\b",
        "a\nb",
        "a\0b",
        "é",
        "a%2e%2e",
        "C:a",
        "a?b",
        "a#1",
        &long,
    ];
    for key in keys {
        let results = [
            objects.put(key, Bytes::new()).await.err(),
            objects.get(key, 0, 1).await.err(),
            objects.delete(key).await.err(),
        ];
        for result in results {
            assert!(matches!(result, Some(ObjectsError::Key(_))), "{key:?} gave {result:?}");
        }
    }
}

/// `a/b` and `a/c` and `a-b` are three objects.
pub async fn a_key_below_another_is_another_object(objects: &dyn Objects) {
    for key in ["a/b", "a/c", "a-b", "a_b", "A-B"] {
        put(objects, key, key.as_bytes()).await;
    }
    for key in ["a/b", "a/c", "a-b", "a_b", "A-B"] {
        assert_eq!(get(objects, key, 0, 99).await.as_deref(), Some(key.as_bytes()));
    }
}

/// Writers of the same key, and readers beside them, see one object whole or the other.
pub async fn a_reader_sees_one_object_or_the_other(objects: &dyn Objects) {
    put(objects, "log", &[b'0'; 50_000]).await;
    let writers = (b'1'..=b'9').map(|digit| async move { put(objects, "log", &[digit; 50_000]).await });
    let readers = (0..20).map(|_| async {
        let bytes = get(objects, "log", 0, u64::MAX).await.expect("there is always an object");
        assert!(bytes.len() == 50_000 && bytes.iter().all(|byte| *byte == bytes[0]), "a torn object");
    });
    futures::future::join(join_all(writers), join_all(readers)).await;
}
