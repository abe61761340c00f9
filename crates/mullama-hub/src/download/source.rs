//! Where the bytes of a blob come from: its address, and the address that a redirect gave for it.
//!
//! Registries redirect to signed addresses that expire. The last one is used for all parts, and asked for again when it
//! no longer works.

use std::sync::Arc;

use tokio::sync::Mutex;
use url::Url;

use crate::http::{Answer, Ask, Http, Kind, RequestError};

/// Where the bytes of a blob come from.
#[derive(Debug)]
pub(super) struct Source {
    http: Arc<Http>,
    origin: Url,
    /// Where the origin redirected to. Held while the origin is asked, so that only one part asks it.
    redirected: Mutex<Option<Url>>,
}

impl Source {
    pub(super) fn new(http: Arc<Http>, origin: Url) -> Self {
        Self { http, origin, redirected: Mutex::new(None) }
    }

    /// Asks for a range, or for everything.
    pub(super) async fn get(
        &self,
        range: Option<(u64, Option<u64>)>,
        if_range: Option<&str>,
    ) -> Result<Answer, RequestError> {
        let ask = Ask { range, if_range, ..Ask::new(&self.origin) };
        let mut redirected = self.redirected.lock().await;
        let Some(url) = redirected.clone() else {
            let answer = self.http.get(&ask).await?;
            *redirected = (answer.url != self.origin).then(|| answer.url.clone());
            return Ok(answer);
        };
        drop(redirected);
        let result = self.http.get(&Ask { url: &url, ..ask }).await;
        match result {
            // These are answers about the content, or about the time to come back.
            Err(error) if matches!(error.kind, Kind::Range | Kind::Transient { after: Some(_) }) => Err(error),
            Err(error) => {
                self.forget(&url).await;
                // The origin may have another address, so this is not the end yet.
                Err(RequestError::transient(error.failure))
            }
            answer => answer,
        }
    }

    async fn forget(&self, url: &Url) {
        let mut redirected = self.redirected.lock().await;
        if redirected.as_ref() == Some(url) {
            *redirected = None;
        }
    }
}
