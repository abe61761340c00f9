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

const REGISTRY: &str = "MULLAMA_OLLAMA_REGISTRY";
const ENDPOINT: &str = "HF_ENDPOINT";
const TOKEN: &str = "HF_TOKEN";
const OLD_TOKEN: &str = "HUGGING_FACE_HUB_TOKEN";
const TOKEN_PATH: &str = "HF_TOKEN_PATH";

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
    /// Variables about the network whose values cannot be used, each of which is an error of the downloads that need it.
    /// What is on this machine needs none of them.
    pub unusable: Vec<UnusableVariable>,
}

/// A variable of the environment whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnusableVariable {
    /// Its name.
    pub name: &'static str,
    /// Its value, as far as it may be shown.
    pub value: String,
    /// What the value must be.
    pub range: String,
}

/// What a download needs to know of the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// The address of the registry.
    Registry,
    /// The address of Hugging Face and the token for it.
    HuggingFace,
}

impl Needs {
    const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Registry => &[REGISTRY],
            Self::HuggingFace => &[ENDPOINT, TOKEN, OLD_TOKEN, TOKEN_PATH],
        }
    }
}

impl HubConfig {
    /// The configuration that the environment asks for. An empty variable counts as one that is not set.
    ///
    /// # Errors
    ///
    /// [`MullamaError::InvalidConfig`] names the variable about folders whose value cannot be used. Those about the
    /// network are in [`unusable`](Self::unusable).
    pub fn from_env() -> Result<Self, MullamaError> {
        Self::from_variables(&|name| std::env::var_os(name))
    }

    /// The configuration that the variables ask for which `variable` returns.
    fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, MullamaError> {
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        let variables = Variables { read: variable, home };
        let mut unusable = Vec::new();
        let hf_home = variables.hf_home();
        let hugging_face_cache = variables.folder("HF_HUB_CACHE")?.or(variables.folder("HUGGINGFACE_HUB_CACHE")?);
        Ok(Self {
            store: variables.store()?,
            registry: variables.address(REGISTRY, "https://registry.ollama.ai", &mut unusable),
            hugging_face: variables.address(ENDPOINT, "https://huggingface.co", &mut unusable),
            hugging_face_cache: hugging_face_cache.unwrap_or_else(|| hf_home.join("hub")),
            hugging_face_token: variables.token(&hf_home).unwrap_or_else(|why| {
                unusable.push(why);
                None
            }),
            ollama_stores: variables.ollama_stores()?,
            lm_studio_folders: variables.in_home(&[".lmstudio/models", ".cache/lm-studio/models"]),
            offline: variables.offline(),
            demo: None,
            stall_limit: STALL_LIMIT,
            unusable,
        })
    }

    /// Refuses a download that needs a variable whose value cannot be used.
    pub(crate) fn check(&self, needs: Needs) -> Result<(), MullamaError> {
        let wrong = self.unusable.iter().find(|each| needs.variables().contains(&each.name));
        wrong.map_or(Ok(()), |wrong| Err(wrong.clone().into()))
    }

    /// Refuses values that cannot be used.
    pub(crate) fn validate(&self) -> Result<(), MullamaError> {
        check_address("registry", &self.registry).map_err(MullamaError::from)?;
        check_address("hugging_face", &self.hugging_face).map_err(MullamaError::from)?;
        for (field, path) in [("store", &self.store), ("hugging_face_cache", &self.hugging_face_cache)] {
            if !path.is_absolute() {
                return Err(invalid(field, path.display().to_string(), "an absolute path").into());
            }
        }
        if let Some(token) = &self.hugging_face_token {
            check_token("hugging_face_token", token)?;
        }
        if self.stall_limit.is_zero() || self.stall_limit > Duration::from_hours(24) {
            let value = format!("{} seconds", self.stall_limit.as_secs());
            return Err(invalid("stall_limit", value, "above 0 and at most 86400 seconds").into());
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
        shown.field("stall_limit", &self.stall_limit).field("unusable", &self.unusable).finish()
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

    fn text(&self, name: &'static str) -> Result<Option<String>, UnusableVariable> {
        let not_text = |value: OsString| invalid(name, value.to_string_lossy().into_owned(), "valid UTF-8");
        self.get(name).map(OsString::into_string).transpose().map_err(not_text)
    }

    /// The folder that a variable names; `~` is the home folder.
    fn folder(&self, name: &'static str) -> Result<Option<PathBuf>, UnusableVariable> {
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

    fn store(&self) -> Result<PathBuf, UnusableVariable> {
        if let Some(store) = self.folder("MULLAMA_MODELS")? {
            return Ok(store);
        }
        let data = if cfg!(windows) {
            self.get("LOCALAPPDATA").map(PathBuf::from).filter(|path| path.is_absolute())
        } else if cfg!(target_os = "macos") {
            self.home_folder().map(|home| home.join("Library").join("Application Support"))
        } else {
            let of_variable = self.get("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
            of_variable.or_else(|| Some(self.home_folder()?.join(".local/share")))
        };
        data.map(|data| data.join("mullama").join("models")).ok_or_else(|| match self.get("HOME") {
            Some(home) => {
                let range = "an absolute path; or set MULLAMA_MODELS to the folder of the models";
                invalid("HOME", home.to_string_lossy().into_owned(), range)
            }
            None => invalid("MULLAMA_MODELS", "not set".to_owned(), "set, because this user has no home folder"),
        })
    }

    fn hf_home(&self) -> PathBuf {
        let in_cache = |cache: PathBuf| cache.join("huggingface");
        let of_variable = self.get("HF_HOME").map(PathBuf::from).map(|path| self.expand(path));
        let of_cache = || self.get("XDG_CACHE_HOME").map(PathBuf::from).map(in_cache);
        let of_home = || self.home_folder().map(|home| in_cache(home.join(".cache")));
        let home = of_variable.or_else(of_cache).or_else(of_home).unwrap_or_else(|| PathBuf::from("/nonexistent"));
        std::path::absolute(&home).unwrap_or(home)
    }

    fn ollama_stores(&self) -> Result<Vec<PathBuf>, UnusableVariable> {
        let mut stores = self.folder("OLLAMA_MODELS")?.into_iter().collect::<Vec<_>>();
        stores.extend(self.in_home(&[".ollama/models"]));
        if cfg!(unix) {
            stores.push(PathBuf::from("/usr/share/ollama/.ollama/models"));
        }
        let mut seen = std::collections::HashSet::new();
        stores.retain(|store| seen.insert(store.clone()));
        Ok(stores)
    }

    /// The address in a variable. One that cannot be used is noted, and then nobody is asked at the default.
    fn address(&self, name: &'static str, default: &str, unusable: &mut Vec<UnusableVariable>) -> Url {
        let given = self.text(name).and_then(|text| text.map(|text| address(name, &text)).transpose());
        let given = given.unwrap_or_else(|why| {
            unusable.push(why);
            None
        });
        given.unwrap_or_else(|| Url::parse(default).expect("the default is an address"))
    }

    fn token(&self, hf_home: &Path) -> Result<Option<String>, UnusableVariable> {
        for name in [TOKEN, OLD_TOKEN] {
            let hidden = |why: UnusableVariable| UnusableVariable { value: "(hidden)".to_owned(), ..why };
            let token = self.text(name).map_err(hidden)?.unwrap_or_default().trim().to_owned();
            if !token.is_empty() {
                check_token(name, &token)?;
                return Ok(Some(token));
            }
        }
        let path = self.folder(TOKEN_PATH)?.unwrap_or_else(|| hf_home.join("token"));
        let Some(token) =
            crate::store::files::read_small(&path, TOKEN_LEN_MOST).ok().and_then(|bytes| String::from_utf8(bytes).ok())
        else {
            return Ok(None);
        };
        let token = token.trim().to_owned();
        if token.is_empty() {
            return Ok(None);
        }
        check_token(TOKEN_PATH, &token)?;
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

fn invalid(name: &'static str, value: String, range: &str) -> UnusableVariable {
    UnusableVariable { name, value, range: range.to_owned() }
}

impl From<UnusableVariable> for MullamaError {
    fn from(UnusableVariable { name, value, range }: UnusableVariable) -> Self {
        Self::InvalidConfig { field: name, value, range }
    }
}

fn address(name: &'static str, text: &str) -> Result<Url, UnusableVariable> {
    // What cannot be read may contain a password, so it is not shown.
    let unreadable = |_| invalid(name, "not an address".to_owned(), "an address such as https://example.com");
    let url = Url::parse(text.trim_end_matches('/')).map_err(unreadable)?;
    check_address(name, &url)?;
    Ok(url)
}

/// Checks a base address: its scheme, and that it contains no secret that would end up in messages.
fn check_address(field: &'static str, url: &Url) -> Result<(), UnusableVariable> {
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
fn check_token(field: &'static str, token: &str) -> Result<(), UnusableVariable> {
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

    use super::{HubConfig, Needs, Variables};

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
    fn an_unusable_value_is_an_error_of_the_downloads_that_need_it_and_names_no_secret() {
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
            ("HUGGING_FACE_HUB_TOKEN", "hunter2 hunter2"),
        ] {
            let config = of(&[("HOME", "/home/x"), (variable, value)]).unwrap();
            config.validate().unwrap();
            let needs = if variable == "MULLAMA_OLLAMA_REGISTRY" {
                [Needs::Registry, Needs::HuggingFace]
            } else {
                [Needs::HuggingFace, Needs::Registry]
            };
            config.check(needs[1]).unwrap();
            let error = config.check(needs[0]).unwrap_err();
            let MullamaError::InvalidConfig { field, .. } = &error else { panic!("{error}") };
            assert_eq!(*field, variable);
            assert!(!format!("{config:?}").contains("hunter2"));
            assert!(!error.to_string().contains("hunter2") && error.to_string().len() < 300, "{error}");
        }
    }

    #[test]
    fn a_home_that_is_no_absolute_path_is_named_by_the_error() {
        let variables = HashMap::from([("HOME", "rel")]);
        let read = |name: &str| variables.get(name).map(OsString::from);
        let variables = Variables { read: &read, home: None };
        let error = MullamaError::from(variables.store().unwrap_err()).to_string();
        assert!(error.contains("HOME") && error.contains("rel") && error.contains("MULLAMA_MODELS"), "{error}");
        let config = of(&[("HOME", "rel"), ("MULLAMA_MODELS", "/srv/models")]).unwrap();
        assert_eq!(config.store, PathBuf::from("/srv/models"));
    }

    #[test]
    fn a_bad_variable_about_the_network_is_in_the_way_of_no_local_model() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let config = of(&[("HOME", home), ("HF_TOKEN", "two words"), ("MULLAMA_OLLAMA_REGISTRY", "junk")]).unwrap();
        let hub = crate::Hub::new(config).unwrap();
        assert_eq!(hub.list().unwrap().models, []);
        assert_eq!(hub.find("tiny").unwrap_err().code(), "MODEL_NOT_FOUND");
        assert_eq!(hub.remove("tiny").unwrap_err().code(), "MODEL_NOT_FOUND");
        for (name, variable) in [("hf.co/user/repo", "HF_TOKEN"), ("tiny", "MULLAMA_OLLAMA_REGISTRY")] {
            let error = hub.find_or_pull_blocking(name, |_| true).unwrap_err();
            assert!(matches!(error, MullamaError::InvalidConfig { field, .. } if field == variable), "{error}");
        }
    }
}
