//! The HTTP client of the exporter: the one that downloads models, driven by the exporter's own thread.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, ResponseBodyTooLarge};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

/// Most bytes of a collector's answer.
const MOST_ANSWER_BYTES: usize = 1 << 20;

/// Sends requests on the thread that asks for them, which it blocks. The SDK's batch processor has a thread for that.
#[derive(Debug)]
pub(super) struct Client(reqwest::Client);

impl Client {
    /// # Errors
    /// If the certificates of the system cannot be read, for an endpoint that needs them.
    pub(super) fn new(is_encrypted: bool, is_local: bool, timeout: Duration) -> io::Result<Self> {
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(is_encrypted).map_err(io::Error::other)?)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // A connection belongs to the runtime of its request.
            .pool_max_idle_per_host(0)
            .timeout(timeout);
        let builder = if is_local { builder.no_proxy() } else { builder };
        builder.build().map(Self).map_err(io::Error::other)
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(self.exchange(request));
        // A look-up of a host's name that goes on is not waited for.
        runtime.shutdown_background();
        answer
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut answer = self.0.execute(request.try_into()?).await?;
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            *headers = std::mem::take(answer.headers_mut());
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MOST_ANSWER_BYTES {
                return Err(Box::new(ResponseBodyTooLarge::new()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(response.body(body.into())?)
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move { self.send(request) })
    }
}

/// TLS with ring that trusts what the system or `SSL_CERT_FILE` trusts; nothing, for an endpoint without TLS.
fn tls(is_encrypted: bool) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = if is_encrypted {
        config.with_platform_verifier()?
    } else {
        config.with_root_certificates(RootCertStore::empty())
    };
    Ok(config.with_no_client_auth())
}
