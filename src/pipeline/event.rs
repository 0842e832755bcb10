//! What happens on the way to an image, as lines for people.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Interval;

use super::{Fate, LayerReport};

/// How long [`Patience`] lets the log be quiet: GitLab tells a runner of a cancelled job when it sends some log.
const QUIET: Duration = Duration::from_secs(10);

/// What happens on the way, for whoever watches.
#[derive(Clone, Debug)]
pub enum Event {
    /// What Nix or a spec's command says it is doing.
    Said(String),
    /// The store paths are known and there.
    Realised {
        /// How many there are.
        paths: usize,
        /// Their NAR sizes together, in bytes.
        nar_size: u64,
        /// How many layers they make, with the last one.
        layers: usize,
    },
    /// Layers that somebody made before are there.
    Reused {
        /// How many.
        layers: usize,
        /// How many the image has.
        of: usize,
        /// Their sizes together, in bytes.
        size: u64,
    },
    /// Blobs that were there are gone, and their layers are made.
    Lost {
        /// How many layers.
        layers: usize,
    },
    /// A layer was made and is where it was to go.
    Layer(LayerReport),
    /// Layers are still under way.
    UnderWay {
        /// How many are done.
        done: usize,
        /// How many there are; only its end tells of a stream.
        layers: Option<usize>,
    },
}

/// Passes on what programs of a job's author say, and no more of it than a log has room for: GitLab
/// cuts logs at 4 MiB, and the error or digest comes last.
pub(super) struct Quota<'a> {
    on_event: &'a (dyn Fn(Event) + Sync),
    left: AtomicUsize,
}

impl<'a> Quota<'a> {
    /// Lines of one build.
    const LINES: usize = 400;

    pub(super) fn new(on_event: &'a (dyn Fn(Event) + Sync)) -> Self {
        Self { on_event, left: AtomicUsize::new(Self::LINES) }
    }

    pub(super) fn say(&self, line: &str) {
        let took = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match took {
            Ok(1) => (self.on_event)(Event::Said("further lines are left out".to_owned())),
            Ok(_) => (self.on_event)(Event::Said(line.to_owned())),
            Err(_) => {}
        }
    }
}

/// Knows when the log has been quiet for long enough.
pub(super) struct Patience(Interval);

impl Patience {
    /// From now on.
    pub(super) fn new() -> Self {
        Self::of(QUIET)
    }

    fn of(quiet: Duration) -> Self {
        let mut interval = tokio::time::interval(quiet);
        interval.reset();
        Self(interval)
    }

    /// Waits until something should be said.
    pub(super) async fn end(&mut self) {
        self.0.tick().await;
    }

    /// Something has been said.
    pub(super) fn reset(&mut self) {
        self.0.reset();
    }

    /// Does `work`, and says `event` whenever something should be said.
    pub(super) async fn during<T>(
        &mut self,
        work: impl Future<Output = T>,
        event: Event,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                // What is done is not said to take long, however late it is looked at.
                biased;
                done = &mut work => return done,
                () = self.end() => on_event(event.clone()),
            }
        }
    }
}

/// A number of bytes, in units of 1000.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(line) => formatter.write_str(line),
            Self::Realised { paths, nar_size, layers } => {
                write!(formatter, "{paths} store paths, {}, in {layers} layers", Size(*nar_size))
            }
            Self::UnderWay { done, layers: Some(layers) } => {
                write!(formatter, "{done} of {layers} layers are there")
            }
            Self::UnderWay { done, layers: None } => write!(formatter, "{done} layers are there so far"),
            Self::Reused { layers, of, size } => {
                write!(formatter, "{layers} of {of} layers are there already, {}", Size(*size))
            }
            Self::Lost { layers } => {
                write!(formatter, "the registry has lost {layers} layers, which are made again")
            }
            Self::Layer(layer) => write!(
                formatter,
                "layer {:>3}  {:>9}  {:<6}  {}",
                layer.number,
                Size(layer.size).to_string(),
                match layer.fate {
                    Fate::New => "new",
                    Fate::There => "there",
                    Fate::Reused => "reused",
                    Fate::Mounted => "mounted",
                },
                layer.contents
            ),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1_000 => write!(formatter, "{bytes} B"),
            1_000..1_000_000 => write!(formatter, "{:.1} kB", bytes / 1e3),
            1_000_000..1_000_000_000 => write!(formatter, "{:.1} MB", bytes / 1e6),
            _ => write!(formatter, "{:.2} GB", bytes / 1e9),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_flood_of_lines_ends_in_one_that_says_so() {
        let lines = Mutex::new(Vec::new());
        let keep = |event: Event| lines.lock().unwrap().push(event.to_string());
        let quota = Quota::new(&keep);

        for number in 0..10_000 {
            quota.say(&number.to_string());
        }

        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), 400);
        assert_eq!((lines[398].as_str(), lines[399].as_str()), ("398", "further lines are left out"));
    }

    #[tokio::test]
    async fn work_that_takes_long_says_so() {
        let said = Mutex::new(0);
        let count = |event: Event| {
            assert_eq!(event.to_string(), "reading");
            *said.lock().unwrap() += 1;
        };
        let event = Event::Said("reading".to_owned());
        let mut patience = Patience::of(Duration::from_millis(1));
        // Long enough for two lines.
        let slow = async {
            while *said.lock().unwrap() < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };

        let done = tokio::time::timeout(Duration::from_secs(300), patience.during(slow, event, &count)).await;

        assert!(done.is_ok(), "{said:?} lines");
    }

    #[tokio::test]
    async fn work_that_is_done_says_nothing_however_late_it_is() {
        let say = |event: Event| panic!("{event}");
        for number in 0..50 {
            let mut patience = Patience::of(Duration::from_millis(1));
            tokio::time::sleep(Duration::from_millis(2)).await;

            let done = patience.during(async { number }, Event::Said("reading".to_owned()), &say).await;

            assert_eq!(done, number);
        }
    }

    #[test]
    fn only_a_layer_that_was_not_made_is_called_reused() {
        for (fate, word) in
            [(Fate::New, "new"), (Fate::There, "there"), (Fate::Reused, "reused"), (Fate::Mounted, "mounted")]
        {
            let contents = "a".to_owned();
            let layer = LayerReport { number: 7, contents, size: 1200, tar_size: 2000, fate, sent: 0 };
            let line = format!("layer   7     1.2 kB  {word:<6}  a");
            assert_eq!(Event::Layer(layer).to_string(), line);
        }
    }

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (12_345_678, "12.3 MB"),
            (2_545_000_000, "2.54 GB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
