//! `/ws`: streams over a WebSocket, several at once, each with its own flow control.
//!
//! Flow: handshake → **session** → frames. The session polls a stream only while the socket takes its frames.

mod answers;
mod credit_waits;
mod credits;
mod frame;
mod handshake;
mod request;
mod requests;
mod session;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hyper_util::rt::TokioIo;

use crate::dialect::{openai, with_errors};
use crate::error::ApiError;
use crate::state::State;
use crate::telemetry;
use crate::transport::Upgrades;
pub(crate) use credit_waits::CreditWaits;
use session::Session;

/// The route of the WebSocket.
pub(crate) fn routes() -> Router<State> {
    with_errors(Router::new().route("/ws", any(upgrade)), openai::error_response)
}

/// Answers the handshake, and leaves the connection to a session. The guard has checked the key and the page's origin.
async fn upgrade(Shared(state): Shared<State>, mut request: Request) -> Result<Response, ApiError> {
    let accepted = handshake::accept(&request)?;
    let upgrades = request.extensions().get::<Upgrades>().cloned();
    let stopping = upgrades.as_ref().map(Upgrades::stopping);
    let connection = hyper::upgrade::on(&mut request);
    let session = Box::pin(telemetry::carried(async move {
        // Without an upgrade the client is gone.
        if let Ok(connection) = connection.await {
            Session::new(TokioIo::new(connection), state, stopping).await;
        }
    }));
    match upgrades {
        Some(upgrades) => upgrades.run(session),
        // In a program's own server, whose connections are not known here.
        None => drop(tokio::spawn(session)),
    }
    Ok(accepted.into_response())
}
