//! GitHub's command files: outputs, step summary, artifacts.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use super::ReportError;

/// The most bytes that a step summary may have; a larger one would not be shown at all.
const MAX_SUMMARY: usize = 900 << 10;

/// Returns the text that sets `outputs` in `GITHUB_OUTPUT`: a heredoc each, with a delimiter nobody can guess.
pub(super) fn outputs(outputs: &[(&str, String)]) -> Result<String, ReportError> {
    let mut text = String::new();
    for (name, value) in outputs {
        let delimiter = delimiter()?;
        if value.lines().any(|line| line.trim_end_matches('\r') == delimiter) {
            return Err(ReportError::Delimiter);
        }
        // The runner ends a line at LF only, so a carriage return would stay in the value.
        let value = value.replace('\r', "");
        text.extend([name, "<<", &delimiter, "\n", &value, "\n", &delimiter, "\n"]);
    }
    Ok(text)
}

fn delimiter() -> Result<String, ReportError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| ReportError::Random)?;
    Ok(format!("touchmark_{}", hex::encode(random)))
}

/// Returns the line that declares an image to the platform.
pub(super) fn artifact(repository: &str, digest: &str) -> String {
    format!("oci://{repository}@{digest}\n")
}

/// Returns the page, cut at a line if it is larger than GitHub shows.
pub(super) fn summary(page: &str) -> String {
    if page.len() <= MAX_SUMMARY {
        return page.to_owned();
    }
    let cut = page.char_indices().map(|(index, _)| index).take_while(|index| *index <= MAX_SUMMARY).last().unwrap_or(0);
    let end = page[..cut].rfind('\n').unwrap_or(cut);
    format!("{}\n\n_This page was cut: the rest is in the result document._\n", &page[..end])
}

/// Appends `text` to a file in one write.
pub(super) fn append(path: &Path, text: &str) -> Result<(), ReportError> {
    let failed = |source| ReportError::File { path: path.to_owned(), source };
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Reads a command file as the runner does (`FileCommandManager.EnvFileKeyValuePairs`).
    fn runner_reads(text: &str) -> Result<BTreeMap<String, String>, String> {
        let mut pairs = BTreeMap::new();
        let mut lines = text.split('\n').peekable();
        while let Some(line) = lines.next() {
            if line.is_empty() {
                continue;
            }
            let (equals, heredoc) = (line.find('='), line.find("<<"));
            match (equals, heredoc) {
                (Some(equals), heredoc) if heredoc.is_none_or(|heredoc| equals < heredoc) => {
                    pairs.insert(line[..equals].to_owned(), line[equals + 1..].to_owned());
                }
                (_, Some(heredoc)) => {
                    let (name, delimiter) = (&line[..heredoc], &line[heredoc + 2..]);
                    let mut value = Vec::new();
                    loop {
                        let next = lines.next().ok_or("no delimiter")?;
                        if next == delimiter {
                            break;
                        }
                        value.push(next);
                    }
                    pairs.insert(name.to_owned(), value.join("\n"));
                }
                _ => return Err(format!("invalid format: {line}")),
            }
        }
        Ok(pairs)
    }

    #[test]
    fn the_runner_reads_back_whatever_is_written() {
        let pieces =
            ["a", "=", "\n", "<<", "EOF", " ", "tags", "é", "{\"x\":1}", "\u{2028}", "::error::", "touchmark_"];
        let mut state = 7_u64;
        let mut random = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % bound
        };

        for _ in 0..20_000 {
            let value: String = (0..random(12)).map(|_| pieces[random(pieces.len())]).collect();
            let written = outputs(&[("digest", value.clone()), ("tags", "x".to_owned())]).unwrap();

            let read = runner_reads(&written).unwrap();

            assert_eq!(read, [("digest".to_owned(), value), ("tags".to_owned(), "x".to_owned())].into());
        }
    }

    #[test]
    fn a_page_that_is_too_large_is_cut_at_a_line() {
        let page = "é line\n".repeat(200_000);

        let cut = summary(&page);

        assert!(cut.len() <= 1 << 20 && cut.ends_with("result document._\n"));
        assert_eq!(summary("short\n"), "short\n");
    }
}
