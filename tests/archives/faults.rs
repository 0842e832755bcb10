//! Connections that break, registries that forget, and a push that is killed.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nixlayer::oci::Digest;
use nixlayer::simulate::registry::{RegistrySettings, Resume};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use crate::fault_proxy::{FaultProxy, Kind};
use crate::machine::{Machine, ended, eventually, fail, succeed, write};
use crate::request::Site;
use crate::seed::{Seed, layer, noise};

/// A machine with an image under the tag `x`, and a proxy that cuts the chunks of this number, from 0.
fn cutting(resume: Resume, cut: impl Fn(usize) -> bool + Send + Sync + 'static) -> (Machine, FaultProxy) {
    let mut machine = Machine::with(RegistrySettings::default().resume(resume));
    write(&machine.place("old.tar"), &Seed::new(40).streamed(&["app:x"]));
    succeed(&machine.push(&["docker-archive:old.tar", &machine.repository()]));
    let chunks = AtomicUsize::new(0);
    let decide = move |seen: &crate::request::Seen| {
        let is_it = seen.site == Site::Patch && cut(chunks.fetch_add(1, Ordering::SeqCst));
        is_it.then_some(Kind::FinInside)
    };
    let proxy = FaultProxy::start(machine.registry.address(), decide, |_| {});
    machine.reached_at(proxy.address());
    (machine, proxy)
}

#[test]
fn a_cut_connection_goes_on_where_the_registry_lets_it() {
    for piped in [false, true] {
        let (machine, proxy) = cutting(Resume::Offered, |number| number % 3 == 1);
        let seed = Seed::new(41);
        write(&machine.place("new.tar"), &seed.streamed(&["app:x"]));

        let output = match piped {
            true => machine.push_from(&machine.place("new.tar"), &["-", &machine.repository()]),
            false => machine.push(&["docker-archive:new.tar", &machine.repository()]),
        };

        succeed(&output);
        assert!(proxy.faults(Site::Patch) > 1);
        assert_eq!(machine.config("x"), seed.config);
        assert_eq!(machine.diff_ids("x"), seed.diff_ids());
    }
}

#[test]
fn a_layer_that_has_to_begin_again_is_read_again_from_a_file() {
    for compressed in [false, true] {
        let (machine, proxy) = cutting(Resume::Unknown, |number| number == 4);
        let seed = Seed::new(42);
        let mut bytes = seed.streamed(&["app:x"]);
        if compressed {
            bytes = zstd::encode_all(bytes.as_slice(), 1).unwrap();
        }
        write(&machine.place("new.tar"), &bytes);

        succeed(&machine.push(&["docker-archive:new.tar", &machine.repository()]));

        assert_eq!(proxy.faults(Site::Patch), 1);
        assert_eq!(machine.config("x"), seed.config);
        assert_eq!(machine.diff_ids("x"), seed.diff_ids());
    }
}

#[test]
fn a_layer_that_has_to_begin_again_is_gone_from_a_stream() {
    let (machine, _proxy) = cutting(Resume::Unknown, |number| number == 4);
    let old = machine.manifest("x");
    write(&machine.place("new.tar"), &Seed::new(43).streamed(&["app:x"]));

    let said = fail(&machine.push_from(&machine.place("new.tar"), &["-", &machine.repository()]));

    assert!(said.starts_with("error: `standard input` cannot be used\n"), "{said}");
    assert!(said.contains("cause: a layer has to be sent from its start once more"), "{said}");
    assert!(said.contains("fix:   write the archive into a file first, and push that"), "{said}");
    assert_eq!(machine.manifest("x"), old);
}

#[test]
fn blobs_that_the_registry_has_lost_are_sent_again() {
    // The second manifest is the first of the second push.
    let machine = Machine::with(RegistrySettings::default().loses_blobs_at_manifest(3));
    let mut seed = Seed::new(44);
    write(&machine.place("a.tar"), &seed.streamed(&["app:x"]));
    succeed(&machine.push(&["docker-archive:a.tar", &machine.repository()]));
    seed.config.push(b'\n');
    write(&machine.place("b.tar"), &seed.streamed(&["app:x"]));

    let said = succeed(&machine.push(&["docker-archive:b.tar", &machine.repository()]));

    assert!(said.contains("the registry has lost layers, which are sent again"), "{said}");
    assert_eq!(machine.config("x"), seed.config);
    assert_eq!(machine.diff_ids("x"), seed.diff_ids());
}

#[test]
fn a_push_that_waits_for_its_registry_says_so() {
    let mut machine = Machine::new();
    let proxy = FaultProxy::start(
        machine.registry.address(),
        |seen| (seen.site == Site::Patch).then_some(Kind::Hang),
        |_| {},
    );
    machine.reached_at(proxy.address());
    // The first layer has been read, but for what waits in memory; the second one waits for it.
    let config = machine.place("config.yaml");
    let text = fs::read_to_string(&config).unwrap();
    write(&config, text.replace(r#""limits":{"#, r#""limits":{"uploads":1,"#).as_bytes());
    let seed =
        Seed::of(vec![layer("opt/large", &noise((1 << 20) + 100_000, 47)), layer("etc/motd", b"hello")]);
    write(&machine.place("new.tar"), &seed.streamed(&["app:x"]));

    assert_says_while_waiting(&machine, "0 of 2 layers are there");
}

#[test]
fn a_push_that_waits_for_an_answer_says_so() {
    let mut machine = Machine::new();
    // The question what the tag names, which comes before the first layer is sent.
    let proxy = FaultProxy::start(
        machine.registry.address(),
        |seen| seen.path.contains("/manifests/x").then_some(Kind::Hang),
        |_| {},
    );
    machine.reached_at(proxy.address());
    write(&machine.place("new.tar"), &Seed::new(48).streamed(&["app:x"]));

    assert_says_while_waiting(&machine, "0 of 2 layers are there");
}

#[test]
fn a_push_that_waits_for_its_manifest_says_so() {
    let mut machine = Machine::new();
    let proxy = FaultProxy::start(
        machine.registry.address(),
        |seen| matches!(seen.site, Site::PutDigest | Site::PutTag).then_some(Kind::Hang),
        |_| {},
    );
    machine.reached_at(proxy.address());
    write(&machine.place("new.tar"), &Seed::new(49).streamed(&["app:x"]));

    assert_says_while_waiting(&machine, "2 of 2 layers are there");
}

/// Checks that a push of `new.tar` comes to say `wanted` while it has to wait. It is ended then.
#[track_caller]
fn assert_says_while_waiting(machine: &Machine, wanted: &str) {
    let mut child = machine.start(&["docker-archive:new.tar", &machine.repository()]);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut said = Vec::new();
    let says = lines.inspect(|line| said.push(line.clone())).any(|line| line.contains(wanted));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
    assert!(says, "{said:?}");
}

#[test]
fn a_pipe_that_nobody_writes_into_can_be_left() {
    let machine = Machine::new();
    mknodat(CWD, machine.place("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for source in ["docker-archive:pipe", "pipe"] {
        let child = machine.start(&[source, &machine.tagged("x")]);
        eventually("it listens to signals", || listens(&child));

        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let said = fail(&ended(child));
        assert!(said.contains("interrupted"), "{said}");
    }
}

/// Whether a program asks to be told of SIGTERM.
fn listens(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (Signal::TERM.as_raw() - 1)) != 0
}

#[test]
fn a_push_into_a_layout_that_is_killed_leaves_no_file_behind() {
    let machine = Machine::new();
    let pipe = machine.place("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let archive = Seed::new(50).streamed(&["app:x"]);
    // In the midst of the large layer.
    let half = archive[..archive.len() / 2].to_vec();
    let mut child = machine.start(&["docker-archive:pipe", "oci:layout:x"]);
    // Open for reading as well, so that neither waits for the other; it ends with the push or with the tests.
    let mut writer = File::options().read(true).write(true).open(&pipe).unwrap();
    let open = writer.try_clone().unwrap();
    std::thread::spawn(move || writer.write_all(&half));
    let blobs = machine.place("layout/blobs/sha256");
    let complete = || fs::read_dir(&blobs).is_ok_and(|mut files| files.next().is_some());
    eventually("a blob is complete, and the next under way", || {
        assert!(child.try_wait().unwrap().is_none(), "the push has ended");
        complete() && has_open(&child, &blobs)
    });

    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();

    drop(open);
    let names = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for name in names {
        assert_eq!(Digest::of(&fs::read(blobs.join(&name)).unwrap()).hex(), name);
    }
    let others = fs::read_dir(machine.place("layout")).unwrap();
    let mut others: Vec<_> = others.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    others.sort();
    assert_eq!(others, ["blobs", "oci-layout"]);
}

/// Whether a program has a file of `folder` open, under a name or not.
fn has_open(child: &Child, folder: &Path) -> bool {
    // The kernel tells paths without links.
    let folder = fs::canonicalize(folder).unwrap();
    let open = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
    open.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|file| file.starts_with(&folder)))
}

#[test]
fn a_push_that_is_killed_leaves_the_old_image() {
    for (signal, at) in [(Signal::KILL, 0), (Signal::TERM, 4), (Signal::KILL, 6)] {
        let mut machine = Machine::new();
        write(&machine.place("old.tar"), &Seed::new(45).streamed(&["app:x"]));
        succeed(&machine.push(&["docker-archive:old.tar", &machine.repository()]));
        let old = machine.manifest("x");
        let chunks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&chunks);
        let proxy = FaultProxy::start(
            machine.registry.address(),
            move |seen| {
                let is_it = seen.site == Site::Patch && counted.fetch_add(1, Ordering::SeqCst) == at;
                is_it.then_some(Kind::Hang)
            },
            |_| {},
        );
        machine.reached_at(proxy.address());
        let seed = Seed::new(46);
        write(&machine.place("new.tar"), &seed.streamed(&["app:x"]));

        let child = machine.start(&["docker-archive:new.tar", &machine.repository()]);
        eventually("the chunk has come", || chunks.load(Ordering::SeqCst) > at);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();

        assert!(!output.status.success());
        assert_eq!(machine.manifest("x"), old);
        drop(proxy);
        let proxy = FaultProxy::start(machine.registry.address(), |_| None, |_| {});
        machine.reached_at(proxy.address());
        write(&machine.place("new.tar"), &seed.streamed(&["app:x"]));
        succeed(&machine.push(&["docker-archive:new.tar", &machine.repository()]));
        assert_eq!(machine.config("x"), seed.config);
    }
}
