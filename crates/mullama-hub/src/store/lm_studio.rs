//! Model folders of LM Studio: `<publisher>/<repository>/<file>.gguf`. They are only read.

use std::path::{Path, PathBuf};

use super::files::{ENTRIES_MOST, Problems, names_in};
use super::repo_files::LocalRepo;

/// The repository in a folder of LM Studio, whose letters may differ in case; `None` if there is none.
pub(crate) fn find(root: &Path, user: &str, repo: &str, problems: &Problems) -> Option<LocalRepo> {
    let folder = child(&child(root, user)?, repo)?;
    Some(LocalRepo::read(user, repo, folder, problems))
}

fn child(folder: &Path, name: &str) -> Option<PathBuf> {
    let exact = folder.join(name);
    if exact.is_dir() {
        return Some(exact);
    }
    let alike = names_in(folder).into_iter().find(|found| found.eq_ignore_ascii_case(name))?;
    Some(folder.join(alike))
}

/// All repositories in a folder of LM Studio.
pub(crate) fn repos(root: &Path, problems: &Problems) -> Vec<LocalRepo> {
    let of_publisher = |publisher: String| {
        let repos = problems.names_in(&root.join(&publisher)).into_iter();
        repos.map(move |repo| (publisher.clone(), repo))
    };
    let all = problems.names_in(root).into_iter().flat_map(of_publisher).take(ENTRIES_MOST);
    let read = |(publisher, repo): (String, String)| {
        LocalRepo::read(&publisher, &repo, root.join(&publisher).join(&repo), problems)
    };
    all.map(read).collect()
}
