//! Ends what runs in a sandbox, with everything it started.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::Child;

use super::Sandbox;

impl Sandbox {
    /// Ends what `child` started, unless it is released before: dropping a child ends it alone.
    /// A namespace needs no such care, for it ends as a whole.
    pub fn descendants(&self, child: &Child) -> Descendants {
        let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Descendants { leader: leader.filter(|_| *self == Self::None) }
    }

    /// Waits for `child` to end by itself after asking it to; ends it with everything it started
    /// when `grace` is over.
    ///
    /// Bubblewrap does not hand on signals, so TERM goes to the processes below it.
    pub async fn terminate(&self, child: &mut Child, grace: Duration) -> io::Result<()> {
        let Some(leader) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else { return Ok(()) };
        let processes = Processes::read()?;
        match self {
            Self::None => {
                signal_all(&processes.below(leader), Signal::TERM);
                signal_all(&[leader], Signal::TERM);
            }
            // The process right below bubblewrap is its own, the init of the new namespace.
            Self::Bubblewrap(_) => {
                processes.children(leader).for_each(|init| signal_all(&processes.below(init), Signal::TERM));
            }
        }
        if tokio::time::timeout(grace, child.wait()).await.is_ok() {
            return Ok(());
        }
        match self {
            Self::None => kill_below(leader)?,
            // With its init, the kernel ends every process of a namespace before anybody hears of it.
            Self::Bubblewrap(_) => {
                signal_all(&Processes::read()?.children(leader).collect::<Vec<_>>(), Signal::KILL);
            }
        }
        if *self == Self::None || tokio::time::timeout(Duration::from_secs(1), child.wait()).await.is_err() {
            child.kill().await?;
        }
        Ok(())
    }
}

/// What a program started, and whether it is to end with this.
#[derive(Debug)]
pub struct Descendants {
    leader: Option<Pid>,
}

impl Descendants {
    /// The program has ended by itself, and what it left may stay.
    pub fn release(mut self) {
        self.leader = None;
    }
}

impl Drop for Descendants {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // Without `/proc` there is no way to find them.
            let _ = kill_below(leader);
        }
    }
}

/// Ends what `leader` started, and stops `leader` itself, which its caller ends.
///
/// Whoever is stopped starts nothing more, so nobody is missed that is started meanwhile.
fn kill_below(leader: Pid) -> io::Result<()> {
    signal_all(&[leader], Signal::STOP);
    let mut stopped = Vec::new();
    loop {
        let mut found = Processes::read()?.below(leader);
        found.retain(|process| !stopped.contains(process));
        if found.is_empty() {
            break;
        }
        signal_all(&found, Signal::STOP);
        stopped.extend(found);
    }
    signal_all(&stopped, Signal::KILL);
    Ok(())
}

fn signal_all(processes: &[Pid], signal: Signal) {
    for process in processes {
        // It may have ended meanwhile, which is what is wanted.
        let _ = rustix::process::kill_process(*process, signal);
    }
}

/// Which process started which, as `/proc` tells.
struct Processes {
    parents: Vec<(Pid, Pid)>,
}

impl Processes {
    fn read() -> io::Result<Self> {
        let mut parents = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(process) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
            else {
                continue;
            };
            let Ok(stat) = std::fs::read_to_string(Path::new("/proc").join(&name).join("stat")) else {
                continue;
            };
            // The program's name, in parentheses, may hold anything; state and parent follow it.
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
            if let Some(parent) = parent.and_then(Pid::from_raw) {
                parents.push((process, parent));
            }
        }
        Ok(Self { parents })
    }

    fn children(&self, of: Pid) -> impl Iterator<Item = Pid> + '_ {
        self.parents.iter().filter(move |(_, parent)| *parent == of).map(|(process, _)| *process)
    }

    fn below(&self, top: Pid) -> Vec<Pid> {
        let mut found: Vec<Pid> = self.children(top).collect();
        let mut next = 0;
        while next < found.len() {
            found.extend(self.children(found[next]));
            next += 1;
        }
        found
    }
}
