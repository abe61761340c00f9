//! The interface of Hugging Face: what a repository holds, and its files.

use std::path::Path;

use serde_json::{Value, json};

use crate::Content;
use crate::answer::Answer;
use crate::request::Request;
use crate::server::Shared;
use crate::site::{Access, HUGGING_FACE_TOKEN, Repo};

/// Whether a file is kept in LFS, and so delivered by the CDN and named by its SHA-256.
pub(crate) fn is_lfs(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "gguf")
}

/// Answers a path below `/api/models/`, such as `user/repo/revision/main`.
pub(crate) fn api(shared: &Shared, request: &Request, path: &str) -> Answer {
    let mut parts = path.splitn(5, '/');
    let name = format!("{}/{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let repo = match open(shared, request, &name) {
        Ok(repo) => repo,
        Err(refusal) => return refusal,
    };
    let kind = parts.next();
    if !is_revision(&repo, parts.next().unwrap_or("main")) {
        return missing("RevisionNotFound", "Invalid rev id");
    }
    match kind {
        None | Some("revision") => Answer::json(200, &info(&name, &repo, request.query.contains("blobs=true"))),
        Some("tree") => tree(&repo, &decode(parts.next().unwrap_or_default()), request.query.contains("recursive=")),
        Some(_) => missing("EntryNotFound", "Not found"),
    }
}

fn info(name: &str, repo: &Repo, blobs: bool) -> Value {
    let siblings = repo.files.iter().map(|(path, content)| {
        let mut file = json!({"rfilename": path});
        if blobs {
            file["size"] = content.len().into();
            file["blobId"] = git_id(content).into();
        }
        if blobs && is_lfs(path) {
            file["lfs"] = json!({"sha256": content.sha256(), "size": content.len(), "pointerSize": 134});
        }
        file
    });
    let gated = if repo.access == Access::Gated { json!("manual") } else { json!(false) };
    json!({
        "_id": "loopback", "id": name, "modelId": name, "sha": repo.commit(), "private": repo.access == Access::Private,
        "gated": gated, "disabled": false, "tags": ["gguf"], "siblings": siblings.collect::<Vec<_>>(),
    })
}

fn tree(repo: &Repo, folder: &str, recursive: bool) -> Answer {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut entries: Vec<Value> = Vec::new();
    for (path, content) in repo.files.iter().filter(|(path, _)| path.starts_with(&prefix)) {
        match path[prefix.len()..].split_once('/') {
            Some((folder, _)) if !recursive => {
                let folder = format!("{prefix}{folder}");
                if !entries.iter().any(|entry| entry["path"] == folder) {
                    entries.push(json!({"type": "directory", "oid": "0".repeat(40), "size": 0, "path": folder}));
                }
            }
            _ => {
                let mut entry = json!({"type": "file", "oid": git_id(content), "size": content.len(), "path": path});
                if is_lfs(path) {
                    entry["lfs"] = json!({"oid": content.sha256(), "size": content.len(), "pointerSize": 134});
                }
                entries.push(entry);
            }
        }
    }
    if entries.is_empty() { missing("EntryNotFound", "Not found") } else { Answer::json(200, &json!(entries)) }
}

/// Answers `user/repo/resolve/revision/path`, if the path is of that kind.
pub(crate) fn resolve(shared: &Shared, request: &Request, path: &str) -> Option<Answer> {
    let mut parts = path.splitn(5, '/');
    let name = format!("{}/{}", parts.next()?, parts.next()?);
    let (kind, revision, file) = (parts.next()?, decode(parts.next()?), decode(parts.next()?));
    if kind != "resolve" {
        return None;
    }
    let repo = match open(shared, request, &name) {
        Ok(repo) => repo,
        Err(refusal) => return Some(refusal),
    };
    if !is_revision(&repo, &revision) {
        return Some(missing("RevisionNotFound", "Invalid rev id"));
    }
    let Some(content) = repo.files.get(&file) else { return Some(missing("EntryNotFound", "Entry not found")) };
    let commit = repo.commit();
    if !is_lfs(&file) {
        return Some(Answer::file(content.clone(), &git_id(content)).with("X-Repo-Commit", &commit));
    }
    let answer = shared.deliver(request, content.clone(), 302).with("X-Repo-Commit", &commit);
    let answer = answer.with("X-Linked-Size", &content.len().to_string());
    Some(answer.with("X-Linked-Etag", &format!("\"{}\"", content.sha256())))
}

fn open(shared: &Shared, request: &Request, name: &str) -> Result<Repo, Answer> {
    let repo = shared.state().site.repos.get(name).cloned();
    authorize(request, name, repo.as_ref())?;
    Ok(repo.expect("authorize refuses a repository that does not exist"))
}

/// Refuses those who may not read a repository. As on Hugging Face, who brings no token is not told what exists.
pub(crate) fn authorize(request: &Request, name: &str, repo: Option<&Repo>) -> Result<(), Answer> {
    let refuse = |status, code: &str, message: &str| {
        let answer = Answer::json(status, &json!({"error": message}));
        Err(answer.with("X-Error-Code", code).with("X-Error-Message", message))
    };
    let token = request.authorization.as_deref().map(|value| value.strip_prefix("Bearer ").unwrap_or_default());
    if token.is_some_and(|token| token != HUGGING_FACE_TOKEN) {
        return refuse(401, "", "Invalid credentials in Authorization header");
    }
    let gated = format!("Access to model {name} is restricted. Visit its page to ask for access.");
    match (repo.map(|repo| repo.access), token) {
        (Some(Access::Public), _) | (Some(Access::Private), Some(_)) => Ok(()),
        (Some(Access::Gated), None) => refuse(401, "GatedRepo", &gated),
        (Some(Access::Gated), Some(_)) => refuse(403, "GatedRepo", &gated),
        (_, None) => refuse(401, "RepoNotFound", "Invalid username or password."),
        (None, Some(_)) => refuse(404, "RepoNotFound", "Repository not found"),
    }
}

fn is_revision(repo: &Repo, revision: &str) -> bool {
    revision == "main" || revision == repo.commit()
}

fn missing(code: &str, message: &str) -> Answer {
    Answer::json(404, &json!({"error": message})).with("X-Error-Code", code).with("X-Error-Message", message)
}

/// What Git would call the file: 40 hexadecimal digits.
fn git_id(content: &Content) -> String {
    content.sha256()[..40].to_owned()
}

/// Decodes `%20` and the like.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten();
        let code =
            code.and_then(|code| std::str::from_utf8(code).ok()).and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
