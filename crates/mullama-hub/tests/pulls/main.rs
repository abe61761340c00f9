//! Pulls from a real server that misbehaves: every fault ends in the right file or in an error that says what is wrong,
//! and never spoils the next pull.

mod aliases;
mod answers;
mod cancel;
mod changes;
mod connections;
mod crashes;
#[cfg(unix)]
mod disk;
mod encryption;
#[cfg(unix)]
mod listing;
mod names;
mod program;
mod refusals;
mod removal;
mod resume;
mod secrets;
mod setup;
mod stores;
mod together;
