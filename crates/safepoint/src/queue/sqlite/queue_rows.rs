//! What callers of a queue ask for, as rows: one transaction of it.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::queue_claims::{payload_of, to_sql};
use super::queue_file::Terms;
use super::queue_view;
use crate::error::{Error, ErrorKind};
use crate::queue::claims::{
    Answer, Claimed, Fence, NewItem, Operation, Pushed, QueueCounts, QueuedState, Settle,
    Settlement, name_of,
};

/// The longest error that is kept, in bytes.
const MAX_ERROR: usize = 4096;

/// How many done items are forgotten in one transaction.
const FORGET_AT_ONCE: u32 = 5000;

/// The rows during one transaction, and what has changed in their counts.
pub(super) struct Rows<'a> {
    pub(super) connection: &'a Connection,
    pub(super) terms: Terms,
    pub(super) pid: u32,
    pub(super) now_ms: i64,
    /// By the place of the state in [`QueuedState::ALL`].
    changes: [i64; 5],
    /// The number of the next item, once one was pushed.
    next_item: Option<u64>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(connection: &'a Connection, terms: Terms, pid: u32, now_ms: i64) -> Self {
        Self {
            connection,
            terms,
            pid,
            now_ms,
            changes: [0; 5],
            next_item: None,
        }
    }

    /// Does what one caller asked for.
    pub(super) fn perform(&mut self, operation: Operation) -> rusqlite::Result<Answer> {
        Ok(match operation {
            Operation::Push(items) => self.push(&items)?,
            Operation::Settle(settlement) => self.settle(&settlement)?,
            Operation::Find(fence) => self.find(fence)?,
            Operation::Acknowledged(fence) => Answer::Number(
                self.sql(
                    "SELECT count(*) FROM items WHERE item = ?1 AND claims = ?2 AND state = 'done'",
                )?
                .query_row(params![fence.item, fence.claim], |row| row.get(0))?,
            ),
            Operation::Retry(only) => self.retry(only.as_deref())?,
            Operation::Forget { done_before_ms } => self.forget(done_before_ms)?,
            Operation::Count => Answer::Counts(self.counts()?),
            Operation::List {
                state,
                after,
                limit,
            } => Answer::Items(queue_view::list(self.connection, state, after, limit)?),
            Operation::Look(name) => {
                let found = queue_view::look(self.connection, &name)?;
                Answer::Items(found.into_iter().collect())
            }
            Operation::Sync => Answer::Synced,
        })
    }

    /// Writes the counts.
    pub(super) fn finish(self) -> rusqlite::Result<()> {
        if self.changes == [0; 5] && self.next_item.is_none() {
            return Ok(());
        }
        let [pending, waiting, leased, done, dead] = self.changes;
        self.sql(
            "UPDATE queue SET pending = pending + ?1, waiting = waiting + ?2, leased = leased + ?3, done = done + ?4, dead = dead + ?5,
                next_item = coalesce(?6, next_item)",
        )?
        .execute(params![pending, waiting, leased, done, dead, self.next_item])?;
        Ok(())
    }

    pub(super) fn sql(&self, text: &str) -> rusqlite::Result<rusqlite::CachedStatement<'a>> {
        self.connection.prepare_cached(text)
    }

    /// Notes that an item went from one state to another.
    pub(super) fn moved(&mut self, from: Option<QueuedState>, to: Option<QueuedState>) {
        let place = |state: QueuedState| {
            let places = QueuedState::ALL.iter();
            places.take_while(|other| **other != state).count()
        };
        if let Some(from) = from {
            self.changes[place(from)] -= 1;
        }
        if let Some(to) = to {
            self.changes[place(to)] += 1;
        }
    }

    pub(super) fn after(&self, time: Duration) -> i64 {
        self.now_ms
            .saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
    }

    fn push(&mut self, items: &[NewItem]) -> rusqlite::Result<Answer> {
        let mut next = match self.next_item {
            Some(next) => next,
            None => self
                .sql("SELECT next_item FROM queue WHERE id = 1")?
                .query_row((), |row| row.get(0))?,
        };
        let mut insert = self.sql(
            "INSERT INTO items (item, key, state, attempts, claims, due_ms, pushed_at_ms) VALUES (?1, ?2, ?3, 0, 0, ?4, ?5)
                ON CONFLICT (key) WHERE key IS NOT NULL DO NOTHING",
        )?;
        let mut insert_payload = self.sql("INSERT INTO payloads VALUES (?1, ?2)")?;
        let mut known = self.sql("SELECT state FROM items WHERE key = ?1")?;
        let mut answers = Vec::with_capacity(items.len());
        for item in items {
            let (state, due_ms) = if item.delay.is_zero() {
                (QueuedState::Pending, 0)
            } else {
                (QueuedState::Waiting, self.after(item.delay))
            };
            let new = insert.execute(params![next, item.key, state.name(), due_ms, self.now_ms])?;
            if new == 0 {
                let state = known.query_row([&item.key], |row| read_state(row, 0))?;
                answers.push(Pushed::Known(state));
                continue;
            }
            insert_payload.execute(params![next, to_sql(&item.payload)])?;
            next += 1;
            self.moved(None, Some(state));
            answers.push(Pushed::New);
        }
        self.next_item = Some(next);
        Ok(Answer::Pushed(answers))
    }

    fn settle(&mut self, settlement: &Settlement) -> rusqlite::Result<Answer> {
        let fence = settlement.fence;
        let (state, due_ms, changed) = match &settlement.how {
            Settle::Acknowledge(result) => {
                let result = (result.as_text() != Some("")).then(|| to_sql(result));
                let changed = self
                    .sql(
                        "UPDATE items SET state = 'done', due_ms = NULL, settled_at_ms = ?3, pid = NULL, result = ?4, error = NULL
                            WHERE item = ?1 AND claims = ?2 AND state = 'leased'",
                    )?
                    .execute(params![fence.item, fence.claim, self.now_ms, result])?;
                (QueuedState::Done, None, changed)
            }
            Settle::Extend { time } => {
                let expires = self.after(*time);
                let changed = self
                    .sql("UPDATE items SET due_ms = ?3 WHERE item = ?1 AND claims = ?2 AND state = 'leased'")?
                    .execute(params![fence.item, fence.claim, expires])?;
                (QueuedState::Leased, Some(expires), changed)
            }
            Settle::Release { delay } => self.give_back(fence, *delay)?,
            Settle::Fail { error } => self.fail(fence, error)?,
        };
        if changed == 0 {
            return self.refusal(settlement);
        }
        self.moved(Some(QueuedState::Leased), Some(state));
        Ok(Answer::Settled(state, due_ms))
    }

    /// An item that was attempted before waits for the present moment at least: then it is claimed when somebody asks, and never ahead.
    fn give_back(
        &self,
        fence: Fence,
        delay: Duration,
    ) -> rusqlite::Result<(QueuedState, Option<i64>, usize)> {
        let state = if delay.is_zero() {
            QueuedState::Pending
        } else {
            QueuedState::Waiting
        };
        let changed = self
            .sql(
                "UPDATE items SET state = ?3, attempts = attempts - 1, pid = NULL,
                    due_ms = CASE WHEN ?4 AND attempts = 1 THEN 0 ELSE ?5 END
                    WHERE item = ?1 AND claims = ?2 AND state = 'leased'",
            )?
            .execute(params![
                fence.item,
                fence.claim,
                state.name(),
                delay.is_zero(),
                self.after(delay)
            ])?;
        Ok((state, None, changed))
    }

    fn fail(
        &self,
        fence: Fence,
        error: &str,
    ) -> rusqlite::Result<(QueuedState, Option<i64>, usize)> {
        let attempts: Option<u32> = self
            .sql("SELECT attempts FROM items WHERE item = ?1 AND claims = ?2 AND state = 'leased'")?
            .query_row(params![fence.item, fence.claim], |row| row.get(0))
            .optional()?;
        let Some(attempts) = attempts else {
            return Ok((QueuedState::Waiting, None, 0));
        };
        let wait = self.terms.retry.wait_after(attempts, fence.item);
        let state = if wait.is_some() {
            QueuedState::Waiting
        } else {
            QueuedState::Dead
        };
        let due_ms = wait.map(|wait| self.after(wait));
        let settled = wait.is_none().then_some(self.now_ms);
        let changed = self
            .sql(
                "UPDATE items SET state = ?2, due_ms = ?3, settled_at_ms = ?4, pid = NULL, error = ?5 WHERE item = ?1",
            )?
            .execute(params![fence.item, state.name(), due_ms, settled, shortened(error)])?;
        Ok((state, None, changed))
    }

    /// Why a lease could not be settled; nothing, if it was settled before in just this way.
    fn refusal(&self, settlement: &Settlement) -> rusqlite::Result<Answer> {
        let fence = settlement.fence;
        let found = self
            .sql("SELECT state, claims, key FROM items WHERE item = ?1")?
            .query_row([fence.item], |row| {
                Ok((
                    read_state(row, 0)?,
                    row.get::<_, u64>(1)?,
                    row.get::<_, Option<String>>(2)?,
                ))
            })
            .optional()?;
        let Some((state, claims, key)) = found else {
            return Ok(Answer::Refused(over(
                &fence.item.to_string(),
                "the item is not in the queue any more",
            )));
        };
        let why = match state {
            QueuedState::Done if claims == fence.claim => {
                if matches!(settlement.how, Settle::Acknowledge(_)) {
                    // Its caller asks again, for example because the answer was lost.
                    return Ok(Answer::Settled(state, None));
                }
                "the item is done"
            }
            _ if claims > fence.claim => "it expired, and the item was claimed again",
            QueuedState::Done => "the item is done",
            QueuedState::Dead => "the item is dead",
            _ => "it was given back",
        };
        Ok(Answer::Refused(over(
            &name_of(key.as_deref(), fence.item),
            why,
        )))
    }

    fn find(&self, fence: Fence) -> rusqlite::Result<Answer> {
        let found = self
            .sql(
                "SELECT key, payload, attempts, due_ms FROM items JOIN payloads USING (item) WHERE item = ?1 AND claims = ?2 AND state = 'leased'",
            )?
            .query_row(params![fence.item, fence.claim], |row| {
                Ok(Claimed {
                    fence,
                    key: row.get(0)?,
                    payload: payload_of(row, 1)?,
                    attempt: row.get(2)?,
                    expires_at_ms: row.get(3)?,
                })
            })
            .optional()?;
        if let Some(claimed) = found {
            return Ok(Answer::Found(claimed));
        }
        let how = Settle::Extend {
            time: Duration::ZERO,
        };
        self.refusal(&Settlement { fence, how })
    }

    fn retry(&mut self, only: Option<&[String]>) -> rusqlite::Result<Answer> {
        const REVIVE: &str = "UPDATE items SET state = 'pending', attempts = 0, due_ms = 0, settled_at_ms = NULL, error = NULL WHERE state = 'dead'";
        let revived = match only {
            None => self.sql(REVIVE)?.execute(())?,
            Some(names) => {
                let mut items = Vec::with_capacity(names.len());
                for name in names {
                    match queue_view::number_and_state(self.connection, name)? {
                        Some((item, QueuedState::Dead)) => items.push(item),
                        found => return Ok(Answer::Refused(not_dead(name, found))),
                    }
                }
                let mut revive = self.sql(&format!("{REVIVE} AND item = ?1"))?;
                execute_each(&mut revive, &items)?
            }
        };
        for _ in 0..revived {
            self.moved(Some(QueuedState::Dead), Some(QueuedState::Pending));
        }
        Ok(Answer::Number(revived as u64))
    }

    fn forget(&mut self, done_before_ms: i64) -> rusqlite::Result<Answer> {
        let items = self
            .sql("SELECT item FROM items WHERE state = 'done' AND settled_at_ms < ?1 LIMIT ?2")?
            .query_map(params![done_before_ms, FORGET_AT_ONCE], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<u64>>>()?;
        execute_each(
            &mut *self.sql("DELETE FROM payloads WHERE item = ?1")?,
            &items,
        )?;
        let gone = execute_each(&mut *self.sql("DELETE FROM items WHERE item = ?1")?, &items)?;
        for _ in 0..gone {
            self.moved(Some(QueuedState::Done), None);
        }
        Ok(Answer::Number(gone as u64))
    }

    /// As they are in the middle of this transaction.
    fn counts(&self) -> rusqlite::Result<QueueCounts> {
        let read = queue_view::counts(self.connection)?;
        let [pending, waiting, leased, done, dead] = self.changes;
        Ok(QueueCounts {
            pending: read.pending.saturating_add_signed(pending),
            waiting: read.waiting.saturating_add_signed(waiting),
            leased: read.leased.saturating_add_signed(leased),
            done: read.done.saturating_add_signed(done),
            dead: read.dead.saturating_add_signed(dead),
        })
    }
}

fn execute_each(statement: &mut Statement<'_>, items: &[u64]) -> rusqlite::Result<usize> {
    let changed = items.iter().map(|item| statement.execute([item]));
    changed.sum()
}

pub(super) fn read_state(row: &Row<'_>, column: usize) -> rusqlite::Result<QueuedState> {
    let name = row.get_ref(column)?.as_str()?;
    QueuedState::from_name(name).ok_or_else(|| {
        rusqlite::Error::InvalidColumnType(column, name.to_owned(), rusqlite::types::Type::Text)
    })
}

/// The error for a lease that is over.
fn over(name: &str, why: &str) -> Error {
    let shown: String = name.escape_debug().take(200).collect();
    Error::new(
        ErrorKind::Closed,
        format!("the lease on item `{shown}` is over: {why}"),
    )
    .with_hint("ask for longer leases when the queue is opened, or extend a lease during long work")
}

fn not_dead(name: &str, found: Option<(u64, QueuedState)>) -> Error {
    let shown: String = name.escape_debug().take(200).collect();
    match found {
        None => Error::new(
            ErrorKind::NotFound,
            format!("no item `{shown}` in the queue"),
        )
        .with_hint("`safepoint queue list --state dead` shows the dead ones"),
        Some((_, state)) => Error::invalid(format!("item `{shown}` is {}, not dead", state.name())),
    }
}

/// The beginning of an error's text.
fn shortened(error: &str) -> &str {
    let mut end = error.len().min(MAX_ERROR);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    &error[..end]
}
