//! What a program in the sandbox sees of the host, with the real bubblewrap.
#![cfg(test)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nixlayer::sandbox::{Sandbox, View};

fn bubblewrap() -> Sandbox {
    Sandbox::bubblewrap_in(env!("PATH")).unwrap()
}

fn view(folder: &Path) -> View {
    View {
        read_only: vec![],
        placed: Vec::new(),
        script: None,
        writable: vec![folder.to_owned()],
        host: true,
        network: true,
        tmp: None,
        environment: BTreeMap::from([
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("GIVEN".into(), "yes".into()),
        ]),
        working_directory: folder.to_owned(),
    }
}

/// What `script` prints in a sandbox that shows `folder`.
fn run(view: &View, script: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let output = runtime.block_on(async {
        let mut command = bubblewrap().command(view, OsStr::new("bash"));
        command.args(["-c", script]).output().await.unwrap()
    });
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_environment_is_what_the_view_lists() {
    let folder = tempfile::tempdir().unwrap();

    let seen = run(&view(folder.path()), "env -u PWD -u SHLVL -u _ | sort");

    assert_eq!(seen, "GIVEN=yes\nPATH=/usr/bin:/bin\n");
}

#[test]
fn other_folders_and_processes_are_not_there() {
    let temporary = tempfile::tempdir().unwrap();
    let (own, other) = (temporary.path().join("own"), temporary.path().join("other"));
    fs::create_dir(&own).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(other.join("secret"), "canary").unwrap();
    let mut sleeper = std::process::Command::new("sleep").arg("60").env("SECRET", "canary").spawn().unwrap();

    let other = other.display();
    let seen = run(
        &view(&own),
        &format!(
            "ls {other} /root /home /etc/shadow /var/lib /etc/gitlab-runner 2>&1 | grep -v 'cannot access'; \
             cat {other}/secret 2>/dev/null; grep -az canary /proc/*/environ; ls -d /proc/[0-9]* | wc -l"
        ),
    );

    let _ = sleeper.kill();
    let _ = sleeper.wait();
    // Bubblewrap's own first process, the shell, and the two sides of the pipe.
    assert!(seen.trim().parse::<u32>().is_ok_and(|processes| processes <= 4), "{seen}");
}

#[test]
fn the_host_is_read_only_and_tmp_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let witness = tempfile::NamedTempFile::new().unwrap();

    let seen = run(
        &view(folder.path()),
        &format!(
            "for f in /usr/x /etc/x /nix/x; do touch $f 2>/dev/null && echo wrote $f; done; \
             [ -e {} ] && echo saw it; touch /tmp/own inside && echo fine",
            witness.path().display()
        ),
    );

    assert_eq!(seen, "fine\n");
    assert!(folder.path().join("inside").exists());
    assert!(!Path::new("/tmp/own").exists());
}

#[test]
fn without_a_network_there_is_only_the_own_loopback() {
    let folder = tempfile::tempdir().unwrap();

    let seen = run(
        &View { network: false, ..view(folder.path()) },
        "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '",
    );

    assert_eq!(seen, "lo\n");
}

fn terminate(script: &str, grace: Duration) -> (Duration, String) {
    let folder = tempfile::tempdir().unwrap();
    let view = view(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let took = runtime.block_on(async {
        let mut command = bubblewrap().command(&view, OsStr::new("bash"));
        let mut child = command.args(["-c", script]).spawn().unwrap();
        while !folder.path().join("ready").exists() {
            assert_eq!(child.try_wait().unwrap(), None, "it ended before it was ready");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let start = Instant::now();
        bubblewrap().terminate(&mut child, grace).await.unwrap();
        start.elapsed()
    });
    (took, fs::read_to_string(folder.path().join("log")).unwrap_or_default())
}

#[test]
fn a_script_is_asked_to_end_before_it_is_killed() {
    let script = "trap 'echo asked > log; exit 0' TERM; touch ready; while :; do sleep 0.05; done";

    let (took, log) = terminate(script, Duration::from_secs(600));

    assert_eq!(log, "asked\n");
    assert!(took < Duration::from_secs(300), "{took:?}");
}

#[test]
fn a_script_that_does_not_end_is_killed_with_its_children() {
    let marker = format!("86397.{}", std::process::id());
    let script = format!("trap '' TERM; setsid sleep {marker} & touch ready; while :; do sleep 0.05; done");

    let (took, _) = terminate(&script, Duration::from_millis(300));

    assert!(took >= Duration::from_millis(300), "{took:?}");
    for entry in fs::read_dir("/proc").unwrap() {
        let arguments = fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        assert!(
            !arguments.windows(marker.len()).any(|window| window == marker.as_bytes()),
            "the sleeper is left"
        );
    }
}

#[test]
fn a_link_that_a_job_left_does_not_lead_the_script_elsewhere() {
    let temporary = tempfile::tempdir().unwrap();
    let (own, tmp, outside) =
        (temporary.path().join("own"), temporary.path().join("tmp"), temporary.path().join("outside"));
    for folder in [&own, &tmp, &outside] {
        fs::create_dir(folder).unwrap();
    }
    let script = temporary.path().join("script");
    fs::write(&script, "echo from the script").unwrap();
    let first = temporary.path().components().nth(2).unwrap();
    std::os::unix::fs::symlink(&outside, tmp.join(first)).unwrap();
    let view = View { script: Some(script), tmp: Some(tmp), ..view(&own) };

    let sandbox = bubblewrap();
    let seen = run(
        &View { working_directory: "/".into(), writable: vec![], ..view.clone() },
        "bash /run/nixlayer/script",
    );

    assert_eq!(seen, "from the script\n");
    assert_eq!(sandbox.script_path(&view), Some(Path::new("/run/nixlayer/script")));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn keys_beside_certificates_are_not_there() {
    let folder = tempfile::tempdir().unwrap();

    let seen = run(&view(folder.path()), "ls /etc/ssl; ls /etc/ssl/certs | head -1 | wc -l");

    assert!(!seen.contains("private"), "{seen}");
    assert!(seen.ends_with("1\n"), "{seen}");
}
