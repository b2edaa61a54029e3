//! Everything about files, from the outside: fixtures through the check and through the published schemas,
//! the published documents, expressions, hostile input.

mod bless;
mod expressions;
mod fixtures;
mod formatting;
mod hostile;
mod published;
mod written;
