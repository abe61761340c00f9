//! The registry protocol of Ollama, which is that of Docker: manifests, blobs, and tokens.

use serde_json::json;

use crate::Content;
use crate::answer::Answer;
use crate::hugging_face;
use crate::request::Request;
use crate::server::Shared;
use crate::site::{Layer, RegistryModel, Repo};

/// Answers a path below `/v2/`, such as `library/tiny/manifests/latest`.
pub(crate) fn answer(shared: &Shared, request: &Request, path: &str) -> Answer {
    let parts: Vec<&str> = path.split('/').collect();
    let [namespace, model, kind @ ("manifests" | "blobs"), reference] = parts[..] else {
        return if path.is_empty() { Answer::json(200, &json!({})) } else { unknown("NAME_UNKNOWN", path) };
    };
    let name = format!("{namespace}/{model}");
    let candidates = match models(shared, request, &name, (kind == "manifests").then_some(reference)) {
        Ok(models) => models,
        Err(refusal) => return refusal,
    };
    if candidates.iter().any(|model| model.token) && !shared.has_token(request) {
        return challenge(shared, &name);
    }
    if kind == "manifests" {
        let Some(model) = candidates.first() else { return unknown("MANIFEST_UNKNOWN", path) };
        return Answer::text(200, "application/vnd.docker.distribution.manifest.v2+json", model.manifest());
    }
    let digest = reference.strip_prefix("sha256:").unwrap_or_default();
    let mut contents = candidates.iter().flat_map(|model| {
        let layers = model.layers.iter().map(|layer| layer.content.clone());
        layers.chain([RegistryModel::config()]).collect::<Vec<Content>>()
    });
    match contents.find(|content| content.sha256() == digest) {
        Some(content) => shared.deliver(request, content, 307),
        None => unknown("BLOB_UNKNOWN", path),
    }
}

/// The models of a name, in the order of their tags; only that of the `tag` if there is one.
fn models(shared: &Shared, request: &Request, name: &str, tag: Option<&str>) -> Result<Vec<RegistryModel>, Answer> {
    let mut state = shared.state();
    if let Some(repo) = state.site.repos.get(name).cloned() {
        drop(state);
        hugging_face::authorize(request, name, Some(&repo))?;
        return Ok(of_repo(&repo, tag));
    }
    if name == "library/sized" {
        let sizes = match tag {
            Some(tag) => tag.parse().into_iter().collect(),
            None => state.site.sized.keys().copied().collect::<Vec<u64>>(),
        };
        return Ok(sizes.into_iter().filter_map(|len| state.site.sized(len)).map(RegistryModel::new).collect());
    }
    let models = state.site.models.iter().filter(|(known, _)| match (known.split_once(':'), tag) {
        (Some((known, known_tag)), Some(tag)) => known == name && known_tag == tag,
        (Some((known, _)), None) => known == name,
        _ => false,
    });
    Ok(models.map(|(_, model)| model.clone()).collect())
}

/// A repository of Hugging Face as the models of a registry: one for each GGUF file, whose tag is its quantization.
fn of_repo(repo: &Repo, tag: Option<&str>) -> Vec<RegistryModel> {
    let wanted = match tag {
        Some("latest") => "q4_k_m".to_owned(),
        Some(tag) => tag.to_ascii_lowercase(),
        None => String::new(),
    };
    let files = repo.files.iter().filter(|(path, _)| hugging_face::is_lfs(path));
    let files = files.filter(|(path, _)| path.to_ascii_lowercase().contains(&wanted));
    files
        .map(|(_, content)| RegistryModel { layers: vec![Layer::new("model", content.clone())], token: false })
        .collect()
}

fn unknown(code: &str, what: &str) -> Answer {
    Answer::json(404, &json!({"errors": [{"code": code, "message": format!("unknown: {what}")}]}))
}

fn challenge(shared: &Shared, name: &str) -> Answer {
    let realm = format!("{}/token", shared.url());
    let value = format!("Bearer realm=\"{realm}\",service=\"loopback\",scope=\"repository:{name}:pull\"");
    let body = json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]});
    Answer::json(401, &body).with("WWW-Authenticate", &value)
}

/// Answers the token endpoint, which gives everybody a new token for the scope that is asked for.
pub(crate) fn token(shared: &Shared, request: &Request) -> Answer {
    if !request.query.contains("scope=repository") {
        return Answer::json(400, &json!({"details": "a scope is missing"}));
    }
    let token = shared.state().new_token();
    Answer::json(200, &json!({"token": token, "access_token": token, "expires_in": 300}))
}

/// The digest that the manifest of a registry promises for a model's file: what the path of its blob ends in.
pub fn blob_path(name: &str, content: &Content) -> String {
    format!("/v2/{name}/blobs/sha256:{}", content.sha256())
}
