//! Parses names. They are tried as, in this order: `demo`, address, path, Hugging Face, registry.

use std::path::PathBuf;

use mullama::MullamaError;
use url::{Host, Url};

use super::component::{self, Reason, is_file_path, is_repo_name};
use super::{DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, HuggingFaceName, ModelName, RegistryName, bare_url};

/// The most bytes of a name or path; Linux has this limit for paths.
const NAME_LEN_MOST: usize = 4096;
/// The most characters of a name in an error.
const SHOWN_MOST: usize = 200;

/// Hosts that stand for Hugging Face.
const HUGGING_FACE_HOSTS: [&str; 4] = ["hf.co", "huggingface.co", "www.huggingface.co", "www.hf.co"];
/// Hosts that stand for the configured registry.
const OLLAMA_HOSTS: [&str; 4] = [DEFAULT_HOST, "ollama.com", "www.ollama.com", "ollama.ai"];

type Parsed = Result<ModelName, Reason>;

/// See [`ModelName::parse`].
pub(super) fn name(text: &str) -> Result<ModelName, MullamaError> {
    let refuse = |value: String, reason: Reason| {
        Err(MullamaError::InvalidConfig { field: "model", value, range: reason.to_owned() })
    };
    if text.len() > NAME_LEN_MOST {
        return refuse(format!("a text of {} bytes", text.len()), "at most 4096 bytes long");
    }
    parse(text).or_else(|reason| refuse(shown(text), reason))
}

/// A name as errors show it: in one line, not too long, and without the secrets that an address may contain.
pub(super) fn shown(text: &str) -> String {
    let public = match Url::parse(text) {
        Ok(url) if url.has_host() => bare_url(&url),
        _ if text.contains("://") => text.split(['?', '#']).next().unwrap_or_default().to_owned(),
        _ => text.to_owned(),
    };
    let public = match (public.find("://"), public.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &public[..scheme + 3], &public[at + 1..]),
        _ => public,
    };
    let mut line = public.chars().take(SHOWN_MOST).flat_map(char::escape_debug).collect::<String>();
    if public.chars().count() > SHOWN_MOST {
        line.push('…');
    }
    if line.is_empty() { "empty".to_owned() } else { line }
}

fn parse(text: &str) -> Parsed {
    if text.is_empty() {
        return Err("a name such as llama3.2:1b, hf.co/user/repo:Q4_K_M, or the path of a GGUF file");
    }
    if text.contains('\0') {
        return Err("a text without NUL characters");
    }
    if text == "demo" {
        return Ok(ModelName::Demo);
    }
    if let Some((scheme, rest)) = text.split_once("://")
        && scheme.bytes().all(|byte| byte.is_ascii_alphabetic())
    {
        return address(text, &scheme.to_ascii_lowercase(), rest);
    }
    if starts_like_path(text) {
        return Ok(ModelName::Path(PathBuf::from(text)));
    }
    let (first, rest) = text.split_once('/').unwrap_or((text, ""));
    let host = first.to_ascii_lowercase();
    if HUGGING_FACE_HOSTS.contains(&host.as_str()) {
        return hugging_face(rest);
    }
    if OLLAMA_HOSTS.contains(&host.as_str()) {
        return registry(rest, None);
    }
    if is_path(text) {
        return Ok(ModelName::Path(PathBuf::from(text)));
    }
    registry(text, Some(first))
}

/// Whether a text can only be a path.
fn starts_like_path(text: &str) -> bool {
    let has_drive = matches!(text.as_bytes(), [drive, b':', b'/' | b'\\', ..] if drive.is_ascii_alphabetic());
    text.starts_with(['/', '.', '~']) || text.contains('\\') || has_drive
}

/// Whether a text without a scheme and a known host is a path.
pub(super) fn is_path(text: &str) -> bool {
    starts_like_path(text) || is_gguf(text)
}

fn is_gguf(text: &str) -> bool {
    text.len() > 5 && text.as_bytes()[text.len() - 5..].eq_ignore_ascii_case(b".gguf")
}

/// Reads a text with a scheme.
fn address(text: &str, scheme: &str, rest: &str) -> Parsed {
    match scheme {
        "ollama" => registry(rest, rest.split('/').next()),
        "hf" | "huggingface" => hugging_face(rest),
        "http" | "https" => web_address(text),
        _ => Err("a name, a path, or an address that begins with https://, hf:// or ollama://"),
    }
}

fn web_address(text: &str) -> Parsed {
    let url = Url::parse(text).map_err(|_| "a valid address such as https://example.com/model.gguf")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an address without a user name and password");
    }
    let host = url.host_str().unwrap_or_default();
    if url.port().is_none()
        && HUGGING_FACE_HOSTS.contains(&host)
        && let Some(name) = hugging_face_page(&url)?
    {
        return Ok(name);
    }
    if url.port().is_none() && OLLAMA_HOSTS.contains(&host) {
        return registry(url.path().trim_matches('/'), None);
    }
    let is_loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    };
    if url.scheme() == "http" && !is_loopback {
        return Err("an address that begins with https:// (http:// works for loopback addresses only)");
    }
    if !is_gguf(url.path()) {
        return Err("the address of a file that ends in .gguf");
    }
    let mut url = url;
    url.set_fragment(None);
    Ok(ModelName::Url(url))
}

/// The name for the address of a page or file on Hugging Face; `None` for a file of another revision than `main`,
/// which is downloaded like any other address.
fn hugging_face_page(url: &Url) -> Result<Option<ModelName>, Reason> {
    let path = decode(url.path()).ok_or("an address with valid percent-encoding")?;
    let parts = path.trim_matches('/').split('/').collect::<Vec<_>>();
    let shown_file = url.query_pairs().find(|(key, _)| key == "show_file_info").map(|(_, file)| file.into_owned());
    match (&parts[..], shown_file) {
        ([user, repo] | [user, repo, "tree", "main"], Some(file)) => {
            hugging_face(&format!("{user}/{repo}/{file}")).map(Some)
        }
        ([user, repo] | [user, repo, "tree", "main"], None) => hugging_face(&format!("{user}/{repo}")).map(Some),
        ([_, _, "blob" | "resolve", "main", ..], _) => hugging_face(&parts.join("/")).map(Some),
        ([_, _, "resolve", ..], _) => Ok(None),
        ([_, _, "blob", ..], _) => {
            Err("the address of a file in the branch main, or one with /resolve/ instead of /blob/")
        }
        _ => Err("the address of a model or of a GGUF file"),
    }
}

/// Decodes `%41`; `None` if the result is not UTF-8.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Reads what follows `hf.co/`.
fn hugging_face(rest: &str) -> Parsed {
    let wanted = "hf.co/user/repo, optionally followed by :quantization or by a file such as /folder/file.gguf";
    let (user, rest) = rest.split_once('/').ok_or(wanted)?;
    let rest = rest.trim_end_matches('/');
    if let Some((repo, file)) = rest.split_once('/') {
        let mut file = file;
        while let Some(inner) = file.strip_prefix("blob/main/").or_else(|| file.strip_prefix("resolve/main/")) {
            file = inner;
        }
        return file_of(user, repo, file);
    }
    let (repo, quant) = rest.split_once(':').map_or((rest, None), |(repo, quant)| (repo, Some(quant)));
    if quant.is_some_and(is_gguf) {
        return file_of(user, repo, quant.unwrap_or_default());
    }
    if !is_repo_name(user) || !is_repo_name(repo) {
        return Err("hf.co/user/repo with a user and a repository that Hugging Face allows");
    }
    if let Some(quant) = quant {
        component::check(quant)?;
    }
    let quant = quant.filter(|quant| !quant.eq_ignore_ascii_case(DEFAULT_TAG)).map(str::to_owned);
    Ok(ModelName::HuggingFace(HuggingFaceName { user: user.to_owned(), repo: repo.to_owned(), quant, file: None }))
}

fn file_of(user: &str, repo: &str, file: &str) -> Parsed {
    if !is_repo_name(user) || !is_repo_name(repo) {
        return Err("hf.co/user/repo with a user and a repository that Hugging Face allows");
    }
    if !is_gguf(file) || !is_file_path(file) {
        return Err("hf.co/user/repo/file.gguf, with a file name of printable ASCII characters");
    }
    let (user, repo, file) = (user.to_owned(), repo.to_owned(), Some(file.to_owned()));
    Ok(ModelName::HuggingFace(HuggingFaceName { user, repo, quant: None, file }))
}

/// Reads `[[host/]namespace/]model[:tag]`; `host` is the first part where it may be a host.
fn registry(text: &str, host: Option<&str>) -> Parsed {
    let parts = text.split('/').collect::<Vec<_>>();
    let (host, namespace, last) = match (&parts[..], host) {
        ([model], _) => (None, DEFAULT_NAMESPACE, *model),
        ([first, _], Some(_)) if first.contains([':', '.']) => {
            return Err("host/namespace/model:tag (the namespace may be \"library\")");
        }
        ([namespace, model], _) => (None, *namespace, *model),
        ([host, namespace, model], Some(_)) => (Some(host.to_ascii_lowercase()), *namespace, *model),
        _ => return Err("model:tag, namespace/model:tag or host/namespace/model:tag"),
    };
    let (model, tag) = last.split_once(':').unwrap_or((last, DEFAULT_TAG));
    for part in [namespace, model, tag] {
        component::check(part)?;
    }
    if is_gguf(last) {
        return Err("a name that does not end in .gguf, or the path of a file that exists");
    }
    match host.as_deref() {
        Some(host) if HUGGING_FACE_HOSTS.contains(&host) => {
            return hugging_face(&format!("{namespace}/{last}"));
        }
        Some(host) if !OLLAMA_HOSTS.contains(&host) => component::check_host(host)?,
        // A dot would make it a host when the name is read again.
        _ if namespace.contains('.') => return Err("a name whose namespace has no dots"),
        _ => {}
    }
    let host = host.filter(|host| !OLLAMA_HOSTS.contains(&host.as_str()));
    let (namespace, model, tag) = (namespace.to_owned(), model.to_owned(), tag.to_owned());
    Ok(ModelName::Registry(RegistryName { host, namespace, model, tag }))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
