//! `nixlayer build` beside a real registry, with credentials where container tools keep them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::json;

use crate::support::{Account, Auth, DockerRegistry, Packages, TestJob, TokenIssuer, skopeo, succeed};

const RIGHT: &str = "canary-right-4711";
const WRONG: &str = "canary-wrong-4711";

fn issuer() -> TokenIssuer {
    let grants = BTreeMap::from([
        ("team/app", ["pull", "push"].as_slice()),
        ("team/base", &["pull", "push"]),
        ("team/other", &["pull"]),
    ]);
    TokenIssuer::start(vec![Account { user: "ada", password: RIGHT, grants }], SignedDuration::from_mins(5))
}

/// The example project, on a machine whose admin trusts the registry and its token endpoint without TLS.
fn job(registry: &DockerRegistry, issuer: &TokenIssuer) -> TestJob {
    TestJob::example("hello")
        .trusting(registry.address())
        .trusting(&issuer.address())
        .with_tokens_from(registry.address(), &issuer.address())
}

/// Writes a file of credentials as `docker login` does, and gives its path.
fn auth_file(job: &TestJob, file: &str, registry: &str, password: &str) -> String {
    let auth = STANDARD.encode(format!("ada:{password}"));
    let text = json!({ "auths": { registry: { "auth": auth } } }).to_string();
    let file = job.place(file);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// What the command printed: to standard output, and as an error.
fn printed(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    for password in [RIGHT, WRONG] {
        let pair = STANDARD.encode(format!("ada:{password}"));
        assert!(![&stdout, &stderr].iter().any(|text| text.contains(password) || text.contains(&pair)));
    }
    (stdout, stderr)
}

fn digest(image: &str) -> String {
    let credentials = format!("ada:{RIGHT}");
    let creds = ["--creds", &credentials];
    let of_registry = if image.starts_with("docker://") { &creds[..] } else { &[] };
    let arguments =
        [&["inspect", "--tls-verify=false", "--format={{.Digest}}"], of_registry, &[image]].concat();
    succeed(skopeo(&arguments)).trim().to_owned()
}

#[test]
fn build_pushes_with_tokens_to_several_places_and_then_only_what_is_new() {
    let issuer = issuer();
    let registry = DockerRegistry::start(Auth::Token(&issuer));
    let job = job(&registry, &issuer);
    let auth = auth_file(&job, "auth.json", registry.address(), RIGHT);
    let there = format!("{}/team/app", registry.address());
    let other_tag = format!("docker://{there}:other");
    let build = |target: &str| {
        job.build(
            &["image.yaml", "--to", target, "--to", &other_tag, "--to", "oci:layout"],
            &[("REGISTRY_AUTH_FILE", &auth)],
        )
    };

    let (stdout, _) = printed(&assert_success(build(&there)));
    let digests: Vec<&str> = stdout.lines().filter_map(|line| line.strip_prefix("digest: ")).collect();
    let layout = format!("oci:{}:latest", job.place("project/layout").display());
    let found = [format!("docker://{there}:latest"), other_tag.clone(), layout].map(|image| digest(&image));
    assert_eq!(digests, found);
    assert_eq!(found[0], found[2]);
    // A layer of hello, and one of what is in no store path. The second place is the same repository.
    let built = |stdout: &str| -> Vec<String> {
        let totals = stdout.lines().filter_map(|line| line.strip_prefix("layers: "));
        totals.map(|totals| totals.split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(built(&stdout), ["2", "0", "2"], "{stdout}");

    let (stdout, _) = printed(&assert_success(build(&there)));
    assert_eq!(built(&stdout), ["0", "0", "0"], "{stdout}");
}

/// One token covers both repositories, as GitLab gives it to a job that may read the other project's.
#[test]
fn layers_of_another_repository_are_mounted() {
    let issuer = issuer();
    let registry = DockerRegistry::start(Auth::Token(&issuer));
    let mut job = job(&registry, &issuer);
    let auth = auth_file(&job, "auth.json", registry.address(), RIGHT);
    let key = job.place("key");
    succeed(job.nixlayer(&["keygen", "k", key.to_str().unwrap()]));
    job.admin["records"] = json!({ "key_file": key });
    let build = |job: &TestJob, repository: &str| {
        let to = format!("{}/team/{repository}", registry.address());
        let built = job.build(&["image.yaml", "--to", &to], &[("REGISTRY_AUTH_FILE", &auth)]);
        printed(&assert_success(built)).0
    };
    build(&job, "base");
    let spec = fs::read_to_string(job.place("project/image.yaml")).unwrap();
    let from = format!("layers: {{ reuseFrom: \"{}/team/base:latest\" }}\n", registry.address());
    let job = job.file("image.yaml", &(spec + &from));
    fs::remove_dir_all(job.place("state")).unwrap();

    let said = build(&job, "app");

    assert!(said.contains("layers: 0 (0 B) built, 0 (0 B) reused, 2 ("), "{said}");
    let there = format!("docker://{}/team/app:latest", registry.address());
    let credentials = format!("ada:{RIGHT}");
    let (layout, creds) =
        (format!("oci:{}:latest", job.place("copy").display()), ["--src-creds", &credentials]);
    succeed(skopeo(&[&["copy", "--src-tls-verify=false"], &creds[..], &[&there, &layout]].concat()));
}

#[test]
fn wrong_password_is_shown_to_the_token_endpoint_once() {
    let issuer = issuer();
    let registry = DockerRegistry::start(Auth::Token(&issuer));
    let job = job(&registry, &issuer);
    let there = format!("{}/team/app", registry.address());
    let auth = auth_file(&job, "auth.json", registry.address(), WRONG);

    let output = job.build(&["image.yaml", "--to", &there], &[("REGISTRY_AUTH_FILE", &auth)]);

    let (_, stderr) = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(issuer.requests(), 1);
    let stderr = stderr.replace(registry.address(), "REGISTRY").replace(&issuer.address(), "ISSUER");
    insta::assert_snapshot!("wrong_password", stderr);
}

#[test]
fn repository_without_the_right_to_push_is_named() {
    let issuer = issuer();
    let registry = DockerRegistry::start(Auth::Token(&issuer));
    let job = job(&registry, &issuer);
    let there = format!("{}/team/other", registry.address());
    let auth = auth_file(&job, "auth.json", registry.address(), RIGHT);

    let output = job.build(&["image.yaml", "--to", &there], &[("REGISTRY_AUTH_FILE", &auth)]);

    let (_, stderr) = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    insta::assert_snapshot!("no_right_to_push", stderr.replace(registry.address(), "REGISTRY"));
}

#[test]
fn registry_with_passwords_takes_dockers_own_file() {
    let registry = DockerRegistry::start(Auth::Htpasswd { user: "ada", password: RIGHT });
    let job = TestJob::example("hello").trusting(registry.address());
    let there = format!("{}/team/app:1.0", registry.address());
    auth_file(&job, "right/config.json", registry.address(), RIGHT);
    auth_file(&job, "wrong/config.json", registry.address(), WRONG);
    let folder = |name: &str| job.place(name).to_str().unwrap().to_owned();
    let build =
        |docker_config: &str| job.build(&["image.yaml", "--to", &there], &[("DOCKER_CONFIG", docker_config)]);

    let refused = build(&folder("wrong"));
    let nobody = build(&folder("none"));
    let pushed = build(&folder("right"));

    let (_, stderr) = printed(&refused);
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("the credentials for `127.0.0.1"), "{stderr}");
    assert_eq!(
        registry.log().matches("error authenticating user").count(),
        1,
        "a wrong password is sent once"
    );
    let (_, stderr) = printed(&nobody);
    assert_eq!(nobody.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("asks for credentials, and there are none") && stderr.contains("fix:"),
        "{stderr}"
    );
    printed(&assert_success(pushed));
    assert!(digest(&format!("docker://{there}")).starts_with("sha256:"));
}

#[test]
fn credentials_are_found_where_skopeo_login_puts_them() {
    let registry = DockerRegistry::start(Auth::Htpasswd { user: "ada", password: RIGHT });
    let job = TestJob::example("hello").trusting(registry.address());
    let there = format!("{}/team/app:1.0", registry.address());
    let run = job.place("run").to_str().unwrap().to_owned();
    fs::create_dir(&run).unwrap();
    let login = ["login", "--tls-verify=false", "--username=ada", "--password", RIGHT];
    let skopeo = |does: &[&str], with: &str| {
        succeed(Command::new("skopeo").args(does).arg(with).env("XDG_RUNTIME_DIR", &run).output().unwrap());
    };
    let build = |value: &str| job.build(&["image.yaml", "--to", &there], &[("XDG_RUNTIME_DIR", value)]);

    let (_, nobody) = printed(&build(&(run.clone() + "/none")));
    skopeo(&login, registry.address());
    printed(&assert_success(build(&run)));
    skopeo(&["logout"], "--all");
    skopeo(&login, &format!("{}/team", registry.address()));
    printed(&assert_success(build(&run)));

    insta::assert_snapshot!("no_credentials", nobody.replace(registry.address(), "REGISTRY"));
    assert!(digest(&format!("docker://{there}")).starts_with("sha256:"));
}

#[test]
fn credentials_in_a_destination_are_refused_and_not_repeated() {
    let job = TestJob::example("hello");
    for place in ["ada:PASSWORD@r.example/team/app:1", "docker://ada:PASSWORD@r.example:5000/team/app"] {
        let place = place.replace("PASSWORD", RIGHT);
        for arguments in [
            vec!["build", "image.yaml", "--to", &place],
            vec!["push", "image.tar", &place],
            vec!["plan", "image.yaml", "--against", &place],
            vec!["explain", &place, "bin/app"],
            vec!["build", "image.yaml", "--to", &format!("{place}@sha256:00")],
            vec!["build", "image.yaml", &place, "--to", "oci:image"],
            vec!["push", &format!("docker://{}", place.trim_start_matches("docker://")), "oci:image"],
        ] {
            let output = job.nixlayer(&arguments);

            let (_, stderr) = printed(&output);
            assert!(!output.status.success());
            let says_why = [
                "credentials have no place here",
                "the digest",
                "unexpected",
                "cannot be opened",
                "an archive",
            ];
            assert!(says_why.iter().any(|why| stderr.contains(why)), "{stderr}");
        }
    }
}

#[test]
fn a_file_of_credentials_that_cannot_be_used_is_named() {
    let job = TestJob::example("hello");
    let mut all = String::new();
    for (name, text) in [
        ("missing", None),
        ("broken", Some(format!("{{\n  \"auths\": {{ {RIGHT} }}\n}}\n"))),
        ("of another form", Some(json!({ "auths": [RIGHT] }).to_string())),
        ("token", Some(json!({ "auths": { "r.example": { "identitytoken": RIGHT } } }).to_string())),
    ] {
        let file = job.place(name);
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        let file = file.to_str().unwrap();

        let output =
            job.build(&["image.yaml", "--to", "r.example/team/app"], &[("REGISTRY_AUTH_FILE", file)]);

        let (_, stderr) = printed(&output);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        all.push_str(&format!("# {name}\n{}\n", stderr.replace(file, "/FOLDER/auth.json")));
    }
    insta::assert_snapshot!("unusable_credentials", all);
}

#[test]
fn registry_without_tls_is_spoken_to_only_where_the_admin_says_so() {
    let issuer = issuer();
    let registry = DockerRegistry::start(Auth::Token(&issuer));
    let job = TestJob::example("hello");
    let there = format!("{}/team/app", registry.address());
    let auth = auth_file(&job, "auth.json", registry.address(), RIGHT);

    let output = job.build(&["image.yaml", "--to", &there], &[("REGISTRY_AUTH_FILE", &auth)]);

    let (_, stderr) = printed(&output);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(issuer.requests(), 0);
    insta::assert_snapshot!("registry_without_tls", stderr.replace(registry.address(), "REGISTRY"));
}

#[test]
fn token_endpoint_without_tls_gets_no_password_either() {
    let issuer = issuer();
    let registry = DockerRegistry::start(Auth::Token(&issuer));
    let job = TestJob::example("hello").trusting(registry.address());
    let there = format!("{}/team/app", registry.address());
    let auth = auth_file(&job, "auth.json", registry.address(), RIGHT);

    let output = job.build(&["image.yaml", "--to", &there], &[("REGISTRY_AUTH_FILE", &auth)]);

    let (_, stderr) = printed(&output);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(issuer.requests(), 0);
    let stderr = stderr.replace(registry.address(), "REGISTRY").replace(&issuer.address(), "ISSUER");
    insta::assert_snapshot!("token_endpoint_without_tls", stderr);
}

fn assert_success(output: Output) -> Output {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// With the settings that users have: four uploads with chunks of 16 MiB.
#[test]
fn a_push_holds_one_chunk_of_each_upload_and_little_more() {
    let packages = Packages::new();
    let contents = ["one", "two", "three", "four", "five"].map(|name| {
        let path = packages.add(name, |path| {
            fs::create_dir(path).unwrap();
            let mut random = fs::File::open("/dev/urandom").unwrap().take(80 << 20);
            std::io::copy(&mut random, &mut fs::File::create(path.join(name)).unwrap()).unwrap();
        });
        path.to_string()
    });
    let registry = DockerRegistry::start(Auth::None);
    let spec = format!("name: l\ncontents: [{}]\ncompression: fast\n", contents.join(", "));
    let job = TestJob::image_of_spec(&spec).trusting(registry.address());
    let reference = format!("{}/team/app:1", registry.address());
    let program = Command::new(env!("CARGO_BIN_EXE_nixlayer"));

    let peak = job.memory_of(program, &["build", "image.yaml", "--to", &reference]);

    assert!(peak < (64 + 4 * 16) << 10, "{peak} kB");
}
