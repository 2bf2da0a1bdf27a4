//! Finding the credentials for a repository: given ones, configuration files, credential helpers. Reads only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::error::CredentialsError;
use super::spec::{Credential, CredentialsSpec};
use crate::oci::Repository;
use crate::secret::Secret;

/// Docker Hub's name in references, and the key that Docker stores its credentials under.
const DOCKER_HUB: &str = "index.docker.io";
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The user name that says that the password is a refresh token.
const IDENTITY_TOKEN_USER: &str = "<token>";

impl CredentialsSpec {
    /// Returns the credentials for `repository`: the first that is found, else [`Credential::Anonymous`].
    ///
    /// A registry is matched by its exact host and port. Within a file the order is: the host's own helper, entries
    /// (the longest path first, as Podman writes them), the helper for everything. A helper may run for 30 seconds.
    pub(super) async fn find(&self, repository: &Repository) -> Result<Credential, CredentialsError> {
        let given = self.explicit.iter().find(|(host, _)| same_host(host, repository.registry()));
        if let Some((_, credential)) = given {
            return Ok(credential.clone().normalised());
        }
        for path in &self.config_files {
            if let Some(config) = ConfigFile::read(path)?
                && let Some(credential) = self.find_in(&config, repository).await?
            {
                tracing::debug!(path = %path.display(), registry = repository.registry(), "found credentials");
                return Ok(credential.normalised());
            }
        }
        Ok(Credential::Anonymous)
    }

    async fn find_in(
        &self,
        config: &ConfigFile,
        repository: &Repository,
    ) -> Result<Option<Credential>, CredentialsError> {
        let registry = repository.registry();
        let own =
            config.content.helpers.iter().find(|(key, _)| Key::parse(key).is_some_and(|key| key.is_host(registry)));
        if let Some((_, helper)) = own {
            return self.ask(helper, registry).await;
        }
        let entry = config.entry(repository)?;
        if let Found::Credential(credential) = entry {
            return Ok(Some(credential));
        }
        match &config.content.store {
            None => Ok(None),
            Some(helper) => match self.ask(helper, registry).await {
                // An entry without content says that the helper has it; without one, the helper is not for this host.
                Err(CredentialsError::HelperMissing { .. }) if matches!(entry, Found::Nothing) => Ok(None),
                answer => answer,
            },
        }
    }

    /// Asks a credential helper. `None`: it has nothing for this registry.
    async fn ask(&self, name: &str, registry: &str) -> Result<Option<Credential>, CredentialsError> {
        const TIME_LIMIT: Duration = Duration::from_secs(30);
        let program = self.helper(name)?;
        let failed = |reason: &str| CredentialsError::Helper { name: name.to_owned(), reason: reason.to_owned() };
        let output = tokio::time::timeout(TIME_LIMIT, self.run(&program, registry))
            .await
            .map_err(|_| failed("it took longer than 30 seconds"))?
            .map_err(|error| failed(&error.kind().to_string()))?;
        match output {
            HelperOutput::NotFound => Ok(None),
            HelperOutput::Failed => Err(failed("it ended with an error")),
            HelperOutput::Answer(answer) => {
                let answer: HelperAnswer =
                    serde_json::from_slice(&answer).map_err(|_| failed("its answer is not what a helper answers"))?;
                let secret = Secret::new(answer.secret);
                Ok((!secret.expose().is_empty())
                    .then_some(Credential::Basic { username: answer.username, password: secret }))
            }
        }
    }

    fn helper(&self, name: &str) -> Result<PathBuf, CredentialsError> {
        let well_formed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(well_formed) {
            return Err(CredentialsError::HelperName { name: crate::http::excerpt(name) });
        }
        let directories = self.helper_path.as_deref().unwrap_or_default().split(':').map(Path::new);
        directories
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(format!("docker-credential-{name}")))
            .find(|program| program.is_file())
            .ok_or_else(|| CredentialsError::HelperMissing { name: name.to_owned() })
    }

    async fn run(&self, program: &Path, registry: &str) -> std::io::Result<HelperOutput> {
        const LONGEST: u64 = 1 << 20;
        let mut child = tokio::process::Command::new(program)
            .arg("get")
            .env_clear()
            .envs(self.helper_environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            let server = if registry == DOCKER_HUB { DOCKER_HUB_KEY } else { registry };
            match stdin.write_all(server.as_bytes()).await {
                // A helper that needs no question may have ended already.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
                _ => drop(stdin),
            }
        }
        let mut answer = Zeroizing::new(Vec::new());
        if let Some(stdout) = child.stdout.take() {
            stdout.take(LONGEST).read_to_end(&mut answer).await?;
        }
        if child.wait().await?.success() {
            return Ok(HelperOutput::Answer(answer));
        }
        let absent = String::from_utf8_lossy(&answer).to_ascii_lowercase().contains("credentials not found");
        Ok(if absent { HelperOutput::NotFound } else { HelperOutput::Failed })
    }
}

impl Credential {
    /// Turns what stands for something else into what it stands for.
    fn normalised(self) -> Self {
        match self {
            Self::Basic { username, password } if username == IDENTITY_TOKEN_USER => Self::IdentityToken(password),
            Self::Basic { username, password } if username.is_empty() && password.expose().is_empty() => {
                Self::Anonymous
            }
            other => other,
        }
    }
}

enum HelperOutput {
    Answer(Zeroizing<Vec<u8>>),
    NotFound,
    Failed,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

struct ConfigFile {
    path: PathBuf,
    content: Content,
}

#[derive(Default, Deserialize)]
struct Content {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default, rename = "identitytoken")]
    identity_token: Option<String>,
    #[serde(default, rename = "registrytoken")]
    registry_token: Option<String>,
}

impl ConfigFile {
    /// Reads the file. `None`: there is none.
    fn read(path: &Path) -> Result<Option<Self>, CredentialsError> {
        let text = match std::fs::read(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CredentialsError::File { path: path.to_owned(), source }),
        };
        let mut content = if text.trim_ascii().is_empty() {
            Content::default()
        } else {
            serde_json::from_slice::<Content>(&text).map_err(|error| CredentialsError::Malformed {
                path: path.to_owned(),
                // The message of serde_json may quote a value.
                reason: format!("line {}, column {}", error.line(), error.column()),
            })?
        };
        content.store = content.store.filter(|store| !store.is_empty());
        content.helpers.retain(|_, helper| !helper.is_empty());
        Ok(Some(Self { path: path.to_owned(), content }))
    }

    /// Returns what the file itself has for `repository`.
    fn entry(&self, repository: &Repository) -> Result<Found, CredentialsError> {
        let matching = self.content.auths.iter().filter_map(|(text, entry)| {
            let key = Key::parse(text)?;
            key.covers(repository).then_some((key.path.len(), entry))
        });
        let mut found: Vec<_> = matching.collect();
        found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        let mut outcome = Found::Nothing;
        for (_, entry) in found {
            match self.credential(entry)? {
                Some(credential) => return Ok(Found::Credential(credential)),
                None => outcome = Found::EmptyEntry,
            }
        }
        Ok(outcome)
    }

    fn credential(&self, entry: &Entry) -> Result<Option<Credential>, CredentialsError> {
        let filled = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(&entry.registry_token) {
            return Ok(Some(Credential::RegistryToken(Secret::new(token))));
        }
        if let Some(token) = filled(&entry.identity_token) {
            return Ok(Some(Credential::IdentityToken(Secret::new(token))));
        }
        if let Some(auth) = filled(&entry.auth) {
            let malformed = || CredentialsError::Malformed {
                path: self.path.clone(),
                reason: "an `auth` is not the base64 of `user:password`".to_owned(),
            };
            let decoded = Zeroizing::new(STANDARD.decode(auth.trim()).map_err(|_| malformed())?);
            let text = std::str::from_utf8(&decoded).map_err(|_| malformed())?;
            let (username, password) = text.split_once(':').ok_or_else(malformed)?;
            let password = Secret::new(password.trim_end_matches('\0'));
            return Ok(Some(Credential::Basic { username: username.to_owned(), password }));
        }
        let username = filled(&entry.username);
        Ok(username
            .zip(filled(&entry.password))
            .map(|(username, password)| Credential::Basic { username, password: Secret::new(password) }))
    }
}

/// What a file has for a repository.
enum Found {
    Nothing,
    /// An entry without content: the credentials are in the helper.
    EmptyEntry,
    Credential(Credential),
}

/// The key of an entry: a host, perhaps as a URL as Docker writes it, perhaps with a path as Podman writes it.
struct Key<'a> {
    host: &'a str,
    path: &'a str,
}

impl<'a> Key<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let url = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let (host, path) = match url.unwrap_or(text).split_once('/') {
            Some((host, path)) => (host, path.trim_end_matches('/')),
            None => (url.unwrap_or(text), ""),
        };
        let path = if matches!(path, "v1" | "v2") { "" } else { path };
        // A URL with another path names something that is not a registry.
        (url.is_none() || path.is_empty()).then_some(Self { host, path })
    }

    fn is_host(&self, registry: &str) -> bool {
        self.path.is_empty() && same_host(self.host, registry)
    }

    fn covers(&self, repository: &Repository) -> bool {
        let below =
            || repository.path().strip_prefix(self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        same_host(self.host, repository.registry()) && (self.path.is_empty() || below())
    }
}

/// Compares a host with a registry, which is canonical. Docker Hub has several names.
fn same_host(host: &str, registry: &str) -> bool {
    let host = host.trim_end_matches('/').to_ascii_lowercase();
    let host = host.strip_prefix("https://").unwrap_or(&host);
    match host.strip_suffix("/v1").unwrap_or(host) {
        "docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => registry == DOCKER_HUB,
        host => host == registry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{DefaultRegistry, Reference};

    fn repository(name: &str) -> Repository {
        Reference::parse(name, DefaultRegistry::DockerHub).unwrap().repository().clone()
    }

    fn basic(username: &str, password: &str) -> Credential {
        Credential::Basic { username: username.to_owned(), password: Secret::new(password) }
    }

    /// A directory with one configuration file in it, and the spec that reads it.
    fn configured(content: &str) -> (tempfile::TempDir, CredentialsSpec) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, content).unwrap();
        let spec = CredentialsSpec {
            config_files: vec![directory.path().join("absent.json"), path],
            helper_path: Some(format!("relative::.:{}", directory.path().display())),
            ..CredentialsSpec::default()
        };
        (directory, spec)
    }

    /// Held while a helper is written and run: a program that another thread's child still has open cannot be run.
    static HELPERS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    fn install_helper(directory: &Path, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let program = directory.join(format!("docker-credential-{name}"));
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn the_exact_host_is_matched_and_nothing_else() {
        // The base64 of `ann:pw`.
        let (_directory, spec) = configured(r#"{"auths":{"https://ghcr.io/v2/":{"auth":"YW5uOnB3"}}}"#);

        assert_eq!(spec.find(&repository("ghcr.io/acme/app")).await.unwrap(), basic("ann", "pw"));
        for other in ["ghcr.io:443/acme/app", "evil.ghcr.io/acme/app", "ghcr.io.evil/acme/app", "quay.io/acme/app"] {
            assert_eq!(spec.find(&repository(other)).await.unwrap(), Credential::Anonymous, "{other}");
        }
    }

    #[tokio::test]
    async fn docker_hub_is_found_under_each_of_its_names() {
        for key in ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"] {
            let (_directory, spec) = configured(&format!(r#"{{"auths":{{"{key}":{{"auth":"YW5uOnB3"}}}}}}"#));

            assert_eq!(spec.find(&repository("alpine")).await.unwrap(), basic("ann", "pw"), "{key}");
            assert_eq!(spec.find(&repository("ghcr.io/acme/app")).await.unwrap(), Credential::Anonymous, "{key}");
        }
    }

    #[tokio::test]
    async fn the_longest_path_wins() {
        let (_directory, spec) = configured(
            r#"{"auths":{"quay.io":{"username":"host","password":"p"},
                         "quay.io/acme":{"username":"organisation","password":"p"},
                         "quay.io/acme/app":{"username":"repository","password":"p"}}}"#,
        );
        let table = [
            ("quay.io/acme/app", "repository"),
            ("quay.io/acme/app/sub", "repository"),
            ("quay.io/acme/apple", "organisation"),
            ("quay.io/acmes/app", "host"),
        ];

        for (name, user) in table {
            assert_eq!(spec.find(&repository(name)).await.unwrap(), basic(user, "p"), "{name}");
        }
    }

    #[tokio::test]
    async fn tokens_come_before_passwords() {
        let cases = [
            (r#"{"auth":"YW5uOnB3","identitytoken":"i"}"#, Credential::IdentityToken(Secret::new("i"))),
            (r#"{"identitytoken":"i","registrytoken":"r"}"#, Credential::RegistryToken(Secret::new("r"))),
            (r#"{"username":"<token>","password":"i"}"#, Credential::IdentityToken(Secret::new("i"))),
            (r#"{"auth":"YW5uOmE6YgA="}"#, basic("ann", "a:b")),
            ("{}", Credential::Anonymous),
        ];

        for (entry, expected) in cases {
            let (_directory, spec) = configured(&format!(r#"{{"auths":{{"ghcr.io":{entry}}}}}"#));

            assert_eq!(spec.find(&repository("ghcr.io/acme/app")).await.unwrap(), expected, "{entry}");
        }
    }

    #[tokio::test]
    async fn given_credentials_come_before_files() {
        let (_directory, mut spec) = configured(r#"{"auths":{"ghcr.io":{"auth":"YW5uOnB3"}}}"#);
        spec.explicit = vec![("ghcr.io".to_owned(), basic("bob", "given"))];

        assert_eq!(spec.find(&repository("ghcr.io/acme/app")).await.unwrap(), basic("bob", "given"));
    }

    #[tokio::test]
    async fn a_malformed_file_is_an_error_that_names_it_and_shows_nothing_of_it() {
        for content in ["hunter2", r#"{"auths":{"ghcr.io":"hunter2"}}"#, r#"{"auths":{"ghcr.io":{"auth":"hunter2"}}}"#]
        {
            let (directory, spec) = configured(content);

            let error = spec.find(&repository("ghcr.io/acme/app")).await.unwrap_err();

            let text = format!("{error} {error:?}");
            assert!(matches!(error, CredentialsError::Malformed { .. }), "{text}");
            assert!(text.contains(directory.path().to_str().unwrap()) && !text.contains("hunter2"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_helper_is_asked_for_the_host_with_an_environment_of_its_own() {
        let _alone = HELPERS.lock().await;
        let (directory, mut spec) = configured(r#"{"credHelpers":{"ghcr.io":"test"}}"#);
        spec.helper_environment = vec![("NAME".to_owned(), "value".to_owned())];
        install_helper(
            directory.path(),
            "test",
            r#"read host; echo noise >&2; echo "{\"Username\":\"$host $1 $NAME $HOME\",\"Secret\":\"pw\"}""#,
        );

        let credential = spec.find(&repository("ghcr.io/acme/app")).await.unwrap();

        assert_eq!(credential, basic("ghcr.io get value ", "pw"));
    }

    #[tokio::test]
    async fn a_helper_that_has_nothing_is_not_an_error_and_one_that_fails_is() {
        let _alone = HELPERS.lock().await;
        let (directory, spec) = configured(r#"{"credsStore":"test"}"#);
        let repository = repository("ghcr.io/acme/app");

        install_helper(directory.path(), "test", "echo 'credentials not found in native keychain'; exit 1");
        assert_eq!(spec.find(&repository).await.unwrap(), Credential::Anonymous);

        install_helper(directory.path(), "test", "echo hunter2; echo hunter2 >&2; exit 1");
        let error = spec.find(&repository).await.unwrap_err();
        assert_eq!(error.to_string(), "the credential helper `docker-credential-test` failed: it ended with an error");
    }

    #[tokio::test]
    async fn a_helper_is_looked_up_by_a_plain_name_in_absolute_directories_only() {
        let repository = repository("ghcr.io/acme/app");
        for name in ["../evil", "a/b", "A", "a b", "a.b"] {
            let (_directory, spec) = configured(&format!(r#"{{"credHelpers":{{"ghcr.io":"{name}"}}}}"#));

            let error = spec.find(&repository).await.unwrap_err();

            assert!(matches!(error, CredentialsError::HelperName { .. }), "{name}: {error}");
        }
        let (_directory, mut spec) = configured(r#"{"credHelpers":{"ghcr.io":"test"}}"#);
        spec.helper_path = Some(".:relative:".to_owned());
        let error = spec.find(&repository).await.unwrap_err();
        assert!(matches!(error, CredentialsError::HelperMissing { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_missing_store_matters_only_where_it_holds_the_entry() {
        let repository = repository("ghcr.io/acme/app");
        let (_directory, elsewhere) = configured(r#"{"auths":{"quay.io":{}},"credsStore":"desktop"}"#);
        let (_other, stored) = configured(r#"{"auths":{"ghcr.io":{}},"credsStore":"desktop"}"#);

        assert_eq!(elsewhere.find(&repository).await.unwrap(), Credential::Anonymous);
        let error = stored.find(&repository).await.unwrap_err();
        assert!(matches!(error, CredentialsError::HelperMissing { .. }), "{error}");
        assert!(error.hint().is_some());
    }
}
