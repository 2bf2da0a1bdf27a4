//! What a registry asks for with a 401: parsed, and judged before any credential is shown to anybody.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use url::Url;

use crate::http::Reach;

/// How a registry wants requests to be authorised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// User and password with every request.
    Basic,
    /// A token from a token server.
    Bearer(TokenServer),
}

/// Where tokens are to be had ([specification](https://distribution.github.io/distribution/spec/auth/token/)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenServer {
    pub(super) realm: Url,
    pub(super) service: Option<String>,
}

impl Scheme {
    /// Reads the challenges of a 401. Bearer is preferred; a Bearer challenge that breaks a rule is an error, so that
    /// nothing weaker can be had by sending a bad one.
    pub(super) fn from_headers(headers: &HeaderMap, registry: &Url) -> Result<Self, String> {
        const LONGEST: usize = 8 << 10;
        let mut challenges = Vec::new();
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let text = value.to_str().map_err(|_| "the challenge is not text".to_owned())?;
            if text.len() > LONGEST {
                return Err(format!("the challenge is longer than {LONGEST} bytes"));
            }
            challenges.extend(parse(text));
        }
        if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            let realm = bearer.parameter("realm").ok_or("the Bearer challenge has no realm")?;
            let service = bearer.parameter("service").map(str::to_owned);
            return Ok(Self::Bearer(TokenServer { realm: check_realm(realm, registry)?, service }));
        }
        if challenges.iter().any(|challenge| challenge.scheme == "basic") {
            return Ok(Self::Basic);
        }
        Err("it asks for neither Basic nor Bearer".to_owned())
    }
}

/// Refuses realms that credentials must not be sent to.
///
/// Over https any public host will do, because Docker Hub's is another host than the registry. Plain HTTP is accepted
/// only from a registry that is spoken to in plain HTTP, and then only on its own host or a private one. Loopback,
/// link-local and private hosts are accepted only where the registry is on the same host or no farther away.
fn check_realm(realm: &str, registry: &Url) -> Result<Url, String> {
    let url = Url::parse(realm).map_err(|_| "the realm is not a URL".to_owned())?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err("the realm is neither https nor http".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the realm has a user name or a password".to_owned());
    }
    let same_host = url.host() == registry.host();
    let (Some(host), Some(registry_host)) = (url.host(), registry.host()) else {
        return Err("the realm has no host".to_owned());
    };
    if !same_host && !within_reach(Reach::of(&host), Reach::of(&registry_host)) {
        return Err(format!("the realm is on the private host `{host}`"));
    }
    let clear = url.scheme() == "http";
    if clear && registry.scheme() != "http" {
        return Err("the realm is http, and the registry is https".to_owned());
    }
    if clear && !same_host && Reach::of(&host) == Reach::Public {
        return Err(format!("the realm is http on the public host `{host}`"));
    }
    Ok(url)
}

/// Returns whether a registry this far away may send us to a host that far away, which is not its own.
pub(super) fn within_reach(target: Reach, registry: Reach) -> bool {
    match target {
        Reach::Public => true,
        Reach::Private => matches!(registry, Reach::Private | Reach::Loopback),
        Reach::Loopback => registry == Reach::Loopback,
        Reach::LinkLocal => false,
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads the challenges of one header ([RFC 9110, 11.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1)), as
/// far as they can be understood.
fn parse(text: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = rest.split_at(rest.find(|character| !is_token(character)).unwrap_or(rest.len()));
        if word.is_empty() {
            return challenges;
        }
        rest = after;
        if let (Some(value), Some(challenge)) = (after.trim_start().strip_prefix('='), challenges.last_mut()) {
            let Some((value, after)) = parse_value(value.trim_start()) else { return challenges };
            challenge.parameters.push((word.to_ascii_lowercase(), value));
            rest = after;
        } else {
            challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
        }
    }
}

fn parse_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|character: char| character == ',' || character.is_whitespace()).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[position + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(challenges: &[&str], registry: &str) -> Result<Scheme, String> {
        let headers = challenges.iter().map(|text| (WWW_AUTHENTICATE, text.parse().unwrap())).collect();
        Scheme::from_headers(&headers, &Url::parse(registry).unwrap())
    }

    fn realm(realm: &str, registry: &str) -> Result<Scheme, String> {
        scheme(&[&format!(r#"Bearer realm="{realm}""#)], registry)
    }

    #[test]
    fn a_challenge_is_read_as_docker_hub_writes_it() {
        let challenge =
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#;

        let scheme = scheme(&[challenge], "https://registry-1.docker.io/").unwrap();

        assert_eq!(
            scheme,
            Scheme::Bearer(TokenServer {
                realm: Url::parse("https://auth.docker.io/token").unwrap(),
                service: Some("registry.docker.io".to_owned()),
            })
        );
    }

    #[test]
    fn several_challenges_are_told_apart_however_they_are_written() {
        let bearer = |challenges: &[&str]| match scheme(challenges, "https://r.example/") {
            Ok(Scheme::Bearer(server)) => server.realm.to_string(),
            other => format!("{other:?}"),
        };
        let expected = "https://r.example/t";

        assert_eq!(bearer(&[r#"Basic realm="x", Bearer realm="https://r.example/t""#]), expected);
        assert_eq!(bearer(&[r#"Bearer realm="https://r.example/t", Basic realm="x""#]), expected);
        assert_eq!(bearer(&["Negotiate abc==", r#"bearer service=s , REALM = "https://r.example/t""#]), expected);
        assert_eq!(bearer(&["Negotiate", "Basic realm=x", "Bearer realm=https://r.example/t"]), expected);
        assert_eq!(bearer(&[r#"Bearer service="a\",realm=\"b",realm="https://r.example/t""#]), expected);
        assert_eq!(scheme(&[r#"Basic realm="a, Bearer realm=b""#], "https://r.example/"), Ok(Scheme::Basic));
    }

    #[test]
    fn what_cannot_be_understood_is_no_login() {
        let long = format!(r#"Bearer realm="https://r.example/{}""#, "x".repeat(9000));
        for challenge in ["", "Digest realm=x", "Bearer", r#"Bearer realm="https://r.example"#, "=,=", &long] {
            assert!(scheme(&[challenge], "https://r.example/").is_err(), "{challenge}");
        }
        assert!(scheme(&[], "https://r.example/").is_err());
    }

    #[test]
    fn a_bad_bearer_challenge_is_not_answered_with_a_password() {
        let challenges = ["Basic realm=x", r#"Bearer realm="http://r.example/token""#];

        assert!(scheme(&challenges, "https://r.example/").is_err());
    }

    #[test]
    fn realms_that_would_leak_credentials_are_refused() {
        let registry = "https://r.example/v2/";
        let refused = [
            "http://r.example/token",
            "file:///etc/passwd",
            "ftp://r.example/",
            "unix:/var/run/docker.sock",
            "https://user@r.example/token",
            "https://user:password@auth.example/token",
            "https://127.0.0.1/token",
            "https://localhost/token",
            "https://10.0.0.1/token",
            "https://192.168.0.1/token",
            "https://169.254.169.254/latest",
            "https://0.0.0.0/",
            "https://[::]/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://metadata.google.internal/",
            "/token",
            "token",
            "",
        ];

        for text in refused {
            assert!(realm(text, registry).is_err(), "{text} was accepted");
        }
        assert!(realm("https://r.example/token", registry).is_ok());
        assert!(realm("https://r.example:8443/token", registry).is_ok());
        assert!(realm("https://auth.other.example/token", registry).is_ok());
    }

    #[test]
    fn a_private_registry_may_have_a_private_token_server() {
        let accepted = [
            ("http://127.0.0.1:5001/token", "http://127.0.0.1:5000/"),
            ("http://localhost:5001/token", "http://127.0.0.1:5000/"),
            ("https://10.0.0.2/token", "https://10.0.0.1/"),
            ("http://auth/token", "http://registry:5000/"),
            ("https://auth.docker.io/token", "http://127.0.0.1:5000/"),
        ];
        let refused = [
            ("http://auth.example/token", "http://127.0.0.1:5000/"),
            ("http://127.0.0.1/token", "http://registry:5000/"),
            ("http://169.254.169.254/token", "http://127.0.0.1:5000/"),
        ];

        for (text, registry) in accepted {
            assert!(realm(text, registry).is_ok(), "{text} was refused for {registry}");
        }
        for (text, registry) in refused {
            assert!(realm(text, registry).is_err(), "{text} was accepted for {registry}");
        }
    }
}
