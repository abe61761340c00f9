//! Properties of the whole process: the CPU time of its idle threads, and its memory over many streams and contexts.
//!
//! Each test measures the whole process, so one test runs at a time, and this program contains no others.

#![cfg(target_os = "linux")]

mod forks;
mod idle;
mod memory;
mod support;
