//! Time and uniqueness, passed in so that tests can hold them still.

use domain::time::Timestamp;
use uuid::Uuid;

/// A clock that also draws unique numbers.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// A UUIDv7 (RFC 9562, 5.7) for the present moment; never the same twice, and growing.
    fn unique(&self) -> Uuid;
}
