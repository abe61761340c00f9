//! GGUF files of one repository in a folder on this machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{DEPTH_MOST, ENTRIES_MOST, Problems};
use crate::name::{is_file_path, is_repo_name};
use crate::quant::{self, NoChoice, RepoFile};
use crate::{HuggingFaceName, Unreadable};

/// The GGUF files of one repository, or of one revision of it, in a folder.
#[derive(Debug, Clone)]
pub(crate) struct LocalRepo {
    user: String,
    repo: String,
    folder: PathBuf,
    files: Vec<RepoFile>,
}

impl LocalRepo {
    /// Reads the folder; folders in it that are links are left out, for they could lead in a circle.
    pub(crate) fn read(user: &str, repo: &str, folder: PathBuf, problems: &Problems) -> Self {
        let mut files = Vec::new();
        walk(&folder, ("", 0), &mut files, problems);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { user: user.to_owned(), repo: repo.to_owned(), folder, files }
    }

    /// The file that a name of this repository stands for; the first of a split model.
    pub(crate) fn choose(&self, name: &HuggingFaceName) -> Result<PathBuf, NoChoice> {
        let chosen = match &name.file {
            Some(file) => quant::named(&self.files, file),
            None => quant::choose(&self.files, name.quant.as_deref()),
        };
        chosen.map(|files| self.folder.join(&files[0].path))
    }

    /// All models with their names, and the first file of each.
    pub(crate) fn models(&self) -> Vec<(String, PathBuf)> {
        let all = quant::candidates(&self.files);
        let complete = all.iter().filter(|candidate| candidate.is_complete());
        let model = |candidate: &quant::Candidate<'_>| {
            let path = self.folder.join(candidate.path());
            let alike = all.iter().filter(|other| other.label.quant == candidate.label.quant).count();
            (self.name_of(candidate.label.quant.as_deref().filter(|_| alike == 1), candidate.path(), &path), path)
        };
        complete.map(model).collect()
    }

    fn name_of(&self, quant: Option<&str>, file: &str, path: &Path) -> String {
        let is_name = is_repo_name(&self.user) && is_repo_name(&self.repo) && is_file_path(file);
        match quant {
            _ if !is_name => path.display().to_string(),
            Some(quant) => format!("hf.co/{}/{}:{quant}", self.user, self.repo),
            None => format!("hf.co/{}/{}/{file}", self.user, self.repo),
        }
    }
}

fn walk(folder: &Path, (prefix, depth): (&str, usize), files: &mut Vec<RepoFile>, problems: &Problems) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return,
        Err(error) => return problems.note(Unreadable::new(folder, error)),
    };
    for entry in entries.take(ENTRIES_MOST).flatten() {
        if files.len() >= ENTRIES_MOST {
            return;
        }
        let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else {
            continue;
        };
        let path = format!("{prefix}{name}");
        if kind.is_dir() && depth < DEPTH_MOST {
            walk(&entry.path(), (&format!("{path}/"), depth + 1), files, problems);
        } else if path.to_ascii_lowercase().ends_with(".gguf")
            && let Ok(found) = fs::metadata(entry.path())
            && found.is_file()
        {
            files.push(RepoFile { path, len: Some(found.len()), etag: None });
        }
    }
}
