//! Claims of a queue's items: which come next, and which have died of their leases.
//!
//! What can be claimed is what the index `items_due` says: 0 for an item that was never attempted, else the time from which it can be claimed, be it
//! that it waits or that its lease expires. Neither is looked for by a scan, however long the queue is.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, ToSql, params};

use super::queue_rows::{Rows, read_state};
use crate::queue::claims::{Claimed, Demand, Fence, Payload, QueuedState, Round};

/// Items whose lease expired on their last attempt are put aside in such groups.
const LOOK_AT_ONCE: usize = 64;

/// Payloads that are read together have no more bytes than this: callers who wait for several get fewer, and one gets its item in any case.
const MANY_BYTES: usize = 4 << 20;

const NEXT_DUE: &str =
    "SELECT min(due_ms) FROM items INDEXED BY items_due WHERE due_ms IS NOT NULL";

/// Items whose wait is over or whose lease has expired.
const DUE: &str = "due_ms > 0 AND due_ms <= ?2 ORDER BY due_ms";

/// Items that were never attempted.
const FRESH: &str = "due_ms = 0 AND due_ms <= ?2 ORDER BY items.item";

fn candidates_in(stretch: &str) -> String {
    format!(
        "SELECT items.item, claims, key, payload, attempts, state FROM items INDEXED BY items_due CROSS JOIN payloads ON payloads.item = items.item
            WHERE {stretch} LIMIT ?1"
    )
}

/// When there is something to be claimed: in the past if there is now, none if nothing is, however long one waits.
pub(super) fn next_due_ms(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(NEXT_DUE)?
        .query_row((), |row| row.get(0))
}

struct Candidate {
    claimed: Claimed,
    state: QueuedState,
}

impl Rows<'_> {
    /// Claims what is wanted, as far as there is something.
    pub(super) fn claim(&mut self, demand: Demand, round: &mut Round) -> rusqlite::Result<()> {
        let wanted = demand.waiting;
        while round.claimed.len() < wanted {
            let left = wanted - round.claimed.len();
            let due = self.candidates(DUE, left.max(LOOK_AT_ONCE))?;
            if due.is_empty() {
                break;
            }
            for candidate in due {
                if round.claimed.len() == wanted {
                    break;
                }
                let is_last = candidate.claimed.attempt >= self.terms.retry.max_attempts;
                if candidate.state == QueuedState::Leased && is_last {
                    self.bury(&candidate.claimed)?;
                } else {
                    let claimed = self.lease(candidate)?;
                    round.claimed.push(claimed);
                }
            }
        }
        let left = wanted - round.claimed.len();
        // With one attempt only, one that nobody began would be the item's death.
        let ahead = if self.terms.retry.max_attempts > 1 {
            demand.ahead
        } else {
            0
        };
        if left + ahead > 0 {
            let mut candidates = self.candidates(FRESH, left)?;
            for candidate in candidates.drain(..) {
                let claimed = self.lease(candidate)?;
                round.claimed.push(claimed);
            }
            if ahead > 0 {
                for candidate in self.candidates(FRESH, ahead)? {
                    let claimed = self.lease(candidate)?;
                    round.claimed.push(claimed);
                }
            }
        }
        if round.claimed.len() < wanted {
            let next = next_due_ms(self.connection)?;
            // What is there may be too much for one transaction.
            round.is_exhausted = next.is_none_or(|next| next > self.now_ms);
            round.next_due_ms = next;
        }
        Ok(())
    }

    /// The first items of a stretch of the index: at most `limit`, and no more than fit into [`MANY_BYTES`], but one at least.
    fn candidates(&self, stretch: &str, limit: usize) -> rusqlite::Result<Vec<Candidate>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut statement = self.sql(&candidates_in(stretch))?;
        let mut rows = statement.query(params![limit, self.now_ms])?;
        let (mut candidates, mut taken) = (Vec::new(), 0_usize);
        while let Some(row) = rows.next()? {
            let claimed = Claimed {
                fence: Fence {
                    item: row.get(0)?,
                    claim: row.get(1)?,
                },
                key: row.get(2)?,
                payload: payload_of(row, 3)?,
                attempt: row.get(4)?,
                expires_at_ms: 0,
            };
            taken = taken.saturating_add(claimed.payload.as_bytes().len());
            if taken > MANY_BYTES && !candidates.is_empty() {
                break;
            }
            candidates.push(Candidate {
                claimed,
                state: read_state(row, 5)?,
            });
        }
        Ok(candidates)
    }

    fn lease(&mut self, candidate: Candidate) -> rusqlite::Result<Claimed> {
        let Candidate { mut claimed, state } = candidate;
        claimed.expires_at_ms = self.after(self.terms.lease);
        claimed.fence.claim += 1;
        claimed.attempt += 1;
        self.sql("UPDATE items SET state = 'leased', attempts = ?2, claims = ?3, due_ms = ?4, pid = ?5 WHERE item = ?1")?
            .execute(params![
                claimed.fence.item,
                claimed.attempt,
                claimed.fence.claim,
                claimed.expires_at_ms,
                self.pid
            ])?;
        self.moved(Some(state), Some(QueuedState::Leased));
        Ok(claimed)
    }

    /// Puts an item aside for good whose lease expired on its last attempt.
    fn bury(&mut self, claimed: &Claimed) -> rusqlite::Result<()> {
        let error = format!(
            "its lease expired in attempt {}, the last one: whoever had it ended, or took too long",
            claimed.attempt
        );
        self.sql("UPDATE items SET state = 'dead', due_ms = NULL, settled_at_ms = ?2, pid = NULL, error = ?3 WHERE item = ?1")?
            .execute(params![claimed.fence.item, self.now_ms, error])?;
        self.moved(Some(QueuedState::Leased), Some(QueuedState::Dead));
        Ok(())
    }
}

pub(super) fn payload_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Payload> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(text) => Payload::Text(
            std::str::from_utf8(text)
                .map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(
                        column,
                        rusqlite::types::Type::Text,
                        Box::new(error),
                    )
                })?
                .into(),
        ),
        other => Payload::Bytes(other.as_bytes()?.into()),
    })
}

/// A payload as SQLite stores it: a text as a text, bytes as a blob.
pub(super) fn to_sql(payload: &Payload) -> impl ToSql + '_ {
    struct Stored<'a>(&'a Payload);
    impl ToSql for Stored<'_> {
        fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
            Ok(ToSqlOutput::Borrowed(match self.0 {
                Payload::Text(text) => ValueRef::Text(text.as_bytes()),
                Payload::Bytes(bytes) => ValueRef::Blob(bytes),
            }))
        }
    }
    Stored(payload)
}

#[cfg(test)]
mod tests {
    use super::super::queue_schema;
    use super::*;

    #[test]
    fn a_claim_scans_and_sorts_nothing() {
        let connection = Connection::open_in_memory().expect("opened");
        queue_schema::create(&connection, "u", 0).expect("made");
        for sql in [
            NEXT_DUE.to_owned(),
            candidates_in(DUE),
            candidates_in(FRESH),
        ] {
            let mut plan = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .expect("prepared");
            let parameters = plan.parameter_count();
            let steps = plan
                .query_map(rusqlite::params_from_iter(vec![1; parameters]), |row| {
                    row.get::<_, String>(3)
                })
                .expect("asked");
            for step in steps {
                let step = step.expect("read");
                assert!(step.starts_with("SEARCH"), "{sql}: {step}");
            }
        }
    }
}
