//! The client of registries that speak Ollama's protocol: gets the manifest of a name, which lists its blobs.

use std::time::Duration;

use mullama::DownloadFailure;
use url::Url;

use crate::RegistryName;
use crate::http::{Ask, Http, Kind, RequestError, Tries, jittered, shown};
use crate::store::digest::Digest;
use crate::store::manifest::{MANIFEST_LEN_MOST, Manifest};

/// Tries of a small request. Without a network, the error comes within a second.
pub(crate) const SMALL_TRIES: u32 = 3;
/// The time limit of a small request.
const SMALL_LIMIT: Duration = Duration::from_mins(5);
const MANIFEST_TYPE: &str =
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";

/// A registry.
#[derive(Debug, Clone)]
pub(crate) struct Registry<'a> {
    http: &'a Http,
    base: Url,
}

/// Why a request got no usable answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// It does not exist on the server. The address goes into the list of what was tried.
    Missing { url: String, status: u16 },
    /// Any other failure.
    Failed(DownloadFailure),
}

impl<'a> Registry<'a> {
    /// The registry at `base`.
    pub(crate) const fn new(http: &'a Http, base: Url) -> Self {
        Self { http, base }
    }

    /// The manifest of a model, as the registry sent it.
    pub(crate) async fn manifest(&self, name: &RegistryName) -> Result<(Vec<u8>, Manifest), NoAnswer> {
        let url = self.manifest_address(name);
        let ask = Ask { accept: Some(MANIFEST_TYPE), ..Ask::new(&url) };
        let bytes = small(self.http, &ask, usize::try_from(MANIFEST_LEN_MOST).unwrap_or(usize::MAX)).await?;
        match Manifest::parse(&bytes) {
            Ok(manifest) => Ok((bytes, manifest)),
            Err(message) => Err(NoAnswer::Failed(DownloadFailure::Protocol { url: shown(&url), message })),
        }
    }

    /// The address of a manifest.
    pub(crate) fn manifest_address(&self, name: &RegistryName) -> Url {
        self.address(name, ["manifests", &name.tag])
    }

    /// The address of a blob.
    pub(crate) fn blob(&self, name: &RegistryName, digest: &Digest) -> Url {
        self.address(name, ["blobs", &digest.to_string()])
    }

    fn address(&self, name: &RegistryName, end: [&str; 2]) -> Url {
        extended(&self.base, ["v2", &name.namespace, &name.model].into_iter().chain(end))
    }
}

/// An address below `base`, with special characters of the segments escaped.
pub(crate) fn extended<'s>(base: &Url, segments: impl IntoIterator<Item = &'s str>) -> Url {
    let mut url = base.clone();
    url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(segments);
    url
}

/// The answer to a small request, of at most `limit` bytes.
pub(crate) async fn small(http: &Http, ask: &Ask<'_>, limit: usize) -> Result<Vec<u8>, NoAnswer> {
    let mut tries = Tries::new(SMALL_TRIES, 0);
    let answered = async {
        loop {
            let error = match http.get(ask).await {
                Ok(answer) => match answer.bytes(limit).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            match tries.failed(error.kind, 0) {
                Some(delay) => tokio::time::sleep(jittered(delay)).await,
                None => return Err(no_answer(error, &tries)),
            }
        }
    };
    let too_slow = || {
        let (url, seconds) = (shown(ask.url), SMALL_LIMIT.as_secs());
        let host = ask.url.host_str().unwrap_or_default();
        let message = format!("cannot get a complete answer from {host} within {seconds} s");
        NoAnswer::Failed(DownloadFailure::Network { url, message, tries: 1 })
    };
    tokio::time::timeout(SMALL_LIMIT, answered).await.unwrap_or_else(|_| Err(too_slow()))
}

fn no_answer(error: RequestError, tries: &Tries) -> NoAnswer {
    match (error.kind, error.failure) {
        (Kind::Missing, DownloadFailure::Status { url, status, .. }) => NoAnswer::Missing { url, status },
        (_, failure) => NoAnswer::Failed(tries.exhausted(failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_below_the_base_and_escaped() {
        let base = Url::parse("http://127.0.0.1:1/mirror/").unwrap();
        assert_eq!(extended(&base, ["v2", "a b", "c?d"]).as_str(), "http://127.0.0.1:1/mirror/v2/a%20b/c%3Fd");
        let base = Url::parse("https://registry.ollama.ai").unwrap();
        assert_eq!(extended(&base, ["v2", "x"]).as_str(), "https://registry.ollama.ai/v2/x");
    }
}
