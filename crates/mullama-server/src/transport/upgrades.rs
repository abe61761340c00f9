//! Connections that leave HTTP: they still count as connections, and end with the server.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// What runs on a connection after HTTP.
type Successor = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Lets a request hand its connection to another protocol. It is an extension of each request.
#[derive(Clone)]
pub(crate) struct Upgrades {
    successor: Arc<Mutex<Option<Successor>>>,
    stopping: watch::Receiver<bool>,
}

impl Upgrades {
    pub(super) fn new(stopping: watch::Receiver<bool>) -> Self {
        Self { successor: Arc::default(), stopping }
    }

    /// Turns true when the server was asked to stop.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.clone()
    }

    /// Sets what runs once HTTP has ended on the connection.
    pub(crate) fn run(&self, successor: Successor) {
        *self.lock() = Some(successor);
    }

    pub(super) fn take(&self) -> Option<Successor> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Successor>> {
        self.successor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
