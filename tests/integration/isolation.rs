//! What a job, and the expressions and builders of its packages, can reach; and what it cannot.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;

use nixlayer::simulate::{Outcome, Status};

use crate::support::{TOKEN, TestJob, eventually, exit_code, processes, processes_naming};

const CANARY: &str = "canary-of-the-runner";

/// A job whose runner has secrets: in its environment, in its home, in a file beside its folders.
fn on_a_runner_with_secrets(mut job: TestJob) -> TestJob {
    fs::create_dir_all(job.place("home/.gitlab-runner")).unwrap();
    fs::create_dir_all(job.place("etc/gitlab-runner")).unwrap();
    for file in ["home/.gitlab-runner/config.toml", "etc/gitlab-runner/config.toml"] {
        fs::write(job.place(file), format!("token = \"{CANARY}\"\n")).unwrap();
    }
    job.runner.environment.extend([
        ("RUNNER_SECRET".into(), CANARY.into()),
        ("AWS_SECRET_ACCESS_KEY".into(), CANARY.into()),
        ("HTTPS_PROXY".into(), format!("http://user:{CANARY}@127.0.0.1:1").into()),
        ("NO_PROXY".into(), "127.0.0.1".into()),
    ]);
    job
}

/// Runs `job` while another project's job runs on the same host.
fn run_beside_a_neighbour(job: &TestJob) -> Outcome {
    let mut neighbour =
        TestJob::new(&["echo canary-of-the-neighbour > secret; echo neighbour is there; sleep 600"])
            .variable("NEIGHBOUR", "canary-of-the-neighbour");
    neighbour.admin["state_dir"] = job.admin["state_dir"].clone();
    (neighbour.id, neighbour.project) = (8, "team/neighbour".to_owned());
    thread::scope(|scope| {
        let (sender, there) = std::sync::mpsc::channel();
        let running = scope.spawn(|| {
            neighbour.run_watching(move |log| {
                if log.contains("\nneighbour is there\n") {
                    // Once is enough.
                    let _ = sender.send(());
                }
            })
        });
        let ready = there.recv_timeout(std::time::Duration::from_secs(300));
        let outcome = ready.is_ok().then(|| job.run());
        neighbour.cancel.store(true, Ordering::Relaxed);
        assert_eq!(running.join().unwrap().status, Status::Cancelled);
        outcome.expect("the neighbour did not start")
    })
}

/// What a job of `job`'s runner has no business with.
fn foreign_places(job: &TestJob) -> Vec<PathBuf> {
    let state = job.place("state");
    let mut places = vec![
        job.place("home"),
        job.place("etc"),
        job.place("config.yaml"),
        state.join("jobs"),
        job.place("artifacts"),
        job.place("origin.git"),
        job.place("project"),
    ];
    places.extend(
        [
            "/etc/nixlayer",
            "/etc/gitlab-runner",
            "/etc/shadow",
            "/etc/ssh",
            "/root",
            "/home",
            "/var/lib",
            "/run/dbus",
        ]
        .map(PathBuf::from),
    );
    places
}

/// Looks for secrets in every way that a script can think of. Prints a line per find.
fn probe(job: &TestJob) -> String {
    let places: Vec<_> = foreign_places(job).iter().map(|place| format!("'{}'", place.display())).collect();
    let temp = job.runner.temp_dir.display();
    let builds = job.place("state/builds");
    let root = job.root.path().display();
    [
        format!("for p in {}; do ls \"$p\" 2>/dev/null | sed \"s#^#SEEN $p: #\" || true; done", places.join(" ")),
        // Its own script is the one thing that a job sees of the runner's folder.
        format!("find {temp} -type f 2>/dev/null | grep -v /script | sed 's/^/SEEN /' || true"),
        format!("ls {} | tail -n +2 | sed 's/^/SEEN other job /' || true", builds.display()),
        "grep -azl canary-of /proc/[0-9]*/environ 2>/dev/null | sed 's/^/SEEN /' || true".to_owned(),
        "env | grep -E '^(CUSTOM_ENV_|JOB_RESPONSE_FILE|BUILD_|SYSTEM_FAILURE|RUNNER_SECRET|AWS_|HTTPS_PROXY)' | sed 's/^/SEEN /' || true".to_owned(),
        "ls -l /proc/self/fd /proc/1/fd | grep -v 'pipe:\\|/dev/null\\|/proc/\\|total\\|^$\\|eventfd' | sed 's/^/SEEN /' || true".to_owned(),
        format!("for p in 1 $$ $PPID; do ls -d /proc/$p/root/home /proc/$p/root/{root}/home /proc/$p/cwd/../../home 2>/dev/null | sed 's/^/SEEN /' || true; done"),
format!("ls {} | tail -n +2 | sed 's/^/SEEN other cache /' || true", job.place("state/cache").display()),
        "for p in /proc/[0-9]*; do [ -d $p/task ] && echo \"process $(tr '\\0' ' ' < $p/cmdline | cut -c1-40)\"; done".to_owned(),
        "echo probed".to_owned(),
    ]
    .join("\n")
}

#[test]
fn a_script_sees_its_own_job_and_nothing_else() {
    let mut job = on_a_runner_with_secrets(TestJob::new(&[]));
    job.script = vec![probe(&job)];
    job.after_script = vec![probe(&job)];

    let outcome = run_beside_a_neighbour(&job);

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    let seen: Vec<&str> = outcome.trace.lines().filter(|line| line.starts_with("SEEN")).collect();
    assert_eq!(seen, Vec::<&str>::new());
    assert_eq!(outcome.trace.lines().filter(|line| *line == "probed").count(), 2, "{}", outcome.trace);
    assert!(!outcome.trace.contains("process sleep"), "{}", outcome.trace);
    job.assert_nothing_left();
}

#[test]
fn a_script_can_write_to_its_own_folders_only() {
    let mut job = TestJob::new(&[]);
    let tool = job.place("tool");
    fs::write(&tool, "original\n").unwrap();
    job.admin["scripts"]["read_only"] = serde_json::json!([tool]);
    let places = [
        "/usr/bin/x",
        "/etc/x",
        "/nix/store/x",
        "/nix/var/nix/gcroots/x",
        "/x",
        "/proc/sys/kernel/core_pattern",
    ];
    job.script = vec![
        format!("for p in {} {}; do (: >> $p) 2>/dev/null && echo WROTE $p; done || true", places.join(" "), tool.display()),
        "mount -o remount,rw / 2>/dev/null && echo WROTE / || true".to_owned(),
        "unshare --user --map-root-user --mount mount -o remount,rw,bind /usr 2>/dev/null && echo WROTE /usr || true".to_owned(),
        "kill -9 1 2>/dev/null; echo x > ~/x; echo x > /tmp/x; echo x > x; echo fine".to_owned(),
    ];

    let outcome = job.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert!(!outcome.trace.contains("\nWROTE"), "{}", outcome.trace);
    assert!(outcome.trace.contains("\nfine\n"));
    assert_eq!(job.noted("tool"), "original\n");
}

#[test]
fn evaluation_sees_the_project_and_nothing_else() {
    let job = on_a_runner_with_secrets(TestJob::image(&[]));
    let places: Vec<_> =
        foreign_places(&job).iter().map(|place| format!("\"{}\"", place.display())).collect();
    let packages = format!(
        r#"{{ }}: throw (builtins.toJSON {{
          seen = builtins.filter builtins.pathExists (map (p: /. + p) [ {} "{}" ]);
          state = builtins.attrNames (builtins.readDir {});
          project = builtins.attrNames (builtins.readDir ./..);
          processes = builtins.length (builtins.filter (p: builtins.match "[0-9]+" p != null)
            (builtins.attrNames (builtins.readDir /proc)));
          environment = map builtins.getEnv [
            "RUNNER_SECRET" "JOB_RESPONSE_FILE" "CUSTOM_ENV_CI_JOB_TOKEN" "CI_JOB_TOKEN" "HTTPS_PROXY"
          ];
        }})"#,
        places.join(" ").replace(&format!("\"{}\"", job.place("state/jobs").display()), ""),
        job.runner.temp_dir.display(),
        job.place("state").display(),
    );
    let job = job.file("packages/default.nix", &packages);

    let outcome = run_beside_a_neighbour(&job);

    assert_eq!(exit_code(&outcome, "build_script"), Some(41), "{}", outcome.trace);
    let (_, seen) = outcome.trace.split_once("{\"environment\"").expect(&outcome.trace);
    let seen = format!("{{\"environment\"{}", seen.lines().next().unwrap());
    let seen: serde_json::Value = serde_json::from_str(&seen).expect(&seen);
    assert_eq!(seen["environment"], serde_json::json!(["", "", "", "", ""]));
    assert_eq!(seen["seen"], serde_json::json!([]));
    // The driver's folder for its own roots, the folder of the checkout, and Nix' downloads.
    assert_eq!(seen["state"], serde_json::json!(["builds", "jobs", "nix"]));
    assert_eq!(seen["project"], serde_json::json!([".git", "hello.txt", "image.yaml", "packages"]));
    assert!(seen["processes"].as_u64().unwrap() <= 3, "{seen}");
    assert!(!job.noted("artifacts/nixlayer-report/nix.log").contains("canary"));
}

#[test]
fn processes_that_leave_their_parents_end_with_the_stage() {
    let marker = format!("86311.{}", std::process::id());
    let mut job = TestJob::new(&[&format!(
        "(setsid sleep {marker} </dev/null >/dev/null 2>&1 &) ; setsid sh -c 'trap \"\" TERM HUP; sleep {marker}' & \
         nohup sleep {marker} >/dev/null & echo started; \
         for i in $(seq 6000); do [ -e go ] && break; sleep 0.05; done; [ -e go ]"
    )]);
    job.after_script = vec!["echo later".to_owned()];
    let mut during = Vec::new();
    let mut after = None;

    let outcome = job.run_watching(|log| {
        if during.is_empty() && log.contains("\nstarted\n") {
            let sleepers = || processes_naming(&format!("sleep {marker}"));
            during = eventually(sleepers, |seen| seen.len() >= 3);
            job.go_on();
        }
        if log.contains("\nlater\n") {
            after = Some(processes_naming(&format!("sleep {marker}")));
        }
    });

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert!(during.len() >= 3, "{during:?}");
    assert_eq!(after, Some(Vec::new()));
    assert_eq!(eventually(|| processes_naming(&marker), Vec::is_empty), Vec::<String>::new());
}

/// The script replaces a folder above its checkout, so that the driver's path to the project leads
/// to a place of the driver's user.
#[test]
fn a_project_that_became_a_link_is_not_followed() {
    for swap in [
        "cd ../..; mv team team.old; ln -s {victim} team",
        "cd ..; mv app app.old; ln -s {victim}/app app",
        "cd ..; mv app app.old; ln -s ../../../../../victim/app app",
    ] {
        let job = TestJob::image(&[]);
        let victim = job.place("victim");
        fs::create_dir_all(victim.join("app/packages")).unwrap();
        fs::write(victim.join("app/image.yaml"), "name: app\nnixpkgs: ./packages\ncontents: [stolen]\n")
            .unwrap();
        fs::write(victim.join("app/packages/default.nix"), "{ }: { stolen = ./secret; }").unwrap();
        fs::write(victim.join("app/packages/secret"), "canary-of-the-victim").unwrap();
        let mut job = job;
        job.script = vec![swap.replace("{victim}", &victim.to_string_lossy())];

        let outcome = job.run();

        assert_eq!(exit_code(&outcome, "build_script"), Some(41), "{swap}\n{}", outcome.trace);
        assert!(outcome.trace.contains("links must not lead out of it"), "{swap}\n{}", outcome.trace);
        assert_eq!(job.registry.tags(), [], "{swap}");
        assert!(!victim.join("app/nixlayer-report").exists(), "{swap}");
        job.assert_nothing_left();
    }
}

/// What stands in the place of a file that the driver opens may be anything.
#[test]
fn the_driver_waits_for_no_pipe_and_follows_no_link_in_the_project() {
    for (trick, reason) in [
        ("rm image.yaml; mkfifo image.yaml", "`image.yaml`"),
        ("rm image.yaml; ln -s /etc/passwd image.yaml", "`image.yaml`"),
        ("rm image.yaml; ln -s ../../../../../config.yaml image.yaml", "`image.yaml`"),
        ("rm image.yaml; mkdir image.yaml", "`image.yaml`"),
        ("rm image.yaml; ln -s /dev/zero image.yaml", "`image.yaml`"),
        ("ln -s /tmp nixlayer-report", "`nixlayer-report/image.env`"),
        ("mkdir -p nixlayer-report/image.env", "`nixlayer-report/image.env`"),
    ] {
        let job = TestJob::image(&[trick]);

        let outcome = job.run();

        assert_eq!(exit_code(&outcome, "build_script"), Some(41), "{trick}\n{}", outcome.trace);
        assert!(
            outcome.trace.contains(reason) && outcome.trace.contains("\n  fix: "),
            "{trick}\n{}",
            outcome.trace
        );
        job.assert_nothing_left();
    }
    // These the driver can put right by itself.
    for trick in [
        "mkdir nixlayer-report; mkfifo nixlayer-report/image.env.new nixlayer-report/image.json",
        "mkdir nixlayer-report; ln -s /etc/hostname nixlayer-report/image.env.new; ln -s ../../x nixlayer-report/image.env",
    ] {
        let job = TestJob::image(&[trick]);

        let outcome = job.run();

        assert_eq!(outcome.status, Status::Success, "{trick}\n{}", outcome.trace);
        assert!(job.noted("artifacts/nixlayer-report/image.env").contains("sha256:"), "{trick}");
    }
}

/// A project may go, and another come whose path goes on where the old one's ended. What the first
/// left in its cache must not decide what the second one's sandbox shows.
#[test]
fn a_link_in_a_cache_leads_no_later_job_out() {
    let sentinel = "canary-of-the-victim";
    let mut job =
        TestJob::new(&["true"]).wrapper(r#"[ $stage != config ] || { "$@" | tee $ROOT/config.json; exit; }"#);
    let victim = job.place("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("secret"), sentinel).unwrap();
    job.run();
    let config: serde_json::Value = serde_json::from_str(&job.noted("config.json")).unwrap();
    let cache = Path::new(config["cache_dir"].as_str().unwrap());
    // As the first project's script may do in all that it can write to.
    for folder in [cache.join("team/app"), cache.to_owned()] {
        fs::create_dir_all(&folder).unwrap();
        symlink(&victim, folder.join("later")).unwrap();
    }

    (job.id, job.project) = (8, "team/app/later".to_owned());
    let reach = |place: &Path| format!("cat {0}/secret; echo x > {0}/written", place.display());
    job.script = [cache.join("team/app/later"), cache.join("later"), victim.clone()]
        .iter()
        .map(|place| format!("({}) || true", reach(place)))
        .collect();
    let outcome = job.run();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert!(!outcome.trace.contains(sentinel), "{}", outcome.trace);
    assert!(!victim.join("written").exists());
}

#[test]
fn no_secret_leaves_the_driver() {
    let mut job = on_a_runner_with_secrets(TestJob::image(&["sleep 0.3"]));
    job.after_script = vec!["true".to_owned()];
    let job = job.variable("MASKED", "canary-of-the-author").wrapper(
        // The trace is looked at before the runner masks it, the folders before they are removed.
        r#"if [ $stage = cleanup ]; then
             grep -rlaE 'canary-|Y2FuYXJ5' $ROOT/state/jobs $ROOT/state/nix $ROOT/state/cache \
               $ROOT/state/builds/*/home $ROOT/state/builds/*/tmp $ROOT/state/builds/*/builds/team/app > $ROOT/found
             "$@" > $ROOT/cleanup.log 2>&1; exit
           fi
           "$@" 2>&1 | tee -a $ROOT/raw.log; exit ${PIPESTATUS[0]}"#,
    );
    let mut commands = Vec::new();
    let done = std::sync::atomic::AtomicBool::new(false);

    let outcome = thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut seen = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let lines = processes().into_iter().map(|(_, line)| line);
                seen.extend(lines.filter(|line| !secrets_in(line.as_bytes()).is_empty()));
                thread::sleep(std::time::Duration::from_millis(5));
            }
            seen
        });
        let outcome = job.run();
        done.store(true, Ordering::Relaxed);
        commands.extend(sampler.join().unwrap());
        outcome
    });

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert_eq!(commands, Vec::<String>::new());
    assert_eq!(job.noted("found"), "");
    for log in ["raw.log", "cleanup.log"] {
        assert_eq!(secrets_in(job.noted(log).as_bytes()), Vec::<String>::new(), "{log}");
    }
    assert!(job.noted("raw.log").contains("digest: sha256:"));
    for (name, bytes) in pushed(&job) {
        assert_eq!(secrets_in(&bytes), Vec::<String>::new(), "{name}");
    }
    for file in ["image.env", "image.json", "annotations.json"] {
        let report = job.noted(&format!("artifacts/nixlayer-report/{file}"));
        assert_eq!(secrets_in(report.as_bytes()), Vec::<String>::new(), "{file}");
    }
    job.assert_nothing_left();
}

/// The secrets of the test that stand in `bytes`, plainly or in base64 at any of its three offsets.
fn secrets_in(bytes: &[u8]) -> Vec<String> {
    use base64::Engine as _;
    let mut wanted = Vec::new();
    for secret in [TOKEN, CANARY, "canary-of-the-author", "gitlab-ci-token:canary"] {
        wanted.push(secret.to_owned());
        for before in ["", "x", "xx"] {
            let encoded =
                base64::engine::general_purpose::STANDARD_NO_PAD.encode(format!("{before}{secret}"));
            wanted.push(encoded[4..encoded.len() - 2].to_owned());
        }
    }
    wanted.retain(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()));
    wanted
}

/// Everything that the job's image is made of, layers decompressed.
fn pushed(job: &TestJob) -> Vec<(String, Vec<u8>)> {
    let manifest = job.registry.manifest("team/app", "latest").unwrap();
    let parsed: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let mut all = vec![("manifest".to_owned(), manifest.to_vec())];
    let layers = parsed["layers"].as_array().unwrap();
    for blob in layers.iter().chain([&parsed["config"]]) {
        let digest = blob["digest"].as_str().unwrap();
        let bytes = job.registry.blob("team/app", &digest.parse().unwrap()).unwrap();
        let mut plain = Vec::new();
        if blob["mediaType"].as_str().unwrap().ends_with("gzip") {
            std::io::copy(&mut flate2::read::MultiGzDecoder::new(&*bytes), &mut plain).unwrap();
        } else {
            plain.extend_from_slice(&bytes);
        }
        all.push((digest.to_owned(), plain));
    }
    assert!(all.len() >= 4, "{parsed}");
    all
}

/// What evaluates packages keeps downloads. A builder without Nix' own sandbox, or a program that
/// evaluation starts, may write there; that must not decide what other projects' packages are.
#[test]
fn what_a_build_leaves_in_the_folders_of_nix_reaches_no_other_project() {
    let mut job = TestJob::image(&[]);
    let downloads = job.place("state/nix");
    // `restrict-eval` would keep Nix from reading any project.
    let plant = format!(
        "for folder in {0} {0}/*; do if [ -w $folder ]; then mkdir -p $folder/.config/nix $folder/nix; \
         for file in .config/nix/nix.conf nix/nix.conf; do echo restrict-eval = true > $folder/$file; done; \
         echo planted > $folder/planted; fi; done; ls -A {0} > $out",
        downloads.display()
    );
    let number = std::process::id();
    let packages = format!(
        "{{ }}: {{ plant = derivation {{ name = \"plant-{number}\"; system = builtins.currentSystem; \
         builder = \"/bin/sh\"; PATH = \"/usr/bin:/bin\"; args = [ \"-c\" ''{plant}'' ]; }}; }}"
    );
    let harmless = fs::read_to_string(job.place("project/packages/default.nix")).unwrap();
    job = job.file("packages/default.nix", &packages);
    let spec = "name: app\nnixpkgs: ./packages\ncontents: [PACKAGE]\n";
    fs::write(job.place("project/image.yaml"), spec.replace("PACKAGE", "plant")).unwrap();
    let planting = job.run();
    assert!(planting.trace.contains("building '"), "{}", planting.trace);

    let see = format!(
        "throw (builtins.toJSON {{ seen = let look = folder: builtins.concatMap (name: [ name ] ++ \
         (if (builtins.readDir folder).${{name}} == \"directory\" then look (folder + \"/${{name}}\") else [ ])) \
         (builtins.attrNames (builtins.readDir folder)); in look {}; }})",
        downloads.display()
    );
    fs::write(job.place("project/image.yaml"), spec.replace("PACKAGE", "hello")).unwrap();
    fs::write(job.place("project/packages/default.nix"), format!("{{ }}: {see}")).unwrap();
    job.project = "team/app/other".to_owned();
    let other = job.run();
    fs::write(job.place("project/packages/default.nix"), harmless).unwrap();
    job.project = "team/app".to_owned();
    let same = job.run();

    assert!(other.trace.contains("{\"seen\":"), "{}", other.trace);
    assert!(!other.trace.contains("planted"), "{}", other.trace);
    assert_eq!(same.status, Status::Success, "{}", same.trace);
}
