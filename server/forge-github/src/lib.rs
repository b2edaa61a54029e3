//! `ports::forge` for GitHub, github.com and Enterprise.

pub mod shape;
