//! Programs that write archives, as those of dockerTools do.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{Machine, ended, eventually, executable, fail, succeed, write};
use crate::seed::Seed;

fn program(path: &Path, script: &str) {
    executable(path, &format!("#!/bin/sh\n{script}\n"));
}

#[test]
fn the_output_of_a_program_is_pushed_under_its_own_tag() {
    let machine = Machine::new();
    let seed = Seed::new(31);
    write(&machine.place("a.tar"), &seed.streamed(&["app:own"]));
    program(&machine.place("result"), "echo 'Creating layer 1' >&2; exec cat a.tar");

    for name in ["result", "./result", machine.place("result").to_str().unwrap()] {
        succeed(&machine.push(&[name, &machine.repository()]));
    }

    assert_eq!(machine.config("own"), seed.config);
    assert_eq!(machine.diff_ids("own"), seed.diff_ids());
}

#[test]
fn a_program_that_fails_is_told_with_its_last_words() {
    let machine = Machine::new();
    write(&machine.place("a.tar"), &Seed::new(32).streamed(&["app:own"]));
    for (script, said) in [
        ("echo boom >&2; exit 3", "error: `./result` failed with exit status: 3\n         boom"),
        // Whole or not: what failed does not count.
        ("cat a.tar; echo late >&2; exit 4", "error: `./result` failed with exit status: 4\n         late"),
        ("head -c 5000 a.tar; kill -9 $$", "error: `./result` failed with signal: 9 (SIGKILL)"),
        ("seq 1000 >&2; exit 5", "error: `./result` failed with exit status: 5\n         991\n"),
        ("head -c 5000 a.tar", "error: `./result` cannot be used\n  cause: it ends within"),
        ("true", "error: `./result` cannot be used\n  cause: it is empty\n"),
    ] {
        program(&machine.place("result"), script);

        let failed = fail(&machine.push(&["./result", &machine.repository()]));

        assert!(failed.starts_with(said), "{failed}");
        assert!(failed.contains("  fix:   "), "{failed}");
        assert_eq!(machine.registry.tags(), []);
    }
}

#[test]
fn a_program_ends_with_the_push() {
    let machine = Machine::new();
    program(&machine.place("result"), "echo $$ > pid; trap '' TERM; while :; do sleep 0.1; done");
    let mut child = machine.start(&["./result", &machine.tagged("x")]);
    let program = Program::of(&machine, &mut child);

    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = ended(child);

    assert!(fail(&output).contains("interrupted"));
    assert!(!program.is_there());
}

#[test]
fn what_a_program_has_started_ends_with_the_push() {
    let machine = Machine::new();
    write(&machine.place("a.tar"), &Seed::new(33).streamed(&["app:own"]));

    // A push that is whole.
    program(&machine.place("result"), "sleep 4711 > sleeper 2>&1 & echo $! > pid; cat a.tar");
    let mut child = machine.start(&["./result", &machine.tagged("x")]);
    let sleeper = Program::of(&machine, &mut child);
    succeed(&ended(child));
    sleeper.ends();

    // One that waits for what the program has left behind.
    fs::remove_file(machine.place("pid")).unwrap();
    program(&machine.place("result"), "sleep 4711 & echo $! > pid; echo $$ > leader");
    let mut child = machine.start(&["./result", &machine.tagged("x")]);
    let sleeper = Program::of(&machine, &mut child);
    Program::named(&machine, &mut child, "leader").ends();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(fail(&ended(child)).contains("interrupted"));
    sleeper.ends();
}

/// However early it is asked to end: here, with its program running, it has not read yet who may push.
#[test]
fn a_program_ends_with_a_push_that_has_hardly_begun() {
    // What comes first in it, the work or the look at signals, is a matter of chance.
    for _ in 0..8 {
        let machine = Machine::new();
        program(&machine.place("result"), "echo $$ > pid; while :; do sleep 0.1; done");
        let login = machine.place("auth.json");
        let text = fs::read(&login).unwrap();
        fs::remove_file(&login).unwrap();
        mknodat(CWD, &login, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let mut child = machine.start(&["./result", &machine.tagged("x")]);
        let program = Program::of(&machine, &mut child);

        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        // It waits for a push that reads, and if there is none, as long as the tests last.
        thread::spawn(move || fs::write(&login, text));
        let output = ended(child);

        assert!(fail(&output).contains("interrupted"));
        assert!(!program.is_there());
    }
}

/// The program of a push. It ends with the test at the latest.
struct Program(Pid);

impl Program {
    /// The one that a push has started, once it has written its number down.
    fn of(machine: &Machine, push: &mut Child) -> Self {
        Self::named(machine, push, "pid")
    }

    /// The one whose number is in `file`.
    fn named(machine: &Machine, push: &mut Child, file: &str) -> Self {
        let mut program = None;
        eventually("the program has started", || {
            let over = push.try_wait().unwrap().is_some();
            let text = fs::read_to_string(machine.place(file)).unwrap_or_default();
            program = text.trim().parse().ok().and_then(Pid::from_raw);
            assert!(program.is_some() || !over, "the push has ended");
            program.is_some()
        });
        Self(program.unwrap())
    }

    /// Waits for its end. Whoever inherits it may leave it a zombie.
    fn ends(&self) {
        eventually("the program has ended", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        });
    }

    fn is_there(&self) -> bool {
        Path::new(&format!("/proc/{}", self.0)).exists()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = kill_process(self.0, Signal::KILL);
        }
    }
}
