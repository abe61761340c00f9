//! Chooses a model among the files of a repository, by quantization.
//!
//! Files of GGUF models are named by people, in many ways: `model-Q4_K_M.gguf`, `Model.q4_k_m.gguf`,
//! `Q4_K_M/model-00001-of-00003.gguf`. Nothing but the names is known before a download.

mod label;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use label::{Label, split};

/// The quantization that is chosen if none was asked for.
const DEFAULT: &str = "Q4_K_M";
/// Most choices that an error lists.
const CHOICES_MOST: usize = 24;

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepoFile {
    /// Its path in the repository, with `/`.
    pub(crate) path: String,
    /// Its size in bytes, if it is known.
    pub(crate) len: Option<u64>,
    /// The name of its blob: the SHA-256 of a file in LFS, or its Git object id.
    pub(crate) etag: Option<String>,
}

/// Why no model could be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoChoice {
    /// What is in the repository, in one sentence without a full stop: an entry of the error's `tried`.
    pub(crate) found: String,
    /// What to do, in the same form.
    pub(crate) advice: String,
}

/// One model of a repository.
#[derive(Debug, Clone)]
pub(crate) struct Candidate<'a> {
    /// Its files, in their order.
    pub(crate) files: Vec<&'a RepoFile>,
    /// What its name says about it.
    pub(crate) label: Label,
    /// How many files it should have.
    parts: usize,
}

impl Candidate<'_> {
    /// Whether no part is missing.
    pub(crate) fn is_complete(&self) -> bool {
        self.files.len() == self.parts
    }

    /// The path of its first file.
    pub(crate) fn path(&self) -> &str {
        &self.files[0].path
    }
}

/// The files of the model with the quantization `wanted`, or of `Q4_K_M`, or the nearest that there is. The parts of a
/// split model are all returned, in their order.
pub(crate) fn choose<'a>(files: &'a [RepoFile], wanted: Option<&str>) -> Result<Vec<&'a RepoFile>, NoChoice> {
    let all = candidates(files);
    let complete = all.iter().filter(|candidate| candidate.is_complete()).collect::<Vec<_>>();
    if complete.is_empty() {
        return Err(nothing(&all));
    }
    let matching = if let Some(wanted) = wanted {
        matching(&complete, wanted)
    } else {
        let models = complete.iter().map(|candidate| &candidate.label.model).collect::<BTreeSet<_>>();
        if models.len() > 1 {
            return Err(ambiguous(&complete, "it has several models"));
        }
        let best = complete.iter().map(|candidate| candidate.label.distance()).min();
        complete.iter().copied().filter(|candidate| Some(candidate.label.distance()) == best).collect()
    };
    match &matching[..] {
        [one] => Ok(one.files.clone()),
        [] => Err(ambiguous(&complete, &format!("it has no {}", wanted.unwrap_or(DEFAULT)))),
        several => Err(ambiguous(several, "several of its files fit")),
    }
}

/// Those that `wanted` names: exactly, or without the prefix `UD-`, or by the name of the file.
fn matching<'b, 'a>(all: &[&'b Candidate<'a>], wanted: &str) -> Vec<&'b Candidate<'a>> {
    let of = |fits: &dyn Fn(&Candidate<'_>) -> bool| {
        all.iter().copied().filter(|candidate| fits(candidate)).collect::<Vec<_>>()
    };
    let wanted_label = Label::of(&format!("{wanted}.gguf"));
    let is_quant = wanted_label.is_only_quant();
    let named = of(&|candidate| candidate.label.stem.eq_ignore_ascii_case(wanted));
    let exact = of(&|candidate| is_quant && candidate.label.quant == wanted_label.quant);
    let alike = of(&|candidate| is_quant && candidate.label.plain_quant() == wanted_label.quant.as_deref());
    [named, exact, alike].into_iter().find(|found| !found.is_empty()).unwrap_or_default()
}

/// The file at `path` and, if it is a part of a split model, all its parts.
pub(crate) fn named<'a>(files: &'a [RepoFile], path: &str) -> Result<Vec<&'a RepoFile>, NoChoice> {
    if let Some(at) = files.iter().find(|file| file.path == path) {
        let Some((group, parts)) = label::split(&at.path) else {
            return Ok(vec![at]);
        };
        let mut all = files.iter().filter(|file| label::split(&file.path) == Some((group, parts))).collect::<Vec<_>>();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        if all.len() == parts {
            return Ok(all);
        }
        let found = format!("of the {parts} parts of {path} it has {}", all.len());
        return Err(NoChoice { found, advice: "choose another file of the repository".to_owned() });
    }
    let all = candidates(files);
    if all.is_empty() {
        Err(nothing(&all))
    } else {
        Err(ambiguous(&all.iter().collect::<Vec<_>>(), "it has no such file"))
    }
}

/// All models of a repository, with the parts of split ones together; what goes with a model is none.
pub(crate) fn candidates(files: &[RepoFile]) -> Vec<Candidate<'_>> {
    let mut groups = BTreeMap::<(&str, usize), Vec<&RepoFile>>::new();
    for file in files.iter().filter(|file| label::is_model(&file.path)) {
        groups.entry(label::split(&file.path).unwrap_or((&file.path, 1))).or_default().push(file);
    }
    let candidates = groups.into_iter().map(|((_, parts), mut files)| {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Candidate { label: Label::of(&files[0].path), parts, files }
    });
    candidates.collect()
}

fn nothing(incomplete: &[Candidate<'_>]) -> NoChoice {
    let found = match incomplete.first() {
        Some(first) => format!("of the {} parts of {} it has {}", first.parts, first.path(), first.files.len()),
        None => "it has no GGUF file of a model".to_owned(),
    };
    NoChoice { found, advice: "choose a repository with GGUF files; the names of many end in -GGUF".to_owned() }
}

/// Lists what can be asked for: quantizations, or names of files where a quantization is not enough.
fn ambiguous(all: &[&Candidate<'_>], why: &str) -> NoChoice {
    let quants = all.iter().filter_map(|candidate| candidate.label.quant.clone()).collect::<BTreeSet<_>>();
    let (mut choices, advice) = if quants.len() == all.len() {
        let first = quants.first().cloned().unwrap_or_default();
        (quants.into_iter().collect::<Vec<_>>(), format!("add one of them to the name, such as :{first}"))
    } else {
        let names = all.iter().map(|candidate| candidate.path().to_owned()).collect::<Vec<_>>();
        let advice = format!("name a file of the repository, such as /{} at the end", names[0]);
        (names, advice)
    };
    let more = choices.len().saturating_sub(CHOICES_MOST);
    choices.truncate(CHOICES_MOST);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    NoChoice { found: format!("{why}; there are {}{rest}", choices.join(", ")), advice }
}

#[cfg(test)]
mod tests;
