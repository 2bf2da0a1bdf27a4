//! Authorising requests: one token per scope, fetched once however many requests wait for it, renewed before it ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Request, StatusCode};
use serde::Deserialize;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::challenge::{Scheme, TokenServer};
use super::error::{Presented, Purpose, RegistryError};
use super::exchange::{Answer, Limits, Lost, Server, exchange};
use super::spec::{Credential, CredentialsSpec};
use crate::http::{Attempt, Retry, status_failure};
use crate::oci::Repository;
use crate::secret::Secret;

/// The most bytes of a token server's answer.
const MAX_TOKEN: u64 = 1 << 20;
/// The user name that says that the password is a refresh token.
const IDENTITY_TOKEN_USER: &str = "<token>";

/// What a request wants to do, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) repository: Repository,
    pub(super) purpose: Purpose,
    /// The path of a repository of the same registry to mount blobs from.
    pub(super) mount_from: Option<String>,
}

impl Scope {
    pub(super) fn pull(repository: &Repository) -> Self {
        Self { repository: repository.clone(), purpose: Purpose::Pull, mount_from: None }
    }

    pub(super) fn push(repository: &Repository) -> Self {
        Self { repository: repository.clone(), purpose: Purpose::Push, mount_from: None }
    }

    /// Returns the scopes to ask a token server for.
    fn parameters(&self) -> Vec<String> {
        let actions = match self.purpose {
            Purpose::Pull => "pull",
            Purpose::Push => "pull,push",
        };
        let own = format!("repository:{}:{actions}", self.repository.path());
        let source = self.mount_from.as_ref().map(|path| format!("repository:{path}:pull"));
        std::iter::once(own).chain(source).collect()
    }
}

/// What a request is sent with.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    /// The `Authorization`, if any is needed as far as we know.
    pub(super) authorization: Option<HeaderValue>,
    token: Option<Secret>,
}

impl Ticket {
    const NONE: Self = Self { authorization: None, token: None };

    fn basic(username: &str, password: &Secret) -> Self {
        Self { authorization: sensitive(&format!("Basic {}", encode(username, password).expose())), token: None }
    }

    fn bearer(token: &Secret) -> Self {
        Self { authorization: sensitive(&format!("Bearer {}", token.expose())), token: Some(token.clone()) }
    }
}

fn encode(username: &str, password: &Secret) -> Secret {
    Secret::new(STANDARD.encode(Zeroizing::new(format!("{username}:{}", password.expose()))))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Credentials, tokens, and what is known of each registry's way to log in.
#[derive(Debug)]
pub(super) struct Authentication {
    client: reqwest::Client,
    retry_for: Duration,
    spec: CredentialsSpec,
    schemes: Mutex<HashMap<String, Scheme>>,
    credentials: Mutex<HashMap<Repository, Arc<OnceCell<Credential>>>>,
    tokens: Mutex<HashMap<Scope, TokenSlot>>,
    secrets: Mutex<Vec<Secret>>,
}

type TokenSlot = Arc<tokio::sync::Mutex<Option<Token>>>;

#[derive(Debug)]
struct Token {
    secret: Secret,
    renew_at: Instant,
}

impl Token {
    fn is_fresh(&self) -> bool {
        Instant::now() < self.renew_at
    }
}

impl Authentication {
    pub(super) fn new(client: reqwest::Client, retry_for: Duration, spec: CredentialsSpec) -> Self {
        Self {
            client,
            retry_for,
            spec,
            schemes: Mutex::default(),
            credentials: Mutex::default(),
            tokens: Mutex::default(),
            secrets: Mutex::default(),
        }
    }

    /// Returns what to send a request with. Before the registry's first 401 that is nothing.
    pub(super) async fn ticket(&self, scope: &Scope) -> Result<Ticket, RegistryError> {
        match self.scheme(scope.repository.registry()) {
            None => Ok(Ticket::NONE),
            Some(Scheme::Basic) => Ok(match self.credential(&scope.repository).await? {
                Credential::Basic { username, password } => Ticket::basic(&username, &password),
                Credential::Anonymous | Credential::IdentityToken(_) | Credential::RegistryToken(_) => Ticket::NONE,
            }),
            Some(Scheme::Bearer(server)) => self.bearer(scope, &server, None).await,
        }
    }

    /// Learns from a 401 to a request that was sent with `used`, and makes sure that the next ticket is another one.
    pub(super) async fn learn(&self, scope: &Scope, used: &Ticket, answer: &Answer) -> Result<(), RegistryError> {
        let registry = scope.repository.registry();
        let refuse = |reason: String| RegistryError::Challenge { registry: registry.to_owned(), reason };
        let scheme = match self.scheme(registry) {
            // A token that has expired need not come with a challenge.
            Some(known @ Scheme::Bearer(_)) if answer.status != StatusCode::UNAUTHORIZED => known,
            _ => Scheme::from_headers(&answer.headers, &answer.url).map_err(refuse)?,
        };
        if scheme == Scheme::Basic && matches!(self.scheme(registry), Some(Scheme::Bearer(_))) {
            return Err(refuse("it asked for a Bearer token before and asks for a password now".to_owned()));
        }
        lock(&self.schemes).insert(registry.to_owned(), scheme.clone());
        match scheme {
            Scheme::Basic => {
                let credential = self.credential(&scope.repository).await?;
                match (credential, &used.authorization) {
                    (Credential::Basic { .. }, None) => Ok(()),
                    _ => Err(self.unauthorized(scope, answer).await),
                }
            }
            Scheme::Bearer(server) => self.bearer(scope, &server, Some((used, answer))).await.map(drop),
        }
    }

    /// Returns the error for a 401 that logging in again does not help with.
    pub(super) async fn unauthorized(&self, scope: &Scope, answer: &Answer) -> RegistryError {
        let registry = scope.repository.registry().to_owned();
        let presented = self.presented(scope).await;
        RegistryError::Unauthorized { registry, presented, source: Box::new(answer.rejection(scope.purpose, self)) }
    }

    /// Returns whether there are credentials for this scope.
    pub(super) async fn presented(&self, scope: &Scope) -> Presented {
        match self.credential(&scope.repository).await {
            Ok(Credential::Anonymous) | Err(_) => Presented::Nothing,
            Ok(_) => Presented::Credentials,
        }
    }

    /// Replaces every secret that was ever sent in `text`, which a server wrote.
    pub(super) fn mask(&self, text: &str) -> String {
        const SHORTEST: usize = 4;
        lock(&self.secrets)
            .iter()
            .filter(|secret| secret.expose().len() >= SHORTEST)
            .fold(text.to_owned(), |text, secret| text.replace(secret.expose(), "***"))
    }

    fn scheme(&self, registry: &str) -> Option<Scheme> {
        lock(&self.schemes).get(registry).cloned()
    }

    async fn credential(&self, repository: &Repository) -> Result<Credential, RegistryError> {
        let cell = Arc::clone(lock(&self.credentials).entry(repository.clone()).or_default());
        let found = cell.get_or_try_init(|| self.spec.find(repository)).await;
        let credential = found
            .map_err(|source| RegistryError::Credentials { registry: repository.registry().to_owned(), source })?
            .clone();
        match &credential {
            Credential::Anonymous => {}
            Credential::Basic { username, password } => {
                self.remember(&encode(username, password));
                self.remember(password);
            }
            Credential::IdentityToken(token) | Credential::RegistryToken(token) => self.remember(token),
        }
        Ok(credential)
    }

    fn remember(&self, secret: &Secret) {
        let mut secrets = lock(&self.secrets);
        if !secrets.contains(secret) {
            secrets.push(secret.clone());
        }
    }

    /// Returns a token, from the cache unless it is old or was `rejected`.
    async fn bearer(
        &self,
        scope: &Scope,
        server: &TokenServer,
        rejected: Option<(&Ticket, &Answer)>,
    ) -> Result<Ticket, RegistryError> {
        let credential = self.credential(&scope.repository).await?;
        if let Credential::RegistryToken(token) = &credential {
            return match rejected {
                Some((used, answer)) if used.token.is_some() => Err(self.unauthorized(scope, answer).await),
                _ => Ok(Ticket::bearer(token)),
            };
        }
        let slot = self.slot(scope).await;
        // Holding the lock while fetching is what makes everybody else wait for this one token.
        let mut slot = slot.lock().await;
        let rejected = rejected.and_then(|(used, _)| used.token.as_ref());
        if let Some(token) = slot.as_ref().filter(|token| token.is_fresh() && Some(&token.secret) != rejected) {
            return Ok(Ticket::bearer(&token.secret));
        }
        let token = self.fetch(scope, server, &credential).await?;
        self.remember(&token.secret);
        let ticket = Ticket::bearer(&token.secret);
        *slot = Some(token);
        Ok(ticket)
    }

    /// Returns the slot for `scope`. Reading makes do with a token for writing, if there is one.
    async fn slot(&self, scope: &Scope) -> TokenSlot {
        let wider = Scope { purpose: Purpose::Push, ..scope.clone() };
        let known = lock(&self.tokens).get(&wider).cloned();
        if let Some(slot) = known
            && slot.lock().await.is_some()
        {
            return slot;
        }
        Arc::clone(lock(&self.tokens).entry(scope.clone()).or_default())
    }

    async fn fetch(
        &self,
        scope: &Scope,
        server: &TokenServer,
        credential: &Credential,
    ) -> Result<Token, RegistryError> {
        if let Credential::IdentityToken(token) = credential {
            let answer = self.ask(scope, || refresh_request(scope, server, token)).await?;
            if !matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
                return self.token(scope, &answer).await;
            }
        }
        let answer = self.ask(scope, || token_request(scope, server, credential)).await?;
        self.token(scope, &answer).await
    }

    /// Asks the token server, with retries.
    async fn ask(&self, scope: &Scope, request: impl Fn() -> Request) -> Result<Answer, RegistryError> {
        let mut retry = Retry::new(self.retry_for);
        loop {
            let (failure, error) =
                match exchange(&self.client, request(), Limits::new(MAX_TOKEN), Server::TokenServer).await {
                    Ok(answer) => match status_failure(answer.status, &answer.headers) {
                        None => return Ok(answer),
                        Some(failure) => (failure, answer.unavailable(scope.purpose, self, retry.attempts())),
                    },
                    Err(Lost::Final(error)) => return Err(error),
                    Err(lost @ Lost::Silence { failure, .. }) => (failure, lost.into_error(retry.attempts())),
                };
            if retry.wait(failure).await == Attempt::GiveUp {
                return Err(error);
            }
        }
    }

    async fn token(&self, scope: &Scope, answer: &Answer) -> Result<Token, RegistryError> {
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Err(self.unauthorized(scope, answer).await),
            StatusCode::FORBIDDEN => {
                return Err(RegistryError::Denied {
                    repository: scope.repository.clone(),
                    presented: self.presented(scope).await,
                    source: Box::new(answer.rejection(scope.purpose, self)),
                });
            }
            _ => {
                let source = Box::new(answer.rejection(scope.purpose, self));
                return Err(RegistryError::Status { repository: scope.repository.clone(), source });
            }
        }
        parse_token(&answer.body)
            .map_err(|reason| RegistryError::Token { registry: scope.repository.registry().to_owned(), reason })
    }
}

fn token_request(scope: &Scope, server: &TokenServer, credential: &Credential) -> Request {
    let mut url = server.realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = &server.service {
            query.append_pair("service", service);
        }
        for parameter in scope.parameters() {
            query.append_pair("scope", &parameter);
        }
    }
    let mut request = Request::new(Method::GET, url);
    let ticket = match credential {
        Credential::Basic { username, password } => Ticket::basic(username, password),
        Credential::IdentityToken(token) => Ticket::basic(IDENTITY_TOKEN_USER, token),
        Credential::Anonymous | Credential::RegistryToken(_) => Ticket::NONE,
    };
    if let Some(authorization) = ticket.authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization);
    }
    request
}

/// The OAuth 2 form ([specification](https://distribution.github.io/distribution/spec/auth/oauth/)).
fn refresh_request(scope: &Scope, server: &TokenServer, token: &Secret) -> Request {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token")
        .append_pair("client_id", "touchmark")
        .append_pair("service", server.service.as_deref().unwrap_or_default())
        .append_pair("scope", &scope.parameters().join(" "))
        .append_pair("refresh_token", token.expose());
    let mut request = Request::new(Method::POST, server.realm.clone());
    *request.headers_mut() = HeaderMap::from_iter([(
        reqwest::header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    )]);
    *request.body_mut() = Some(form.finish().into());
    request
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
}

fn parse_token(body: &[u8]) -> Result<Token, String> {
    const DEFAULT_LIFE: u64 = 60;
    const LONGEST_LIFE: u64 = 24 * 60 * 60;
    let answer: TokenAnswer =
        serde_json::from_slice(body).map_err(|_| "the answer is not the JSON of one".to_owned())?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token).unwrap_or_default();
    if token.is_empty() {
        return Err("the answer has neither `token` nor `access_token`".to_owned());
    }
    let secret = Secret::new(token);
    if Ticket::bearer(&secret).authorization.is_none() {
        return Err("the token cannot be put into a header".to_owned());
    }
    let life = answer.expires_in.as_ref().and_then(serde_json::Value::as_u64).filter(|life| *life > 0);
    let life = Duration::from_secs(life.unwrap_or(DEFAULT_LIFE).min(LONGEST_LIFE));
    Ok(Token { secret, renew_at: Instant::now() + life.mul_f64(0.8) })
}

/// Returns whether `answer`, to a request that was sent with `used`, asks for a login or for another token: 401, or
/// ECR Public's 400 for a token that has expired.
pub(super) fn is_challenge(used: &Ticket, answer: &Answer) -> bool {
    let says_expired = || {
        let text = String::from_utf8_lossy(&answer.body).to_ascii_lowercase();
        text.contains("token") && text.contains("expired")
    };
    match answer.status {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::BAD_REQUEST => used.token.is_some() && says_expired(),
        _ => false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::oci::{DefaultRegistry, Reference};

    fn scope(mount_from: Option<&str>) -> Scope {
        let reference = Reference::parse("ghcr.io/acme/app", DefaultRegistry::None).unwrap();
        Scope { mount_from: mount_from.map(str::to_owned), ..Scope::push(reference.repository()) }
    }

    fn server(service: &str) -> TokenServer {
        TokenServer { realm: Url::parse("https://ghcr.io/token?keep=this").unwrap(), service: Some(service.to_owned()) }
    }

    #[test]
    fn a_service_cannot_smuggle_in_parameters() {
        let request = token_request(&scope(Some("acme/base")), &server("s&scope=evil"), &Credential::Anonymous);

        let pairs: Vec<_> = request.url().query_pairs().into_owned().collect();
        let expected = [
            ("keep", "this"),
            ("service", "s&scope=evil"),
            ("scope", "repository:acme/app:pull,push"),
            ("scope", "repository:acme/base:pull"),
        ];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(request.headers().is_empty());
    }

    #[test]
    fn a_password_goes_into_the_header_and_an_identity_token_into_the_form() {
        let password = Credential::Basic { username: "ann".to_owned(), password: Secret::new("pw") };

        let request = token_request(&scope(None), &server("s"), &password);
        assert_eq!(request.headers()[AUTHORIZATION], "Basic YW5uOnB3");
        assert!(request.headers()[AUTHORIZATION].is_sensitive());

        let request = refresh_request(&scope(None), &server("s"), &Secret::new("r&t"));
        assert_eq!(
            request.body().unwrap().as_bytes().unwrap(),
            b"grant_type=refresh_token&client_id=touchmark&service=s&scope=repository%3Aacme%2Fapp%3Apull%2Cpush&refresh_token=r%26t"
        );
        assert!(!request.url().as_str().contains("r&t"));
    }

    #[test]
    fn a_token_is_read_under_both_names_and_lives_a_minute_unless_it_says_otherwise() {
        let life = |body: &str| parse_token(body.as_bytes()).map(|token| token.renew_at - Instant::now());
        let about = |life: Duration, seconds: u64| life.abs_diff(Duration::from_secs(seconds)) < Duration::from_secs(1);

        assert!(about(life(r#"{"token":"t"}"#).unwrap(), 48));
        assert!(about(life(r#"{"access_token":"t","expires_in":300}"#).unwrap(), 240));
        assert!(about(life(r#"{"token":"t","expires_in":-5}"#).unwrap(), 48));
        assert!(about(life(r#"{"token":"t","expires_in":18446744073709551615}"#).unwrap(), 69120));
        for body in ["", "{}", "[]", r#"{"token":""}"#, r#"{"token":"a\nb"}"#] {
            assert!(life(body).is_err(), "{body}");
        }
    }
}
