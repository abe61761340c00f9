//! Where a hub looks, and whom it asks.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mullama::MullamaError;
use url::{Host, Url};

/// The longest token that is read from a file, in bytes.
const TOKEN_LEN_MOST: u64 = 4096;
/// The limit on a server's silence that a configuration has by default.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// Where a hub looks for models, and whom it asks for those that are missing.
#[derive(Clone)]
pub struct HubConfig {
    /// The store of mullama (`MULLAMA_MODELS`; default: `mullama/models` in the platform's data folder).
    pub store: PathBuf,
    /// The registry of names without a host (`MULLAMA_OLLAMA_REGISTRY`; default `https://registry.ollama.ai`).
    pub registry: Url,
    /// Hugging Face or a mirror of it (`HF_ENDPOINT`; default `https://huggingface.co`).
    pub hugging_face: Url,
    /// The shared cache of Hugging Face (`HF_HUB_CACHE`, or `hub` in `HF_HOME`; default `~/.cache/huggingface/hub`).
    pub hugging_face_cache: PathBuf,
    /// The token for Hugging Face (`HF_TOKEN`, or the file at `HF_TOKEN_PATH`, or `token` in `HF_HOME`).
    pub hugging_face_token: Option<String>,
    /// Stores of Ollama (`OLLAMA_MODELS`, `~/.ollama/models`, `/usr/share/ollama/.ollama/models`).
    pub ollama_stores: Vec<PathBuf>,
    /// Model folders of LM Studio (`~/.lmstudio/models`, `~/.cache/lm-studio/models`).
    pub lm_studio_folders: Vec<PathBuf>,
    /// What turned downloads off, if something did, such as `MULLAMA_OFFLINE=1` or `HF_HUB_OFFLINE=1`.
    pub offline: Option<String>,
    /// The `demo` model, if this program carries one.
    pub demo: Option<PathBuf>,
    /// How long a server may send nothing before the connection is given up; default 30 seconds.
    pub stall_limit: Duration,
}

impl HubConfig {
    /// The configuration that the environment asks for. An empty variable counts as one that is not set.
    ///
    /// # Errors
    ///
    /// [`MullamaError::InvalidConfig`] names the variable whose value cannot be used.
    pub fn from_env() -> Result<Self, MullamaError> {
        Self::from_variables(&|name| std::env::var_os(name))
    }

    /// The configuration that the variables ask for which `variable` returns.
    fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, MullamaError> {
        let variables = Variables { read: variable, home: std::env::home_dir() };
        let hf_home = variables.hf_home();
        let hugging_face_cache = variables.folder("HF_HUB_CACHE")?.or(variables.folder("HUGGINGFACE_HUB_CACHE")?);
        Ok(Self {
            store: variables.store()?,
            registry: variables.address("MULLAMA_OLLAMA_REGISTRY", "https://registry.ollama.ai")?,
            hugging_face: variables.address("HF_ENDPOINT", "https://huggingface.co")?,
            hugging_face_cache: hugging_face_cache.unwrap_or_else(|| hf_home.join("hub")),
            hugging_face_token: variables.token(&hf_home)?,
            ollama_stores: variables.ollama_stores()?,
            lm_studio_folders: variables.in_home(&[".lmstudio/models", ".cache/lm-studio/models"]),
            offline: variables.offline(),
            demo: None,
            stall_limit: STALL_LIMIT,
        })
    }

    /// Refuses values that cannot be used.
    pub(crate) fn validate(&self) -> Result<(), MullamaError> {
        check_address("registry", &self.registry)?;
        check_address("hugging_face", &self.hugging_face)?;
        for (field, path) in [("store", &self.store), ("hugging_face_cache", &self.hugging_face_cache)] {
            if !path.is_absolute() {
                return Err(invalid(field, path.display().to_string(), "an absolute path"));
            }
        }
        if let Some(token) = &self.hugging_face_token {
            check_token("hugging_face_token", token)?;
        }
        if self.stall_limit.is_zero() || self.stall_limit > Duration::from_hours(24) {
            let value = format!("{} seconds", self.stall_limit.as_secs());
            return Err(invalid("stall_limit", value, "above 0 and at most 86400 seconds"));
        }
        Ok(())
    }
}

impl fmt::Debug for HubConfig {
    /// All but the token, of which it only shows whether there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("HubConfig");
        shown.field("store", &self.store);
        shown.field("registry", &crate::name::bare_url(&self.registry));
        shown.field("hugging_face", &crate::name::bare_url(&self.hugging_face));
        shown.field("hugging_face_cache", &self.hugging_face_cache);
        shown.field("hugging_face_token", &self.hugging_face_token.as_ref().map(|_| "(hidden)"));
        shown.field("ollama_stores", &self.ollama_stores);
        shown.field("lm_studio_folders", &self.lm_studio_folders);
        shown.field("offline", &self.offline).field("demo", &self.demo);
        shown.field("stall_limit", &self.stall_limit).finish()
    }
}

/// The environment and the folders of the user.
struct Variables<'a> {
    read: &'a dyn Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
}

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<OsString> {
        (self.read)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, MullamaError> {
        let not_text = |value: OsString| invalid(name, value.to_string_lossy().into_owned(), "valid UTF-8");
        self.get(name).map(OsString::into_string).transpose().map_err(not_text)
    }

    /// The folder that a variable names; `~` is the home folder.
    fn folder(&self, name: &'static str) -> Result<Option<PathBuf>, MullamaError> {
        let Some(path) = self.get(name).map(PathBuf::from) else {
            return Ok(None);
        };
        let path = self.expand(path);
        match std::path::absolute(&path) {
            Ok(path) => Ok(Some(path)),
            Err(_) => Err(invalid(name, path.display().to_string(), "the path of a folder")),
        }
    }

    fn expand(&self, path: PathBuf) -> PathBuf {
        match (path.strip_prefix("~"), self.home_folder()) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path,
        }
    }

    /// The home folder: `HOME` wins over what the system says, as in other programs.
    fn home_folder(&self) -> Option<PathBuf> {
        let of_variable = self.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        of_variable.or_else(|| self.home.clone())
    }

    fn in_home(&self, folders: &[&str]) -> Vec<PathBuf> {
        self.home_folder().iter().flat_map(|home| folders.iter().map(|folder| home.join(folder))).collect()
    }

    fn store(&self) -> Result<PathBuf, MullamaError> {
        if let Some(store) = self.folder("MULLAMA_MODELS")? {
            return Ok(store);
        }
        let data = if cfg!(windows) {
            self.get("LOCALAPPDATA").map(PathBuf::from)
        } else if cfg!(target_os = "macos") {
            self.home_folder().map(|home| home.join("Library").join("Application Support"))
        } else {
            let of_variable = self.get("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
            of_variable.or_else(|| Some(self.home_folder()?.join(".local/share")))
        };
        let none = || invalid("MULLAMA_MODELS", "not set".to_owned(), "set, because this user has no home folder");
        data.map(|data| data.join("mullama").join("models")).ok_or_else(none)
    }

    fn hf_home(&self) -> PathBuf {
        let in_cache = |cache: PathBuf| cache.join("huggingface");
        let of_variable = self.get("HF_HOME").map(PathBuf::from).map(|path| self.expand(path));
        let of_cache = || self.get("XDG_CACHE_HOME").map(PathBuf::from).map(in_cache);
        let of_home = || self.home_folder().map(|home| in_cache(home.join(".cache")));
        let home = of_variable.or_else(of_cache).or_else(of_home).unwrap_or_else(|| PathBuf::from("/nonexistent"));
        std::path::absolute(&home).unwrap_or(home)
    }

    fn ollama_stores(&self) -> Result<Vec<PathBuf>, MullamaError> {
        let mut stores = self.folder("OLLAMA_MODELS")?.into_iter().collect::<Vec<_>>();
        stores.extend(self.in_home(&[".ollama/models"]));
        if cfg!(unix) {
            stores.push(PathBuf::from("/usr/share/ollama/.ollama/models"));
        }
        let mut seen = std::collections::HashSet::new();
        stores.retain(|store| seen.insert(store.clone()));
        Ok(stores)
    }

    fn address(&self, name: &'static str, default: &str) -> Result<Url, MullamaError> {
        let text = self.text(name)?;
        let text = text.as_deref().unwrap_or(default).trim_end_matches('/');
        // What cannot be read may contain a password, so it is not shown.
        let unreadable = |_| invalid(name, "not an address".to_owned(), "an address such as https://example.com");
        let url = Url::parse(text).map_err(unreadable)?;
        check_address(name, &url)?;
        Ok(url)
    }

    fn token(&self, hf_home: &Path) -> Result<Option<String>, MullamaError> {
        let of_variable = self.text("HF_TOKEN")?.or(self.text("HUGGING_FACE_HUB_TOKEN")?);
        if let Some(token) = of_variable.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()) {
            check_token("HF_TOKEN", &token)?;
            return Ok(Some(token));
        }
        let path = self.folder("HF_TOKEN_PATH")?.unwrap_or_else(|| hf_home.join("token"));
        let Some(token) =
            crate::store::files::read_small(&path, TOKEN_LEN_MOST).ok().and_then(|bytes| String::from_utf8(bytes).ok())
        else {
            return Ok(None);
        };
        let token = token.trim().to_owned();
        if token.is_empty() {
            return Ok(None);
        }
        check_token("HF_TOKEN_PATH", &token)?;
        Ok(Some(token))
    }

    fn offline(&self) -> Option<String> {
        ["MULLAMA_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find_map(|name| {
            let value = self.get(name)?.to_string_lossy().into_owned();
            // Who sets it to anything else does not want to be online.
            let is_off = ["", "0", "off", "false", "no"].contains(&value.trim().to_ascii_lowercase().as_str());
            (!is_off).then(|| format!("{name}={value}"))
        })
    }
}

fn invalid(field: &'static str, value: String, range: &str) -> MullamaError {
    MullamaError::InvalidConfig { field, value, range: range.to_owned() }
}

/// Checks a base address: its scheme, and that it contains no secret that would end up in messages.
fn check_address(field: &'static str, url: &Url) -> Result<(), MullamaError> {
    let is_web = matches!(url.scheme(), "http" | "https") && url.host().is_some_and(|host| host != Host::Domain(""));
    if !is_web {
        return Err(invalid(field, format!("an address with the scheme {}", url.scheme()), "http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        let range = "an address without a user, a password, a query and a fragment";
        return Err(invalid(field, crate::name::bare_url(url), range));
    }
    Ok(())
}

/// A token must fit into one line of a request. It is never shown.
fn check_token(field: &'static str, token: &str) -> Result<(), MullamaError> {
    let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain && token.len() as u64 <= TOKEN_LEN_MOST {
        return Ok(());
    }
    let value = format!("a text of {} bytes (hidden)", token.len());
    Err(invalid(field, value, "at most 4096 ASCII characters without spaces"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::ffi::OsString;
    use std::path::PathBuf;

    use mullama::MullamaError;

    use super::HubConfig;

    fn of(variables: &[(&str, &str)]) -> Result<HubConfig, MullamaError> {
        let variables = variables.iter().copied().collect::<HashMap<_, _>>();
        HubConfig::from_variables(&|name| variables.get(name).map(OsString::from))
    }

    #[test]
    fn without_variables_the_places_of_each_program_are_used() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| home.path().join(path);
        let config = of(&[("HOME", home.path().to_str().unwrap()), ("HF_HUB_OFFLINE", "0")]).unwrap();
        config.validate().unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(config.store, at(".local/share/mullama/models"));
        }
        assert_eq!(config.hugging_face_cache, at(".cache/huggingface/hub"));
        assert_eq!(config.ollama_stores[0], at(".ollama/models"));
        assert_eq!(config.lm_studio_folders, [at(".lmstudio/models"), at(".cache/lm-studio/models")]);
        assert_eq!(config.registry.as_str(), "https://registry.ollama.ai/");
        assert_eq!((config.offline, config.hugging_face_token, config.demo), (None, None, None));
    }

    #[test]
    fn variables_win_and_a_token_comes_from_its_file() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_secret\n").unwrap();
        let config = of(&[
            ("HOME", "/home/x"),
            ("HF_HOME", home.path().to_str().unwrap()),
            ("MULLAMA_MODELS", "~/models"),
            ("OLLAMA_MODELS", "/srv/ollama"),
            ("MULLAMA_OLLAMA_REGISTRY", "http://127.0.0.1:5000/base/"),
            ("HF_HUB_OFFLINE", "True"),
        ])
        .unwrap();
        assert_eq!(config.store, PathBuf::from("/home/x/models"));
        assert_eq!(config.ollama_stores[0], PathBuf::from("/srv/ollama"));
        assert_eq!(config.registry.as_str(), "http://127.0.0.1:5000/base");
        assert_eq!(config.offline.as_deref(), Some("HF_HUB_OFFLINE=True"));
        assert_eq!(config.hugging_face_token.as_deref(), Some("hf_secret"));
        assert!(!format!("{config:?}").contains("hf_secret"));
    }

    #[test]
    fn downloads_are_turned_off_by_any_word_that_does_not_say_no() {
        for (value, is_off) in [("1", true), ("2", true), ("banana", true), ("0", false), ("No", false), ("", false)] {
            let config = of(&[("HOME", "/home/x"), ("MULLAMA_OFFLINE", value)]).unwrap();
            assert_eq!(config.offline.is_some(), is_off, "{value:?}");
        }
    }

    #[test]
    fn an_unusable_value_names_its_variable_and_no_secret() {
        let long = "x".repeat(5000);
        for (variable, value) in [
            ("HF_ENDPOINT", "not an address"),
            ("HF_ENDPOINT", "https://me:hunter2@example.com"),
            ("HF_ENDPOINT", "https://me:hunter2@exa mple.com"),
            ("MULLAMA_OLLAMA_REGISTRY", "ftp://example.com"),
            ("MULLAMA_OLLAMA_REGISTRY", "https://example.com/?token=hunter2"),
            ("HF_TOKEN", "hunter2 hunter2"),
            ("HF_TOKEN", "hunter2\u{e9}"),
            ("HF_TOKEN", &long),
        ] {
            let error = of(&[("HOME", "/home/x"), (variable, value)]).unwrap_err();
            let MullamaError::InvalidConfig { field, .. } = &error else { panic!("{error}") };
            assert_eq!(*field, variable);
            assert!(!error.to_string().contains("hunter2") && error.to_string().len() < 300, "{error}");
        }
    }
}
