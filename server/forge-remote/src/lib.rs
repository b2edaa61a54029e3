//! What forges have in common that are elsewhere: GitHub, Forgejo, GitLab.
//!
//! Whatever is done is done once, however often it is tried and wherever a try breaks off: [`wanted`] says how,
//! over the few things that a forge must be able to do, [`Site`]. What forges say is read in one shape, GitHub's:
//! [`shape`] says which, and makes facts of it. Whoever is asked too fast is not asked at all: see [`Pace`].
//!
//! Start with [`Site`] to write an adapter, and with [`Account`] where a token is all that it takes to ask.

pub mod wanted;
pub use wanted::{Wanted, perform};

mod report;
pub use report::report;

mod site;
pub use site::{People, Site, Which};

pub mod shape;

mod look;
pub use look::{below, offer, thing};

mod account;
pub use account::{Account, BuildError, Config, Own, Surroundings};

mod answer;
pub use answer::{Answer, MOST_REDIRECTS, Verb, escaped, escaped_path, is_token};

mod address;
pub use address::{check_address, path_at};

mod drafts;
pub use drafts::Drafts;

mod failure;
pub use failure::Failure;

mod pace;
pub use pace::Pace;
