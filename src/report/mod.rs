//! Tell them: the log, the result document, the outputs, the summary. Writes only; decides nothing.

mod console;
pub mod escaping;
mod github;
mod gitlab;
mod outputs;
mod progress;
mod summary;

use std::path::{Path, PathBuf};

pub use console::{Console, describe};
pub use outputs::{ErrorEntry, ResultDocument, SignatureEntry, SignerEntry, Stage, Status, VerifiedEntry};
pub use progress::ProgressDisplay;

use crate::attachment::{Attached, Outcome};
use crate::error::Error;
use crate::oci::{Manifest, PinnedReference, Tag};
use crate::plan::{ReportPlan, Summary};
use crate::registry::PushedImage;
use crate::sigstore::PublicKey;
use crate::verify::Verified;

/// Collects what happened, tells it as it happens, and publishes it at the end.
#[derive(Debug)]
pub struct Report {
    plan: ReportPlan,
    console: Console,
    document: ResultDocument,
}

impl Report {
    /// Starts a report about nothing.
    pub fn new(plan: ReportPlan, console: Console) -> Self {
        Self { plan, console, document: ResultDocument::new() }
    }

    /// Returns the console that it writes to.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Returns what is known so far.
    pub fn document(&self) -> &ResultDocument {
        &self.document
    }

    /// Records that the image was pushed.
    pub fn record_push(&mut self, pushed: &PushedImage) {
        let statistics = pushed.statistics;
        self.document.push = Some(statistics);
        let mut measures = vec![counted(statistics.blobs_uploaded, "blob")];
        if statistics.blobs_mounted > 0 {
            measures.push(format!("{} mounted", statistics.blobs_mounted));
        }
        if statistics.blobs_present > 0 {
            measures.push(format!("{} there already", statistics.blobs_present));
        }
        measures.push(size(statistics.bytes_uploaded));
        self.console.line(&format!("pushed {} ({})", pushed.image, measures.join(", ")));
        self.record_image(&pushed.image, &pushed.manifest);
    }

    /// Records that the image was found in the registry.
    pub fn record_found(&mut self, image: &PinnedReference, manifest: &Manifest) {
        self.console.line(&format!("found {image}"));
        self.record_image(image, manifest);
    }

    fn record_image(&mut self, image: &PinnedReference, manifest: &Manifest) {
        let document = &mut self.document;
        document.stage = Stage::Pushed;
        document.repository = Some(image.repository().clone());
        document.digest = Some(image.digest().to_string());
        document.image = Some(image.to_string());
        document.media_type = Some(manifest.media_type().to_owned());
        let children = manifest.as_index().map(|index| index.manifests.as_slice()).unwrap_or_default();
        for child in children.iter().filter(|child| !child.is_attestation_manifest()) {
            let name = outputs::platform_name(child.platform.as_ref());
            document.platforms.insert(name, child.digest.to_string());
        }
    }

    /// Records who signs, and what.
    pub fn record_signer(&mut self, key: &PublicKey, annotations: &std::collections::BTreeMap<String, String>) {
        self.document.annotations = annotations.clone();
        self.document.signer = Some(SignerEntry {
            algorithm: key.algorithm().to_string(),
            key_hint: key.hint(),
            public_key: key.to_pem(),
        });
    }

    /// Records that `image` is signed. What was attached is the evidence, so it must be shown.
    pub fn record_signature(&mut self, image: &PinnedReference, attached: &[(&'static str, Attached)]) {
        self.document.stage = Stage::Signed;
        let mut told = Vec::new();
        for (format, attached) in attached {
            let added = attached.outcome == Outcome::Added;
            let digest = attached.manifest.digest();
            told.push(format!("{format} {}{}", digest.short(), if added { "" } else { " there already" }));
            self.document.signatures.push(SignatureEntry {
                subject: image.digest().to_string(),
                format,
                digest: digest.to_string(),
                added,
            });
        }
        self.console.line(&format!("signed {image} ({})", told.join(", ")));
    }

    /// Records that `verified` is what the registry serves.
    pub fn record_verification(&mut self, verified: &Verified) {
        self.document.stage = Stage::Verified;
        let mut stores: Vec<_> = verified.signatures().iter().map(|signature| signature.store).collect();
        stores.dedup();
        let count = verified.signatures().len() as u64;
        self.console.line(&format!("verified {} ({})", verified.image(), counted(count, "signature")));
        for note in verified.notes() {
            self.console.warning(note);
        }
        self.document.verified.push(VerifiedEntry { subject: verified.image().digest().to_string(), stores });
    }

    /// Records that a tag points at the image.
    pub fn record_tag(&mut self, image: &PinnedReference, tag: &Tag) {
        self.document.stage = Stage::Tagged;
        self.console.line(&format!("tagged {}:{tag} ({})", image.repository(), image.digest().short()));
        self.document.tags.push(tag.clone());
    }

    /// Publishes the report of work that is done: document, outputs, summary, the platform's own declarations.
    pub fn publish(&mut self) -> Result<(), ReportError> {
        self.document.status = Status::Done;
        self.document.verify_commands = summary::verify_commands(&self.document);
        self.write_document()?;
        if let Some(files) = &self.plan.github {
            let result = self.plan.result.as_deref().map(Path::to_string_lossy);
            if let Some(path) = &files.output {
                github::append(path, &github::outputs(&self.document.outputs(result.as_deref()))?)?;
            }
            if let Some(path) = files.summary.as_ref().filter(|_| self.plan.summary == Summary::Written) {
                github::append(path, &github::summary(&summary::page(&self.document)))?;
            }
            let declared = self.document.repository.as_ref().zip(self.document.digest.as_ref());
            if let (Some(path), Some((repository, digest))) = (&files.artifacts, declared) {
                github::append(path, &github::artifact(&repository.to_string(), digest))?;
            }
        }
        if let Some(files) = &self.plan.gitlab {
            replace(&files.dotenv, &gitlab::dotenv(&self.document))?;
            replace(&files.annotations, &gitlab::annotations(&self.document))?;
        }
        if let Some(command) = self.document.verify_commands.first() {
            self.console.line(&format!("verify it with: {command}"));
        }
        Ok(())
    }

    /// Publishes the report of work that failed: the error, and what exists all the same. Sets no output.
    pub fn publish_failure(&mut self, error: &Error) {
        let hint = error.hint();
        self.document.status = Status::Failed;
        self.document.verify_commands = summary::verify_commands(&self.document);
        self.document.error = Some(ErrorEntry {
            exit_status: error.exit_status().code(),
            messages: describe(error, None),
            hint: hint.clone(),
        });
        self.console.error(error, hint.as_deref());
        self.console.line(&format!("  state: {}", self.state()));
        if let Err(unwritten) = self.write_document() {
            self.console.error(&unwritten, unwritten.hint().as_deref());
        }
    }

    /// Returns what exists, in words.
    fn state(&self) -> String {
        let image = self.document.image.as_deref().unwrap_or("the image");
        match self.document.stage {
            Stage::Planned => "nothing that a tag points at was changed".to_owned(),
            Stage::Pushed => format!("{image} is pushed, not signed; no tag was moved"),
            Stage::Signed => format!("{image} is pushed and signed, not verified; no tag was moved"),
            Stage::Verified => format!("{image} is pushed, signed and verified; no tag was moved"),
            Stage::Tagged => {
                let tags: Vec<_> = self.document.tags.iter().map(ToString::to_string).collect();
                format!("{image} is published; tags that were moved: {}", tags.join(", "))
            }
        }
    }

    fn write_document(&self) -> Result<(), ReportError> {
        let Some(path) = &self.plan.result else { return Ok(()) };
        let mut text = serde_json::to_string_pretty(&self.document).unwrap_or_default();
        text.push('\n');
        replace(path, &text)
    }
}

/// Writes a file as a whole, or not at all.
fn replace(path: &Path, text: &str) -> Result<(), ReportError> {
    let failed = |source| ReportError::File { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().permissions(permissions()).tempfile_in(folder).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn permissions() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}

/// Returns a size for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut whole, mut tenths, mut unit) = (bytes, 0, 0);
    for (index, _) in UNITS.iter().enumerate() {
        tenths = (whole % 1024) * 10 / 1024;
        whole /= 1024;
        unit = index;
        if whole < 1024 {
            break;
        }
    }
    format!("{whole}.{tenths} {}", UNITS[unit])
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// What happened could not be told.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be written.
    #[error("cannot write `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A value holds the delimiter that was just drawn.
    #[error("an output holds its own delimiter")]
    Delimiter,
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random,
}

impl ReportError {
    /// Returns what to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        use std::io::ErrorKind::{NotFound, PermissionDenied, StorageFull};
        match self {
            Self::File { source, .. } if source.kind() == PermissionDenied => Some(
                "run the container as the user that owns the file: GitHub's files need root, so set no `--user`"
                    .to_owned(),
            ),
            Self::File { source, .. } if source.kind() == NotFound => {
                Some("mount the folder of that file into the container".to_owned())
            }
            Self::File { source, .. } if source.kind() == StorageFull => {
                Some("free some space and re-run the job: the image is published, and nothing is done twice".to_owned())
            }
            _ => None,
        }
    }
}

impl From<ReportError> for Error {
    fn from(error: ReportError) -> Self {
        let hint = error.hint();
        Self::Outputs { source: Box::new(error), hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        let table = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (43_253_760, "41.2 MiB"), (10 << 30, "10.0 GiB")];

        for (bytes, text) in table {
            assert_eq!(size(bytes), text);
        }
    }
}
