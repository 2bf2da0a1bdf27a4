//! The command line: one struct for each group of flags. The names of `publish`'s flags are the names of the inputs.
//!
//! No argument holds a secret, and none reads the environment: see `step_inputs`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::value::{boolean, duration};

/// Push a container image, sign it, verify what the registry serves, and only then move the tag.
#[derive(Debug, Parser)]
#[command(name = "touchmark", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do. In a CI job with inputs, `publish` is meant where nothing is written.
    #[command(subcommand)]
    pub command: Command,
    /// Say what is done in detail, on stderr.
    #[arg(short = 'd', long, global = true)]
    pub verbose: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Push an image by digest, sign it, verify what the registry serves, then move the tags.
    Publish(Box<PublishArgs>),
    /// Sign images that are in a registry.
    Sign(SignArgs),
    /// Verify the signatures of images in a registry.
    Verify(VerifyArgs),
    /// Generate a key pair: `cosign.key`, encrypted, and `cosign.pub`.
    GenerateKeyPair(GenerateKeyPairArgs),
    /// Print the public key of a private key.
    PublicKey(PublicKeyArgs),
    /// Print where the legacy signatures of an image are stored.
    Triangulate(TriangulateArgs),
    /// List the variables that are read, secrets masked.
    Env(EnvArgs),
    /// Print the version.
    Version,
}

/// Arguments of `publish`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct PublishArgs {
    /// Repository to publish to, with or without a tag, for example `ghcr.io/acme/app:1.2.3`.
    #[arg(long, help_heading = "Image")]
    pub image: Option<String>,
    /// More tags for the image, one a line.
    #[arg(long, value_name = "TAG", help_heading = "Image")]
    pub tags: Vec<String>,
    /// Where the built image is: `oci:DIR[:REF]`, `oci-archive:FILE`, `docker-archive:FILE`, `docker-daemon:NAME`,
    /// `registry:REF`, or the path of a layout or archive. Without it the image must be in the registry already.
    #[arg(long, help_heading = "Image")]
    pub source: Option<String>,
    /// Name to log in to the registry with; the password is the `password` input.
    #[arg(long, help_heading = "Registry")]
    pub username: Option<String>,
    /// PEM file of a certificate authority to trust beside the system's.
    #[arg(long, value_name = "FILE", help_heading = "Registry")]
    pub registry_ca: Option<PathBuf>,
    /// Speak plain HTTP to the registry. Loopback needs no permission.
    #[arg(long, value_parser = boolean, num_args = 0..=1, default_value = "false", default_missing_value = "true", help_heading = "Registry", action = ArgAction::Set)]
    pub insecure: bool,
    /// How long an outage of a service is ridden out.
    #[arg(long, value_parser = duration, value_name = "DURATION", default_value = "10m", help_heading = "Registry")]
    pub retry_for: Duration,
    /// How many blobs are moved at a time.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64), default_value = "16", help_heading = "Registry")]
    pub jobs: u8,
    /// Repositories in the same registry that may hold layers already, one a line.
    #[arg(long, value_name = "REPOSITORY", help_heading = "Registry")]
    pub mount_from: Vec<String>,
    /// How to sign: `key` or `false`. Without it, `key` if a key is given.
    #[arg(long, value_name = "HOW", help_heading = "Signature")]
    pub sign: Option<String>,
    /// Private key: a file or `env://NAME`; its password is the `key-password` input.
    #[arg(long, help_heading = "Signature")]
    pub key: Option<String>,
    /// Signed annotations, `KEY=VALUE` a line; `auto` adds the commit, the run, the ref and more of the job.
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Signature")]
    pub annotations: Vec<String>,
    /// Storage formats to write: `both`, `bundle` (cosign 3) or `legacy` (cosign 2).
    #[arg(long, default_value = "both", help_heading = "Signature")]
    pub format: String,
    /// Transparency log: `none` with a key.
    #[arg(long, help_heading = "Signature")]
    pub transparency: Option<String>,
    /// Sign every platform image of an index too.
    #[arg(long, value_parser = boolean, num_args = 0..=1, default_value = "true", default_missing_value = "true", help_heading = "Signature", action = ArgAction::Set)]
    pub recursive: bool,
    /// Verify from the registry before the tags move.
    #[arg(long, value_parser = boolean, num_args = 0..=1, default_value = "true", default_missing_value = "true", help_heading = "Verification", action = ArgAction::Set)]
    pub verify: bool,
    /// File that receives the result document.
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub output_file: Option<PathBuf>,
    /// Write the job summary.
    #[arg(long, value_parser = boolean, num_args = 0..=1, default_value = "true", default_missing_value = "true", help_heading = "Report", action = ArgAction::Set)]
    pub summary: bool,
    /// Print the plan as JSON and touch nothing.
    #[arg(long, value_parser = boolean, num_args = 0..=1, default_value = "false", default_missing_value = "true", help_heading = "Report", action = ArgAction::Set)]
    pub dry_run: bool,
}

/// How registries are reached by the commands that cosign has too.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registry")]
pub struct RegistryArgs {
    /// Speak plain HTTP to the registry. Loopback needs no permission.
    #[arg(long, value_parser = boolean, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub allow_http_registry: bool,
    /// As `--allow-http-registry`. Certificates are verified all the same.
    #[arg(long, value_parser = boolean, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub allow_insecure_registry: bool,
    /// Name to log in with; the password is read from `TOUCHMARK_PASSWORD`.
    #[arg(long, value_name = "NAME")]
    pub registry_username: Option<String>,
    /// PEM file of a certificate authority to trust beside the system's.
    #[arg(long, value_name = "FILE")]
    pub registry_cacert: Option<PathBuf>,
    /// How long an outage of the registry is ridden out.
    #[arg(long, value_parser = duration, value_name = "DURATION", default_value = "10m")]
    pub retry_for: Duration,
}

/// Arguments of `sign`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct SignArgs {
    /// Images to sign. A tag is resolved once, and its digest is signed.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Private key: a file or `env://NAME`; its password is read from `COSIGN_PASSWORD`.
    #[arg(long, required = true)]
    pub key: Option<String>,
    /// Signed annotations.
    #[arg(short = 'a', long, value_name = "KEY=VALUE")]
    pub annotations: Vec<String>,
    /// Sign every platform image of an index too.
    #[arg(short = 'r', long, value_parser = boolean, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub recursive: bool,
    /// Storage formats to write: `both`, `bundle` (cosign 3) or `legacy` (cosign 2).
    #[arg(long)]
    pub format: Option<String>,
    /// `true` for `--format bundle`, `false` for `--format legacy`.
    #[arg(long, value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", conflicts_with = "format", action = ArgAction::Set)]
    pub new_bundle_format: Option<bool>,
    /// Nothing is asked for confirmation, so this changes nothing.
    #[arg(short = 'y', long)]
    pub yes: bool,
    /// `false`: signing with a key writes to no log.
    #[arg(long, value_parser = boolean, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub tlog_upload: bool,
    /// `false`: signing with a key needs no services.
    #[arg(long, value_parser = boolean, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = ArgAction::Set)]
    pub use_signing_config: bool,
    /// How registries are reached.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Images to verify. A tag is resolved once, and its digest is verified.
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Public key: a file or `env://NAME`.
    #[arg(long, required = true)]
    pub key: Option<String>,
    /// Annotations that the signature must have.
    #[arg(short = 'a', long, value_name = "KEY=VALUE")]
    pub annotations: Vec<String>,
    /// How to print what was verified.
    #[arg(short = 'o', long, default_value = "json")]
    pub output: VerifyOutput,
    /// Check that the signature is over this image's digest. Without it, only the signature itself is checked.
    #[arg(long, value_parser = boolean, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    pub check_claims: bool,
    /// Accepted: with a key, no log is looked at.
    #[arg(long, value_parser = boolean, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    pub insecure_ignore_tlog: bool,
    /// Accepted: every storage format is looked at.
    #[arg(long, value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub new_bundle_format: Option<bool>,
    /// Accepted: nothing but the registry is asked.
    #[arg(long, value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub offline: Option<bool>,
    /// How registries are reached.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// How `verify` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerifyOutput {
    /// An array of what was signed.
    Json,
    /// What was signed, one a line.
    Text,
}

/// Arguments of `generate-key-pair`.
#[derive(Debug, Args)]
pub struct GenerateKeyPairArgs {
    /// Path of both files, without their extensions.
    #[arg(long, value_name = "PREFIX", default_value = "cosign")]
    pub output_key_prefix: PathBuf,
}

/// Arguments of `public-key`.
#[derive(Debug, Args)]
pub struct PublicKeyArgs {
    /// Private key: a file or `env://NAME`.
    #[arg(long, required = true)]
    pub key: Option<String>,
    /// File that receives the public key, instead of stdout. It must not exist.
    #[arg(long, value_name = "FILE")]
    pub outfile: Option<PathBuf>,
}

/// Arguments of `triangulate`.
#[derive(Debug, Args)]
pub struct TriangulateArgs {
    /// The image.
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// How registries are reached.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Arguments of `env`.
#[derive(Debug, Args)]
pub struct EnvArgs {
    /// Leave out what each variable is for.
    #[arg(long = "show-descriptions", value_parser = boolean, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = ArgAction::Set)]
    pub show_descriptions: bool,
}
