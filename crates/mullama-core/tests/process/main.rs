//! What the process as a whole shows: the CPU time of its threads at rest, and its memory over many streams and contexts.
//!
//! Each test measures the whole process, so one runs at a time, and nothing else is in this program.

#![cfg(target_os = "linux")]

mod forks;
mod idle;
mod memory;
mod support;
