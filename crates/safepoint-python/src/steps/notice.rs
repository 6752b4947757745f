//! What steps tell whoever watches them.

use pyo3::prelude::*;
use safepoint::steps::Notice;

/// Something that happened to a step, a stage or an effect. `str()` is a line to print.
#[pyclass(frozen, name = "StepsNotice", module = "safepoint")]
pub(crate) struct PyNotice(Notice);

impl PyNotice {
    pub(super) fn of(notice: &Notice) -> Self {
        Self(notice.clone())
    }
}

#[pymethods]
impl PyNotice {
    #[getter]
    fn event(&self) -> &'static str {
        match &self.0 {
            Notice::Resumed { .. } => "resumed",
            Notice::Starting { .. } => "starting",
            Notice::Complete { .. } => "complete",
            Notice::Skipped { .. } => "skipped",
            Notice::Interrupted { .. } => "interrupted",
            Notice::RunsAgain { .. } => "runs_again",
            Notice::Failed { .. } => "failed",
            Notice::NamesChanged { .. } => "names_changed",
            Notice::EffectStarting { .. } => "effect_starting",
            Notice::EffectComplete { .. } => "effect_complete",
            Notice::EffectSkipped { .. } => "effect_skipped",
            Notice::EffectInDoubt { .. } => "effect_in_doubt",
            Notice::EffectHeld { .. } => "effect_held",
            _ => "other",
        }
    }

    /// The whole name of the step, stage or scope, or key of the effect; empty for the outermost scope, `None` for a run.
    #[getter]
    fn name(&self) -> Option<&str> {
        match &self.0 {
            Notice::Starting { name }
            | Notice::Complete { name, .. }
            | Notice::Skipped { name, .. }
            | Notice::Interrupted { name, .. }
            | Notice::RunsAgain { name, .. }
            | Notice::Failed { name, .. }
            | Notice::NamesChanged { scope: name, .. }
            | Notice::EffectStarting { key: name }
            | Notice::EffectComplete { key: name, .. }
            | Notice::EffectSkipped { key: name, .. }
            | Notice::EffectInDoubt { key: name, .. }
            | Notice::EffectHeld { key: name, .. } => Some(name),
            _ => None,
        }
    }

    /// The run that it is about, where it is about one.
    #[getter]
    fn run(&self) -> Option<u32> {
        match &self.0 {
            Notice::Resumed { run, .. }
            | Notice::Skipped { run, .. }
            | Notice::Interrupted { run, .. }
            | Notice::RunsAgain { run, .. }
            | Notice::Failed {
                memoised_in: Some(run),
                ..
            }
            | Notice::EffectSkipped { run, .. }
            | Notice::EffectInDoubt { run, .. }
            | Notice::EffectHeld { run, .. } => Some(*run),
            _ => None,
        }
    }

    /// How long it took, where it is complete.
    #[getter]
    fn seconds(&self) -> Option<f64> {
        match &self.0 {
            Notice::Complete { took, .. } | Notice::EffectComplete { took, .. } => {
                Some(took.as_secs_f64())
            }
            _ => None,
        }
    }

    /// The error of what failed.
    #[getter]
    fn error(&self) -> Option<&str> {
        match &self.0 {
            Notice::Failed { error, .. } => Some(error),
            _ => None,
        }
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("<StepsNotice: {}>", self.0)
    }
}
