//! What a spec asks for is what the image has.

use std::process::Command;

use nixlayer::simulate::Status;
use serde_json::json;

use crate::support::{Kind, TestJob, closure_of, environment, succeed};

/// The packages of the host's set, and two of the project's own.
const PACKAGES: &str = r#"
{ ... }:
let pkgs = import <nixpkgs> { }; in
pkgs // {
  tools."j.q" = pkgs.jq;
  greeting = pkgs.writeTextDir "share/greeting" "good morning";
}
"#;

/// A flake without inputs. Its package lists what evaluation sees of the project.
const FLAKE: &str = r#"
{
  outputs = { self }: {
    packages.x86_64-linux.app = derivation {
      name = "app-1";
      system = "x86_64-linux";
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin";
      args = [ "-c" "mkdir -p $out/bin; cp ${./app.sh} $out/bin/app; ls -A ${self} > $out/listing" ];
    };
  };
}
"#;

const SPEC: &str = r#"
name: team/everything
nixpkgs: ./nix
contents:
  - bash
  - tools."j.q"
  - HELLO
  - .#app
extraCommands: |
  mkdir -p srv/open
  chmod 1777 srv/open
  ln -s ${pkgs.greeting}/share/greeting srv/greeting
  for place in /etc /home /root /usr /var /builds /nix/var PLACE; do
    if [ -e "$place" ]; then echo "sees $place" >> srv/seen; fi
  done
  if (exec 3<> /dev/tcp/PROBE) 2> srv/refusal; then echo "sees the network" >> srv/seen; fi
  ps=$(echo /proc/[0-9]*) && [ "${ps#* * * * }" = "$ps" ] || echo "sees processes: $ps" >> srv/seen
  env > srv/environment
paths:
  - { path: /var/lib/app, type: directory, uid: 1000, gid: 1000, mode: "0750" }
  - { path: /etc/motd, type: file, content: "hello\n" }
  - { path: /usr/bin/greet, type: symlink, target: /srv/greeting }
  - { path: /srv/www, type: copy, source: ./public, gid: 7 }
  - { path: /srv/www/run, type: permissions, mode: "0700" }
  - { path: /srv/www, type: permissions, uid: 1000, recursive: true }
accounts:
  users:
    - { name: app, uid: 1000, home: /var/lib/app, shell: /bin/bash, gecos: The App }
  groups:
    - { name: logs, gid: 2000, members: [app] }
  runAs: app
presets: [tmp, usr-bin-env, bin-sh, ca-certificates, nss]
config:
  CMD: ["${pkgs.curl}/bin/curl", --version]
  env: { PATH: /bin, CERTIFICATES: "${pkgs.cacert}/etc" }
  workingdir: /srv
  Labels: { org.example.revision: $CI_COMMIT_SHA, org.example.who: "${pkgs.hello} of $CI_PROJECT_PATH for 5 $$" }
  Healthcheck: { Test: [CMD, /bin/app], Interval: 30s, StartPeriod: 1m30s, Retries: 3 }
  ExposedPorts: [8080/tcp]
created: 2026-01-31T12:00:00Z
tags: [$CI_COMMIT_REF_SLUG, v1.10, $CI_COMMIT_TAG]
annotations: { org.example.source: "${CI_PROJECT_URL}/x", org.opencontainers.image.title: Everything }
layers: { max: 5 }
compression: fast
"#;

#[test]
fn everything_a_spec_can_say_is_in_the_image() {
    let hello = environment().package("hello").to_string();
    let mut job = TestJob::image_of_spec("")
        .file("nix/default.nix", PACKAGES)
        .file("flake.nix", FLAKE)
        .file("app.sh", "#!/bin/sh\necho app\n")
        .file("public/index.html", "<p>hello</p>\n");
    let probe = job.registry_host.replace(':', "/");
    let place = job.root.path().to_str().unwrap();
    let spec = SPEC.replace("HELLO", &hello).replace("PROBE", &probe).replace("PLACE", place);
    job.script = vec![
        "echo '#!/bin/sh' > public/run && chmod 755 public/run".to_owned(),
        "ln -s index.html public/start.html".to_owned(),
        // What the spec's commands must not reach is there to be reached.
        format!("(exec 3<> /dev/tcp/{probe}) && test -e /etc && test -e /usr"),
    ];
    let job = job.file("image.yaml", &spec);

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert_eq!(job.tags(), ["team/app:main", "team/app:v1.10"]);
    assert!(outcome.trace.contains("tag 3 of 3 is left out: the variable `$CI_COMMIT_TAG` is not set\n"));
    let image = job.pushed("v1.10");
    let root = image.root();

    // Packages: those of `contents` at the top, all others by their store paths.
    let package = |name: &str| environment().package(name).to_string();
    let (bash, jq, coreutils) = (package("bash"), package("jq"), package("coreutils"));
    let (curl, cacert) = (package("curl"), package("ca-certificates"));
    let store_path = |target: &str| target.split('/').take(4).collect::<Vec<_>>().join("/");
    let app = store_path(root["/bin/app"].target());
    let greeting = store_path(root["/srv/greeting"].target());
    for (link, target) in [
        ("/bin/bash", format!("{bash}/bin/bash")),
        ("/bin/jq", format!("{jq}/bin/jq")),
        ("/bin/hello", format!("{hello}/bin/hello")),
        ("/bin/app", format!("{app}/bin/app")),
        ("/usr/bin/greet", "/srv/greeting".to_owned()),
        ("/usr/bin/env", format!("{coreutils}/bin/env")),
        ("/bin/sh", format!("{bash}/bin/bash")),
        ("/etc/ssl/certs/ca-bundle.crt", format!("{cacert}/etc/ssl/certs/ca-bundle.crt")),
        ("/srv/www/start.html", "index.html".to_owned()),
    ] {
        assert_eq!(root[link].target(), target, "{link}");
    }
    assert!(!root.contains_key("/bin/curl") && !root.contains_key("/share/greeting"));
    let all = [&bash, &jq, &hello, &app, &greeting, &coreutils, &curl, &cacert];
    assert_eq!(image.store_paths(), closure_of(all));
    assert_eq!(image.layers.len(), 5);

    // Commands: their own tree and the store, and nothing of the host.
    assert!(!root.contains_key("/srv/seen"), "{}", root["/srv/seen"].text());
    assert!(root["/srv/refusal"].text().contains("/dev/tcp/"));
    let environment = root["/srv/environment"].text();
    assert!(environment.contains("PATH=") && !environment.contains("CI_"), "{environment}");

    // Paths and accounts. The script of the job made some of them.
    let listed: Vec<_> = [
        "/srv/open",
        "/var/lib/app",
        "/etc/motd",
        "/srv/www",
        "/srv/www/index.html",
        "/srv/www/run",
        "/tmp",
        "/var/tmp",
    ]
    .map(|path| (path, root[path].mode, root[path].owner))
    .into_iter()
    .collect();
    assert_eq!(
        listed,
        [
            ("/srv/open", 0o1777, (0, 0)),
            ("/var/lib/app", 0o750, (1000, 1000)),
            ("/etc/motd", 0o644, (0, 0)),
            ("/srv/www", 0o755, (1000, 7)),
            ("/srv/www/index.html", 0o644, (1000, 7)),
            ("/srv/www/run", 0o700, (1000, 7)),
            ("/tmp", 0o1777, (0, 0)),
            ("/var/tmp", 0o1777, (0, 0)),
        ]
    );
    assert_eq!(root["/etc/motd"].text(), "hello\n");
    assert_eq!(root["/srv/www/index.html"].text(), "<p>hello</p>\n");
    let last_line = |file: &str| root[file].text().lines().last().unwrap().to_owned();
    assert_eq!(last_line("/etc/passwd"), "app:x:1000:1000:The App:/var/lib/app:/bin/bash");
    assert!(root["/etc/group"].text().lines().any(|line| line == "logs:x:2000:app"));
    assert_eq!(root["/etc/nsswitch.conf"].kind, Kind::File(b"hosts: files dns\n".to_vec()));

    // Configuration and annotations.
    let origin = job.place("origin.git");
    let sha = succeed(Command::new("git").args(["rev-parse", "main"]).current_dir(origin).output().unwrap());
    let sha = sha.trim();
    let url = format!("http://{}/team/app", job.registry_host);
    let config = image.config();
    assert_eq!(config["User"], "1000");
    assert_eq!(config["Cmd"], json!([format!("{curl}/bin/curl"), "--version"]));
    assert_eq!(config["Env"], json!(["PATH=/bin", format!("CERTIFICATES={cacert}/etc")]));
    assert_eq!(config["WorkingDir"], "/srv");
    assert_eq!(config["ExposedPorts"], json!({ "8080/tcp": {} }));
    assert_eq!(config["Labels"]["org.example.revision"], sha);
    assert_eq!(config["Labels"]["org.example.who"], format!("{hello} of team/app for 5 $"));
    assert_eq!(config["Labels"]["org.opencontainers.image.revision"], sha);
    let seconds = |number: u64| number * 1_000_000_000;
    assert_eq!(
        config["Healthcheck"],
        json!({ "Test": ["CMD", "/bin/app"], "Interval": seconds(30), "StartPeriod": seconds(90), "Retries": 3 })
    );
    assert_eq!(image.configuration["created"], "2026-01-31T12:00:00Z");
    let annotations = &image.manifest["annotations"];
    assert_eq!(annotations["org.example.source"], format!("{url}/x"));
    assert_eq!(annotations["org.opencontainers.image.title"], "Everything");
    assert_eq!(annotations["org.opencontainers.image.revision"], sha);
    assert_eq!(annotations["org.opencontainers.image.source"], url);

    // The clone's own settings hold the job's token, and everybody can read the store.
    let listing = std::fs::read_to_string(format!("{app}/listing")).unwrap();
    assert!(listing.lines().any(|name| name == "flake.nix") && !listing.contains(".git"), "{listing}");
}
