//! Threads that work for several layers at once.
//!
//! The number of threads bounds what runs at a time. What waits is bounded by those who hand jobs
//! over: each waits for its oldest result before it goes too far ahead.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads. Clones share it; dropping the last one ends and joins the threads.
#[derive(Clone)]
pub struct Workers {
    pool: Arc<Pool>,
}

struct Pool {
    queue: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    /// How many more jobs may wait, beside one of everybody who hands some over.
    room: AtomicUsize,
}

/// Room for one job to wait until its result is taken.
pub(super) struct Room(Arc<Pool>);

impl Workers {
    /// Starts `threads` threads. With none, jobs run on the thread that hands them over.
    ///
    /// A host that has no thread left gives us fewer, which costs time but changes no result.
    pub fn new(threads: usize) -> Self {
        let (queue, jobs) = channel();
        let jobs = Arc::new(Mutex::new(jobs));
        let start = |_| {
            let jobs = Arc::clone(&jobs);
            thread::Builder::new().name("compress".to_owned()).spawn(move || work(&jobs)).ok()
        };
        let threads: Vec<_> = (0..threads).map_while(start).collect();
        // As many as keep the threads busy, and one on its way.
        let room = AtomicUsize::new(threads.len() + 1);
        Self { pool: Arc::new(Pool { queue: Some(queue), threads, room }) }
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.pool.threads.len()
    }

    /// Room for one more job than the one that everybody has room for; none while others wait. So memory is bounded
    /// by the threads, and not by these times the layers under way.
    pub(super) fn try_room(&self) -> Option<Room> {
        let take = |room: usize| room.checked_sub(1);
        let taken = self.pool.room.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        taken.ok().map(|_| Room(Arc::clone(&self.pool)))
    }

    /// Has a job run some time. A job says what came of it through a channel it owns; if it panics,
    /// nothing but that channel's end tells.
    pub(super) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        match &self.pool.queue {
            // It fails only when all threads are gone, and then drops the job with its channel.
            Some(queue) if self.threads() > 0 => drop(queue.send(Box::new(job))),
            _ => run(job),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.room.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A panic has already ended the channel of the job that panicked.
            drop(thread.join());
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting, but not while working.
        let job = match jobs.lock() {
            Ok(jobs) => jobs.recv(),
            Err(_) => return,
        };
        match job {
            Ok(job) => run(job),
            Err(_) => return,
        }
    }
}

/// A job that panics must not take its thread from the layers of others.
fn run(job: impl FnOnce()) {
    drop(catch_unwind(AssertUnwindSafe(job)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_its_own_job_only() {
        for threads in [0, 1, 2] {
            let workers = Workers::new(threads);
            let (lost, from_lost) = channel::<()>();
            let (kept, from_kept) = channel();

            workers.submit(move || {
                let _owned = lost;
                panic!("as the test wants it");
            });
            workers.submit(move || kept.send("done").unwrap());

            assert!(from_lost.recv().is_err());
            assert_eq!(from_kept.recv(), Ok("done"));
        }
    }

    #[test]
    fn dropping_the_last_clone_waits_for_the_jobs() {
        let workers = Workers::new(2);
        let (sender, receiver) = channel();
        for number in 0..20 {
            let sender = sender.clone();
            workers.clone().submit(move || sender.send(number).unwrap());
        }
        drop(sender);

        drop(workers);

        assert_eq!(receiver.try_iter().count(), 20);
    }
}
