//! Reads store paths from binary caches made by hand: whole ones, broken ones, and ones that mean harm. Needs no Nix.

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bombs;
#[cfg(test)]
mod breaks;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod contract;
#[cfg(test)]
#[path = "../registry_push/nobody.rs"]
mod nobody;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod security;
#[cfg(test)]
mod server;
#[cfg(test)]
mod several;
#[cfg(test)]
mod signatures;
#[cfg(test)]
mod trees;
#[cfg(test)]
mod upcoming;
