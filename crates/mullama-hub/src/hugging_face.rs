//! The client of Hugging Face's API: gets the newest commit of a repository and its files, with the SHA-256 of each.

use mullama::DownloadFailure;
use serde::Deserialize;
use url::Url;

use crate::HuggingFaceName;
use crate::http::{Ask, Http, shown};
use crate::quant::RepoFile;
use crate::registry::{NoAnswer, extended, small};

/// The most bytes of the API's answer about a repository.
const ANSWER_LEN_MOST: usize = 16 << 20;
/// The most files of a repository.
const FILES_MOST: usize = 100_000;

/// Hugging Face or a mirror of it.
#[derive(Debug, Clone)]
pub(crate) struct HuggingFace<'a> {
    http: &'a Http,
    base: Url,
}

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision {
    /// The commit, in hexadecimal.
    pub(crate) commit: String,
    pub(crate) files: Vec<RepoFile>,
}

#[derive(Deserialize)]
struct ApiAnswer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    oid: Option<String>,
    size: Option<u64>,
}

impl<'a> HuggingFace<'a> {
    /// Hugging Face at `base`, with a token that is sent to this host only.
    pub(crate) fn new(http: &'a Http, base: Url, token: Option<&str>) -> Self {
        if let Some(token) = token {
            http.authorize(&base, token.to_owned());
        }
        Self { http, base }
    }

    /// The newest commit of the main branch.
    pub(crate) async fn revision(&self, name: &HuggingFaceName) -> Result<Revision, NoAnswer> {
        let mut url = extended(&self.base, ["api", "models", &name.user, &name.repo, "revision", "main"]);
        url.set_query(Some("blobs=true"));
        let bytes = small(self.http, &Ask::new(&url), ANSWER_LEN_MOST).await?;
        parse(&bytes).map_err(|message| NoAnswer::Failed(DownloadFailure::Protocol { url: shown(&url), message }))
    }

    /// The address of a file.
    pub(crate) fn file(&self, name: &HuggingFaceName, commit: &str, path: &str) -> Url {
        extended(&self.base, [&*name.user, &name.repo, "resolve", commit].into_iter().chain(path.split('/')))
    }

    /// What to do when access is refused, or when the repository does not seem to exist.
    pub(crate) fn advice(name: &HuggingFaceName, has_token: bool) -> String {
        let page = format!("https://huggingface.co/{}/{}", name.user, name.repo);
        if has_token {
            format!(
                "check the name; if {page} asks you to accept a licence, accept it there; otherwise the token (HF_TOKEN, or \
                 that of `hf auth login`) may not read this repository, or is not valid, which is refused for public \
                 models too"
            )
        } else {
            format!(
                "check the name; if {page} is private or asks you to accept a licence, accept it there and set HF_TOKEN to a \
                 token that may read it"
            )
        }
    }
}

/// Reads the API's answer.
fn parse(bytes: &[u8]) -> Result<Revision, String> {
    let answer: ApiAnswer = serde_json::from_slice(bytes).map_err(|error| {
        format!("the answer is not that of Hugging Face ({error}); a proxy or a login page may have answered instead")
    })?;
    if !(is_hex(&answer.sha) && answer.sha.len() <= 64) {
        return Err("the answer does not contain a valid commit; check HF_ENDPOINT if it is set".to_owned());
    }
    if answer.siblings.len() > FILES_MOST {
        return Err(format!("the repository has {} files, but must have at most {FILES_MOST}", answer.siblings.len()));
    }
    Ok(Revision { commit: answer.sha, files: answer.siblings.into_iter().map(RepoFile::from).collect() })
}

impl From<Sibling> for RepoFile {
    fn from(file: Sibling) -> Self {
        let lfs_len = file.lfs.as_ref().and_then(|lfs| lfs.size);
        let sha256 = file.lfs.and_then(|lfs| lfs.sha256.or(lfs.oid));
        Self { path: file.rfilename, len: lfs_len.or(file.size), etag: sha256.or(file.blob_id) }
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_the_api_is_read() {
        let (sha, commit) = ("ab".repeat(32), "cd".repeat(20));
        let answer = format!(
            r#"{{"id":"u/r","sha":"{commit}","siblings":[
                {{"rfilename":"README.md","size":3,"blobId":"12ef"}},
                {{"rfilename":"a/m.gguf","size":9,"blobId":"34","lfs":{{"sha256":"{sha}","size":9,"pointerSize":1}}}},
                {{"rfilename":"old.gguf"}}]}}"#
        );
        let file = |path: &str, len, etag: Option<&str>| RepoFile {
            path: path.to_owned(),
            len,
            etag: etag.map(str::to_owned),
        };
        let files = vec![
            file("README.md", Some(3), Some("12ef")),
            file("a/m.gguf", Some(9), Some(&sha)),
            file("old.gguf", None, None),
        ];
        assert_eq!(parse(answer.as_bytes()), Ok(Revision { commit, files }));
    }

    #[test]
    fn an_answer_that_does_not_describe_a_repository_is_refused() {
        for answer in ["", "[]", "{}", r#"{"sha":""}"#, r#"{"sha":"../x"}"#, r#"{"sha":"ab","siblings":3}"#] {
            assert!(parse(answer.as_bytes()).is_err(), "{answer}");
        }
    }

    #[test]
    fn the_segments_of_a_path_stay_segments() {
        let http = Http::new(std::time::Duration::from_secs(1));
        let hub = HuggingFace::new(&http, Url::parse("https://huggingface.co").unwrap(), None);
        let name = HuggingFaceName { user: "u".to_owned(), repo: "r".to_owned(), quant: None, file: None };
        let url = hub.file(&name, "abc", "Q4/a b#1.gguf");
        assert_eq!(url.as_str(), "https://huggingface.co/u/r/resolve/abc/Q4/a%20b%231.gguf");
    }
}
