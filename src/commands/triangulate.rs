//! `triangulate`: where the legacy signatures of an image are stored.

use crate::attachment::signature_tag;
use crate::ci::Environment;
use crate::cli::{SecretInputs, TriangulateArgs};
use crate::error::Error;
use crate::plan;
use crate::registry::Registry;
use crate::report::Console;

pub(super) async fn triangulate(
    args: &TriangulateArgs,
    secrets: &SecretInputs,
    environment: &Environment,
    console: &Console,
) -> Result<(), Error> {
    let target = plan::triangulate(args, secrets, environment)?;
    let digest = if let Some(digest) = target.reference.digest() {
        digest.clone()
    } else {
        let resolved = Registry::connect(&target.registry)?.resolve(&target.reference).await?;
        let reference = target.reference.to_string();
        resolved.ok_or(Error::ImageNotFound { reference })?.digest().clone()
    };
    console.data(&format!("{}:{}\n", target.reference.repository(), signature_tag(&digest)));
    Ok(())
}
