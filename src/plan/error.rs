//! Inputs that do not make a plan.

use crate::oci::ParseReferenceError;
use crate::source::ParseSourceError;

/// The inputs do not make a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// No image was named.
    #[error("input `image` is required")]
    NoImage,
    /// The `image` input does not name a repository.
    #[error("input `image` is not a repository: `{value}`")]
    Image {
        /// What was given.
        value: String,
        /// What is wrong with it.
        source: ParseReferenceError,
    },
    /// An image on the command line is not a reference.
    #[error("`{value}` is not the name of an image")]
    Reference {
        /// What was given.
        value: String,
        /// What is wrong with it.
        source: ParseReferenceError,
    },
    /// A digest in `image`, and a source that has a digest of its own.
    #[error("input `image` names a digest, but the image that is pushed has its own")]
    ImageDigest,
    /// The `tags` input holds something else.
    #[error("input `tags` holds `{value}`")]
    Tag {
        /// What was given.
        value: String,
        /// What is wrong with it.
        source: ParseReferenceError,
    },
    /// The `source` input is none of the known forms.
    #[error("input `source` cannot be read")]
    Source {
        /// What is wrong with it.
        #[from]
        source: ParseSourceError,
    },
    /// The source is in another repository than the image.
    #[error("the source `{from}` is in another repository than `{to}`")]
    OtherRepository {
        /// Where the source is.
        from: String,
        /// Where the image goes.
        to: String,
    },
    /// No source, and nothing that says which image in the registry is meant.
    #[error("there is neither a `source` to push nor a tag or digest of an image in the registry")]
    NothingToSign,
    /// The `sign` input is not one of its words.
    #[error("input `sign` is `{value}`")]
    Sign {
        /// What was given.
        value: String,
    },
    /// Signing with the job's identity is not there yet.
    #[error("signing without a key is not available in this version")]
    Keyless,
    /// Signing with a key, and no key.
    #[error("there is no key to sign with")]
    NoKey,
    /// The key itself was given, where its place belongs.
    #[error("input `key` holds the key itself, which would end up in logs")]
    KeyInClear,
    /// A key in a service that is not supported.
    #[error("keys from `{scheme}://` are not available in this version")]
    KeyScheme {
        /// The scheme.
        scheme: String,
    },
    /// A variable that should hold the key does not.
    #[error("the variable `{name}` does not hold a key: it is not set")]
    KeyVariable {
        /// The variable.
        name: String,
    },
    /// An annotation that is not a pair.
    #[error("`{value}` is not an annotation")]
    Annotation {
        /// What was given.
        value: String,
    },
    /// The `format` input is not one of its words.
    #[error("input `format` is `{value}`")]
    Format {
        /// What was given.
        value: String,
    },
    /// The `transparency` input is not one of its words, or not there yet.
    #[error("input `transparency` is `{value}`")]
    Transparency {
        /// What was given.
        value: String,
    },
    /// A flag of cosign that asks for a log or services.
    #[error("`{flag}` asks for a transparency log, which signing with a key does not write to in this version")]
    Log {
        /// The flag.
        flag: &'static str,
    },
    /// `registry-auth` is not the YAML that it must be.
    #[error("input `registry-auth` is not a list of `registry`, `username` and `password` ({reason})")]
    RegistryAuth {
        /// Where it is not.
        reason: String,
    },
    /// A user name without a password.
    #[error("there is a `username`, but no `password`")]
    NoPassword,
    /// A repository to mount from that is none.
    #[error("input `mount-from` holds `{value}`")]
    MountFrom {
        /// What was given.
        value: String,
        /// What is wrong with it.
        source: ParseReferenceError,
    },
}

impl PlanError {
    /// Returns what to type, where that is known.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoImage => "write the repository and a tag, for example `image: ghcr.io/acme/app:1.2.3`",
            Self::Image { source, .. } | Self::Reference { source, .. } | Self::MountFrom { source, .. } => {
                return source.hint();
            }
            Self::Source { source } => return source.hint(),
            Self::ImageDigest => "write `image` with a tag, or without both",
            Self::Tag { .. } => "write one tag a line, without the repository",
            Self::OtherRepository { .. } => "sign it where it is: give its own repository as `image`",
            Self::NothingToSign => "give `source`, for example `source: oci:image/`, or a tag in `image`",
            Self::Sign { .. } => "write `key` or `false`",
            Self::Keyless => "give a `key`, or write `sign: false`",
            Self::NoKey => "give `key`, for example `key: env://COSIGN_PRIVATE_KEY`, or write `sign: false`",
            Self::KeyInClear => "put the key into a secret variable and write `key: env://NAME`",
            Self::KeyScheme { .. } => "give a file or `env://NAME`",
            Self::KeyVariable { name } => {
                return Some(format!("pass it to this step: `env: {name}: ${{{{ secrets.{name} }}}}`"));
            }
            Self::Annotation { .. } => "write `KEY=VALUE`, or `auto`",
            Self::Format { .. } => "write `both`, `bundle` or `legacy`",
            Self::Transparency { .. } => "write `none`: with a key, nothing is written to a log in this version",
            Self::Log { .. } => "leave it out, or write it with `=false`",
            Self::RegistryAuth { .. } => "write `- registry: ghcr.io`, and below it `username: …` and `password: …`",
            Self::NoPassword => "pass the password as the `password` input (TOUCHMARK_PASSWORD)",
        };
        Some(text.to_owned())
    }
}
