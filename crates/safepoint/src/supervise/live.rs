//! A supervised job as a server tells of it.

use std::sync::atomic::Ordering;

use super::Handle;
use crate::error::Result;
use crate::health::{Exposition, Subject};
use crate::job::{self, JobPath};
use crate::shutdown::ShutdownToken;

/// What `/status` and `/metrics` tell of a supervised job.
#[derive(Debug)]
pub struct Live {
    job: job::Live,
    path: JobPath,
    handle: Handle,
}

impl Live {
    /// Tells of the job at `path`, which `token` stops and `handle` asks.
    ///
    /// # Errors
    ///
    /// None yet; it may need a thread one day.
    pub fn new(path: &JobPath, token: &ShutdownToken, handle: &Handle) -> Result<Self> {
        Ok(Self {
            job: job::Live::new(path, token, None)?,
            path: path.clone(),
            handle: handle.clone(),
        })
    }
}

impl Subject for Live {
    fn status(&self) -> String {
        self.job.status()
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a metric is a float, exact up to 2^53"
    )]
    fn metrics(&self, exposition: &mut Exposition) {
        self.job.metrics(exposition);
        // Relaxed: numbers to look at, each on its own.
        let gauge = self.handle.gauge();
        let is_up = gauge.pid.load(Ordering::Relaxed) != 0;
        exposition
            .gauge("safepoint_child_up", "Whether the command runs now.")
            .value(&[], f64::from(u8::from(is_up)));
        exposition
            .counter(
                "safepoint_child_restarts",
                "How often the command was started again in this run.",
            )
            .count(&[], gauge.restarts.load(Ordering::Relaxed).into());
        let Ok(Some(child)) = self.path.open().and_then(|dir| job::ChildView::read(&dir)) else {
            return;
        };
        if let Some(cost) = child.cost() {
            exposition
                .counter(
                    "safepoint_child_cost",
                    "What the command spent, as it says.",
                )
                .amount(&[], cost);
        }
        if let Some(at_ms) = child.checkpoint_at_ms {
            exposition
                .gauge(
                    "safepoint_child_checkpoint_timestamp_seconds",
                    "When the command last spoke of a checkpoint, in seconds since 1970.",
                )
                .value(&[], at_ms as f64 / 1000.0);
        }
    }
}
