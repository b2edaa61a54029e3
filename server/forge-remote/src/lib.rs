//! What forges have in common that are elsewhere: GitHub, Forgejo, GitLab.
//!
//! Whatever is done is done once, however often it is tried and wherever a try breaks off: [`wanted`] says how,
//! over the few things that a forge must be able to do, [`Site`]. What forges say is read in one shape, GitHub's:
//! [`shape`] says which, and makes facts of it. Whoever is asked too fast is not asked at all: see [`Pace`].
//!
//! Nothing here knows an address or opens a connection. Start with [`Site`] to write an adapter.

pub mod wanted;
pub use wanted::{Wanted, perform};

mod site;
pub use site::{People, Site, Which};

pub mod shape;

mod answer;
pub use answer::{Answer, MOST_REDIRECTS, Verb, escaped, escaped_path, is_token};

mod failure;
pub use failure::Failure;

mod pace;
pub use pace::Pace;
