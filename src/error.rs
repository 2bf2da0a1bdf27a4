//! One error for every stage, with its exit status and its hint.

use std::fmt;

use crate::attachment::AttachError;
use crate::cli::InputError;
use crate::plan::PlanError;
use crate::registry::RegistryError;
use crate::sign::SignError;
use crate::source::SourceError;
use crate::verify::VerifyError;

/// What a stage failed with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or the step's inputs cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The inputs do not make a plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The source image cannot be read, or is not what it says it is.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The registry refused, failed, or cannot be reached.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// There is nothing under the reference that was given.
    #[error("there is no image at `{reference}`")]
    ImageNotFound {
        /// The reference, as it was given.
        reference: String,
    },
    /// The key cannot be used.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A signature could not be stored beside its image.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// What the registry serves was not verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The work is done, but it could not be reported.
    #[error("the outputs could not be written")]
    Outputs {
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What to do about it.
        hint: Option<String>,
    },
}

impl Error {
    /// Returns the exit status of the process.
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Input(_) | Self::Plan(_) | Self::Sign(_) => ExitStatus::Inputs,
            Self::Source(_) => ExitStatus::Source,
            Self::Registry(error) if error.is_source() => ExitStatus::Source,
            Self::Registry(_) => ExitStatus::Registry,
            Self::ImageNotFound { .. } => ExitStatus::ImageNotFound,
            Self::Attach(error) if error.is_registry() => ExitStatus::Registry,
            Self::Attach(_) => ExitStatus::Attach,
            Self::Verify(error) => match error {
                VerifyError::NoSignatures { .. } => ExitStatus::NoSignatures,
                VerifyError::ImageNotFound { .. } => ExitStatus::ImageNotFound,
                VerifyError::NotSatisfied { .. } => ExitStatus::NotSatisfied,
                VerifyError::CouldNotVerify { .. } => ExitStatus::CouldNotVerify,
            },
            Self::Outputs { .. } => ExitStatus::Outputs,
        }
    }

    /// Returns what to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Input(error) => error.hint(),
            Self::Plan(error) => error.hint(),
            Self::Source(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::ImageNotFound { .. } => None,
            Self::Sign(error) => error.hint(),
            Self::Attach(error) => error.hint(),
            Self::Verify(error) => error.hint(),
            Self::Outputs { hint, .. } => hint.clone(),
        }
    }
}

/// The exit status of the process: public and stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Everything that was asked for is done.
    Done = 0,
    /// A bug in touchmark.
    Bug = 1,
    /// The inputs are wrong, a key included.
    Inputs = 2,
    /// No signature or attestation was found.
    NoSignatures = 10,
    /// The image or tag was not found.
    ImageNotFound = 11,
    /// Signatures were found, but none satisfies the policy.
    NotSatisfied = 12,
    /// The source image cannot be read, or is not what it says it is.
    Source = 20,
    /// The registry or its login failed.
    Registry = 21,
    /// There is no identity to sign with.
    Identity = 22,
    /// A signing service failed.
    Service = 23,
    /// A signature could not be attached.
    Attach = 24,
    /// Verification could not be carried out.
    CouldNotVerify = 25,
    /// The outputs could not be written.
    Outputs = 30,
}

impl ExitStatus {
    /// Returns the number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.code().fmt(f)
    }
}
