//! GitLab's report files: dotenv variables and annotations.

use serde_json::json;

use super::ResultDocument;

/// Returns the dotenv report: scalars only, because its values can hold neither spaces nor line ends.
///
/// `IMAGE_DIGEST` is the name under which GitLab itself looks for an image to attest.
pub(super) fn dotenv(document: &ResultDocument) -> String {
    const LONGEST: usize = 5 << 10;
    let tags = document.tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let variables = [
        ("IMAGE_DIGEST", document.image.clone().unwrap_or_default()),
        ("TOUCHMARK_DIGEST", document.digest.clone().unwrap_or_default()),
        ("TOUCHMARK_IMAGE", document.image.clone().unwrap_or_default()),
        ("TOUCHMARK_TAGS", tags),
    ];
    let mut text = String::new();
    for (name, value) in variables {
        let plain =
            !value.is_empty() && !value.contains(|character: char| character.is_whitespace() || character == '"');
        let line = format!("{name}={value}\n");
        if plain && text.len() + line.len() <= LONGEST {
            text.push_str(&line);
        }
    }
    text
}

/// Returns the annotations report: a link on the job's page.
pub(super) fn annotations(document: &ResultDocument) -> String {
    let (Some(image), Some(repository)) = (&document.image, &document.repository) else { return "{}\n".to_owned() };
    let link = json!({ "external_link": { "label": image, "url": format!("https://{repository}") } });
    format!("{}\n", json!({ "Signed image": [link] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotenv_follows_gitlabs_rules() {
        let mut document = ResultDocument::new();
        document.digest = Some("sha256:abc".to_owned());
        document.image = Some("registry.gitlab.com/a/b@sha256:abc".to_owned());
        document.tags = vec!["v1".parse().unwrap(), "latest".parse().unwrap()];

        let text = dotenv(&document);

        assert_eq!(
            text,
            "IMAGE_DIGEST=registry.gitlab.com/a/b@sha256:abc\nTOUCHMARK_DIGEST=sha256:abc\n\
             TOUCHMARK_IMAGE=registry.gitlab.com/a/b@sha256:abc\nTOUCHMARK_TAGS=v1,latest\n"
        );
    }
}
