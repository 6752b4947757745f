//! Steps that run once, and effects that are never repeated by mistake.
//!
//! A *step* is a named piece of a program. Its result is recorded when it returns, and whenever the program is started again the recorded result
//! is given instead of running it. So a program that is stopped, killed or unplugged in the middle goes on where it was, with ordinary code: loops,
//! branches and threads, and a name for each piece.
//!
//! # Example
//!
//! ```
//! use safepoint::{Shutdown, Steps};
//!
//! # fn prepare() -> safepoint::Result<Vec<u32>> { Ok(vec![3, 1, 2]) }
//! # fn measure(sample: u32) -> safepoint::Result<f64> { Ok(f64::from(sample) / 2.0) }
//! # fn main() -> safepoint::Result<()> {
//! # let directory = tempfile::tempdir().expect("a directory");
//! # let directory = directory.path().join("experiment");
//! let shutdown = Shutdown::builder().install()?;
//! let steps = Steps::builder(&directory)
//!     .token(&shutdown.token()) // a stop waits for the steps in progress, and no other begins
//!     .on_notice(|notice| println!("{notice}")) // Stage: prepare - Complete (0.2s)
//!     .open()?;
//! let Some(samples) = steps.step("prepare", prepare)? else { return Ok(()) }; // `None` once a stop was asked for
//! let runs = steps.scope("runs");
//! for sample in samples {
//!     let Some(result) = runs.step(format!("sample-{sample}"), || measure(sample))? else { break };
//!     println!("{sample}: {result}");
//! }
//! steps.close()?;
//! # shutdown.finish();
//! # Ok(())
//! # }
//! ```
//!
//! What a step does should be safe to do again, for a step that was cut off runs again. What must not be done twice (a payment, a mail) is an
//! [effect](Scope::effect): its intent is recorded before, its completion after, and what was cut off in between is resolved as its author chose.
//!
//! # Invariants
//!
//! 1. When a step returns a result, that result is durable, and it is what every later run gets: also the first run is given what was read back.
//! 2. A step whose result is recorded does not run. A step that returned an error, panicked, or was cut off is not recorded, unless its errors
//!    are [memoised](Step::memoise_errors).
//! 3. A name means one step: asked for twice in a run, the second is refused before its body runs. Only if a step, effect or stage around it failed, it may be
//!    asked for again, and what is recorded of it is given.
//! 4. The body of an effect begins after its intent is durable. An effect is repeated only if its author or a person said so.
//! 5. After a failed write nothing begins any more.
//!
//! Lock order: the index and the set of asked effects are each taken alone. Bodies, checks and observers are called without any lock held.
//!
//! A body that is no closure, such as a future, has the long form: [`Step::begin`], [`Scope::begin_effect`], [`Scope::begin_stage`], and the ends of what they
//! give.
//!
//! Deliberately absent: waiting for a sync without a thread (an end blocks; call it from a thread that may), dependencies between steps (that is what code is for), a
//! limit of time (see [`shutdown`](crate::shutdown)), attempts (a loop around a step that failed asks for it again), other machines, and the
//! deletion of effects.

mod builder;
mod doubt;
mod effect;
mod effect_in_progress;
mod index;
mod inside;
mod name;
mod notice;
mod owner;
mod report;
mod room;
mod scope;
mod stage;
mod step;
mod step_in_progress;
mod value;

pub use builder::Builder;
pub use doubt::{Answer, InDoubt, Resolution, resolve};
pub use effect::{Effect, Intent};
pub use effect_in_progress::{EffectBegin, EffectInDoubt, EffectInProgress};
pub use inside::Within;
pub use name::MAX_NAME;
pub use notice::Notice;
pub use owner::Steps;
pub use report::{NAMED, StepsReport};
pub use scope::Scope;
pub use stage::StageInProgress;
pub use step::{Step, StepBegin};
pub use step_in_progress::StepInProgress;
pub use value::MAX_RESULT;

#[cfg(test)]
mod tests;
