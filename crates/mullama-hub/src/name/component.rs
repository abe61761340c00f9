//! What one component of a name may be, so that the paths made from it stay inside the store on every system.

/// The most bytes of a component.
const COMPONENT_LEN_MOST: usize = 80;
/// The most bytes of a repository's name on Hugging Face.
const REPO_LEN_MOST: usize = 96;
/// The most bytes of the path of a file in a repository.
const FILE_PATH_LEN_MOST: usize = 512;
/// The most folders and files in such a path.
const FILE_PATH_PARTS_MOST: usize = 16;

/// Why a component is refused.
pub(super) type Reason = &'static str;

/// Checks a namespace, model, tag or quantization.
pub(super) fn check(text: &str) -> Result<(), Reason> {
    check_text(text, COMPONENT_LEN_MOST, "a name with at most 80 characters in each part")
}

/// Whether this can be the user or the repository of a name on Hugging Face.
pub(crate) fn is_repo_name(text: &str) -> bool {
    check_text(text, REPO_LEN_MOST, "").is_ok() && !text.contains("--") && !text.ends_with('-')
}

fn check_text(text: &str, most: usize, too_long: Reason) -> Result<(), Reason> {
    if text.is_empty() {
        return Err("a name whose parts are not empty");
    }
    if text.len() > most {
        return Err(too_long);
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return Err("a name with only ASCII letters, digits, '.', '_' and '-' (and '/' and ':' between its parts)");
    }
    if text.starts_with(['.', '-']) || text.ends_with('.') || text.contains("..") {
        return Err("a name whose parts do not begin with '.' or '-', do not end with '.', and do not contain '..'");
    }
    if is_reserved(text) {
        return Err("a name without the device names of Windows, such as con, nul or com1");
    }
    Ok(())
}

/// Checks a host with an optional port, in lower case.
pub(super) fn check_host(text: &str) -> Result<(), Reason> {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_label = |label: &str| {
        let is_inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        !label.is_empty() && label.len() <= 63 && is_inner && !label.starts_with('-') && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(is_label) || is_reserved(host) {
        return Err("host/namespace/model:tag with a valid host");
    }
    let is_digits = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    match port {
        Some(port) if !is_digits(port) || port.parse::<u16>().is_ok_and(|port| port == 0) => {
            Err("host:port/namespace/model:tag with a port from 1 to 65535")
        }
        Some(port) if port.parse::<u16>().is_err() || port.starts_with('0') => {
            Err("host:port/namespace/model:tag with a port from 1 to 65535")
        }
        _ => Ok(()),
    }
}

/// Whether this can be the path of a file in a repository, joined with `/`: printable ASCII characters that every system
/// allows in file names.
pub(crate) fn is_file_path(path: &str) -> bool {
    let is_part = |part: &str| {
        let is_plain = part.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\\:*?\"<>|".contains(&byte));
        let has_edge = part.starts_with(' ') || part.ends_with([' ', '.']);
        !part.is_empty() && is_plain && !has_edge && part != ".." && !is_reserved(part)
    };
    path.len() <= FILE_PATH_LEN_MOST && path.split('/').count() <= FILE_PATH_PARTS_MOST && path.split('/').all(is_part)
}

/// Whether Windows reserves this name for a device, with any extension.
fn is_reserved(text: &str) -> bool {
    let stem = text.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    match stem.as_str() {
        "con" | "prn" | "aux" | "nul" | "conin$" | "conout$" => true,
        _ => match stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt")) {
            Some(number) => number.len() == 1 && number.bytes().all(|byte| byte.is_ascii_digit()),
            None => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{check, check_host, is_file_path, is_repo_name};

    #[test]
    fn parts_that_could_leave_a_folder_or_be_a_device_are_refused() {
        let long = "a".repeat(81);
        let bad =
            ["", ".", "..", "a..b", ".hidden", "-flag", "a.", "nul", "NUL.txt", "com1", "Lpt9.gguf", "a/b", "a\\b"];
        let odd = ["a b", "a\0", "é", "ａ", "a\u{202e}b", "a:b", "a%2e", &long];
        for text in bad.iter().chain(&odd) {
            assert!(check(text).is_err(), "{text:?}");
        }
        for text in ["a", "llama3.2", "1b", "Q4_K_M", "_x", "comet", "com10", "nulls", "8b-instruct-q4_0"] {
            check(text).unwrap();
        }
    }

    #[test]
    fn hosts_have_labels_and_ports() {
        for host in ["localhost", "localhost:5000", "a.example:443", "127.0.0.1:80"] {
            check_host(host).unwrap();
        }
        for host in ["", ":5", "a:", "a:0", "a:65536", "a:1:2", "a..b", "-a", "a-", "a_b", "nul", "a:080", "[::1]"] {
            assert!(check_host(host).is_err(), "{host:?}");
        }
    }

    #[test]
    fn a_file_of_a_repository_stays_in_its_folder() {
        for path in ["a.gguf", "Q4_K_M/model-00001-of-00002.gguf", "model (1).gguf", ".gitattributes", "a/b/c/d.gguf"] {
            assert!(is_file_path(path), "{path:?}");
        }
        let deep = "a/".repeat(16) + "b";
        for path in ["", "/a", "a//b", "../a", "a/../b", "a/.", "a\\b", "C:a", "a/nul", "a\n", "é.gguf", "a ", &deep] {
            assert!(!is_file_path(path), "{path:?}");
        }
    }

    #[test]
    fn a_repository_never_contains_what_separates_it_from_its_user_in_the_cache() {
        assert!(is_repo_name("Llama-3.2-1B_x.y"));
        assert!(!is_repo_name("a--b") && !is_repo_name("a-") && !is_repo_name("a/b") && !is_repo_name(&"a".repeat(97)));
    }
}
