//! Text from elsewhere, made harmless for where it is shown: a job's log, a summary page, a shell command.

/// Returns `text` so that no CI platform takes it for a command and no terminal obeys it.
///
/// GitHub executes `::command::` at the start of a line and `##[command]` anywhere in one; Azure executes `##vso[`.
pub fn log(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let line: String = line.chars().map(|character| if is_unsafe(character) { ' ' } else { character }).collect();
        let line = line.replace("##[", "##\u{200b}[").replace("##vso[", "##\u{200b}vso[");
        let trimmed = line.trim_start();
        if trimmed.starts_with("::") {
            safe.push_str(&line[..line.len() - trimmed.len()]);
            safe.push('\u{200b}');
            safe.push_str(trimmed);
        } else {
            safe.push_str(&line);
        }
        safe.push_str(end);
    }
    safe
}

/// Control characters, and those that change the direction of what follows.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{2028}' | '\u{2029}')
}

/// Escapes the data of a GitHub workflow command.
pub fn command_data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a GitHub workflow command.
pub fn command_property(text: &str) -> String {
    command_data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Escapes text for a Markdown page, a table's cell included: it shows as it is and does nothing.
pub fn markdown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '(' | ')' | '#' | '!' | '\\' | '~' | '@' | '$' => {
                safe.push_str("&#");
                safe.push_str(&u32::from(character).to_string());
                safe.push(';');
            }
            character if is_unsafe(character) => safe.push(' '),
            character => safe.push(character),
        }
    }
    safe
}

/// Quotes a word for a POSIX shell.
pub fn shell(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=/.,:@+%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What GitHub's runner takes for a command: `::name` at the start of a trimmed line, `##[` anywhere.
    fn runner_obeys(line: &str) -> bool {
        line.trim_start().starts_with("::") || line.contains("##[")
    }

    #[test]
    fn no_text_can_form_a_workflow_command() {
        let corpus = [
            "::set-env name=A::b",
            "  ::error::x",
            "x ##[error]y",
            "a\r\n::add-path::/evil",
            "a\n\t::stop-commands::x",
            "##vso[task.setvariable variable=x]y",
            "\u{1b}[31m::error::",
            "\u{feff}::error::x",
        ];

        for text in corpus {
            let safe = log(text);

            assert!(!safe.split('\n').any(runner_obeys), "{safe:?}");
            assert!(!safe.contains('\u{1b}') && !safe.contains('\r') && !safe.contains("##vso["), "{safe:?}");
        }
        assert_eq!(log("pushed ghcr.io/acme/app::x (3 blobs)"), "pushed ghcr.io/acme/app::x (3 blobs)");
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        assert_eq!(shell("sha=abc"), "sha=abc");
        assert_eq!(shell("a b$(x)'y"), r"'a b$(x)'\''y'");
        assert_eq!(shell(""), "''");
    }

    #[test]
    fn markdown_shows_text_and_nothing_else() {
        assert_eq!(markdown("<img src=x>|`a`\n[l](u)"), "&lt;img src=x&gt;&#124;&#96;a&#96; &#91;l&#93;&#40;u&#41;");
    }
}
