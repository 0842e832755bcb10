//! A flake in a Git checkout is made of the files that Git tracks, as with Nix' own commands.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use nixlayer::simulate::Status;
use serde_json::json;

use crate::support::{Image, TestJob, environment, succeed};

/// A package of everything that the flake sees of its folder.
const FLAKE: &str = r#"{
  outputs = { self }: {
    packages.x86_64-linux.app = derivation {
      name = "app-1";
      system = "x86_64-linux";
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin";
      args = [ "-c" "cp -r ${self}/. $out; chmod u+w $out; rm -f $out/odd*; echo ${self} > $out/source" ];
    };
  };
}
"#;

/// The files of [`job`], all of them committed.
const COMMITTED: [&str; 5] = [".gitignore", "app.conf", "flake.nix", "hello.txt", "image.yaml"];

const SPEC: &str = "name: app\ncontents: [.#app]\n";

fn git(folder: &Path, arguments: &[&str]) -> String {
    let settings =
        ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "protocol.file.allow=always"];
    let mut git = Command::new("git");
    succeed(git.args(settings).args(arguments).current_dir(folder).output().unwrap())
}

/// Makes `folder` a checkout in which all files are committed that are there and not ignored.
fn commit(folder: &Path) {
    git(folder, &["init", "--quiet"]);
    git(folder, &["add", "--all"]);
    git(folder, &["commit", "--quiet", "--allow-empty", "--message", "all"]);
}

fn job() -> TestJob {
    TestJob::image_of_spec(SPEC)
        .file("flake.nix", FLAKE)
        .file("app.conf", "committed\n")
        .file(".gitignore", ".env\nbuild\n")
}

/// The names of the files that a flake saw which is in the image, and where it was evaluated.
fn seen(image: &Image) -> (Vec<String>, String) {
    let members: Vec<_> = image.layers.iter().flatten().collect();
    let (file, source) = members.iter().find(|(path, _)| path.ends_with("-app-1/source")).unwrap();
    let package = file.trim_end_matches("source");
    let names = members.iter().filter_map(|(path, _)| path.strip_prefix(package));
    (names.filter(|name| *name != "source").map(str::to_owned).collect(), source.text().trim_end().to_owned())
}

fn built(job: &TestJob) -> (Image, String) {
    let layout = job.place("project/.git/out");
    let to = format!("oci:{}", layout.display());
    let said = succeed(job.build(&["image.yaml", "--to", &to], &[]));
    (Image::from_layout(&layout, "latest"), said)
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_git_does_not_track_is_in_no_flake() {
    let job = job().file("gone", "").file("docs/a.md", "").file("replaced/file", "");
    let project = job.place("project");
    let odd = OsStr::from_bytes(b"odd\xff\r\"${x}'\\\n");
    fs::write(project.join(odd), "odd\n").unwrap();
    symlink("app.conf", project.join("link")).unwrap();
    let library = job.place("library");
    fs::create_dir(&library).unwrap();
    fs::write(library.join("flake.nix"), FLAKE).unwrap();
    commit(&library);
    git(&project, &["init", "--quiet"]);
    git(&project, &["submodule", "--quiet", "add", library.to_str().unwrap(), "library"]);
    commit(&project);
    fs::remove_file(project.join("gone")).unwrap();
    fs::remove_dir_all(project.join("replaced")).unwrap();
    let job = job
        .file("app.conf", "changed\n")
        .file(".env", "TOKEN=canary\n")
        .file("kubeconfig", "canary\n")
        .file("build/secret", "canary\n")
        .file("docs/draft.md", "")
        .file("replaced", "no folder any more\n")
        .file("intended", "intended\n");
    git(&project, &["add", "--intent-to-add", "intended"]);

    let (image, said) = built(&job);

    let (names, source) = seen(&image);
    let tracked = [
        ".gitignore",
        ".gitmodules",
        "app.conf",
        "docs",
        "docs/a.md",
        "flake.nix",
        "hello.txt",
        "image.yaml",
        "intended",
        "link",
    ];
    assert_eq!(names, tracked);
    assert_eq!(fs::read(Path::new(&source).join(odd)).unwrap(), b"odd\n");
    assert_eq!(fs::read_link(format!("{source}/link")).unwrap(), Path::new("app.conf"));
    assert_eq!(fs::read_to_string(format!("{source}/app.conf")).unwrap(), "changed\n");
    assert_eq!(fs::read_to_string(format!("{source}/intended")).unwrap(), "intended\n");
    assert!(!Path::new(&source).join(".env").exists() && !Path::new(&source).join("kubeconfig").exists());
    // What is ignored is nobody's surprise.
    let note = "the flake `.` is without 3 files that Git does not track, such as `docs/draft.md`\n";
    assert_eq!(said.matches(note).count(), 1, "{said}");
    assert_eq!(said.matches("Git does not track").count(), 1, "{said}");

    // A submodule is a checkout of its own, with its repository elsewhere.
    let job =
        job.file("image.yaml", &SPEC.replace(".#", "./library#")).file("library/.env", "TOKEN=canary\n");
    assert_eq!(seen(&built(&job).0).0, ["flake.nix"]);
}

#[test]
fn what_a_jobs_script_leaves_is_in_no_flake() {
    let mut job = job();
    job.script = vec![
        "echo TOKEN=canary > .env".to_owned(),
        "echo canary > kubeconfig".to_owned(),
        "echo made > made && git add made".to_owned(),
        "echo changed > app.conf".to_owned(),
    ];

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    let image = job.pushed("latest");
    let (names, source) = seen(&image);
    assert_eq!(names, [".gitignore", "app.conf", "flake.nix", "hello.txt", "image.yaml", "made"]);
    assert_eq!(fs::read_to_string(format!("{source}/app.conf")).unwrap(), "changed\n");
    let note = "the flake `.` is without 1 file that Git does not track, `kubeconfig`\n";
    assert!(outcome.trace.contains(note), "{}", outcome.trace);
}

#[test]
fn an_image_of_a_flake_holds_what_git_tracks() {
    let flake = format!(
        "{{ outputs = {{ self }}: let pkgs = import {} {{ }}; in {{ packages.x86_64-linux.web = \
         pkgs.dockerTools.buildLayeredImage {{ name = \"web\"; tag = \"latest\"; contents = [ (derivation {{ \
         name = \"files\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; PATH = \"/usr/bin:/bin\"; \
         args = [ \"-c\" \"cp -r ${{self}}/. $out\" ]; }}) ]; }}; }}; }}\n",
        environment().nixpkgs.display()
    );
    let mut job = TestJob::image_of_expression("")
        .file("web/flake.nix", &flake)
        .file("web/page", "")
        .file(".gitignore", ".env\n");
    job = job.variable("NIXLAYER_SPEC", "./web#web");
    job.script = vec!["echo TOKEN=canary > web/.env".to_owned(), "echo canary > web/kubeconfig".to_owned()];

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    let image = job.pushed("latest");
    let files: Vec<_> = image.layers.iter().flatten().map(|(path, _)| path.as_str()).collect();
    for (file, is_there) in [("/page", true), ("/flake.nix", true), ("/.env", false), ("/kubeconfig", false)]
    {
        assert_eq!(files.iter().any(|path| path.ends_with(file)), is_there, "{file}: {files:?}");
    }
    assert!(outcome.trace.contains("the flake `web` is without 1 file"), "{}", outcome.trace);
}

/// Nix looks for the checkout above a flake, too.
#[test]
fn a_checkout_above_the_project_counts_outside_of_jobs() {
    let job = job();
    let project = job.place("project");
    fs::write(job.place(".gitignore"), "*\n!/project\n!/project/**\n.env\n").unwrap();
    commit(job.root.path());
    let build = |job: &TestJob, ceiling: &Path| {
        let to = format!("oci:{}", job.place("out").display());
        let ceiling = ceiling.to_str().unwrap();
        let said = succeed(job.build(&["image.yaml", "--to", &to], &[("GIT_CEILING_DIRECTORIES", ceiling)]));
        (seen(&Image::from_layout(&job.place("out"), "latest")).0, said)
    };
    let job = job.file(".env", "TOKEN=canary\n").file("draft", "");

    let (names, said) = build(&job, job.root.path().parent().unwrap());
    assert_eq!(names, COMMITTED);
    assert!(said.contains("is without 1 file that Git does not track, `draft`\n"), "{said}");
    let (names, _) = build(&job, job.root.path());
    assert!(names.contains(&".env".to_owned()), "{names:?}");

    // A second worktree, whose files alone are in its folder.
    let tree = job.place("tree");
    git(&project, &["worktree", "add", "--quiet", tree.to_str().unwrap()]);
    fs::write(tree.join("project/.env"), "TOKEN=canary\n").unwrap();
    let to = format!("oci:{}", job.place("out").display());
    let arguments =
        ["image.yaml", "--project", tree.join("project").to_str().unwrap(), "--to", &to].map(str::to_owned);
    succeed(job.build(&arguments.each_ref().map(String::as_str), &[]));
    assert_eq!(seen(&Image::from_layout(&job.place("out"), "latest")).0, COMMITTED);
}

/// In a job, what lies above its folder is the host's.
#[test]
fn a_jobs_flake_has_no_checkout_above_the_jobs_folder() {
    let mut job = job();
    // Were it the job's, it would have no file of the flake.
    commit(job.root.path());
    job.script = vec!["rm -rf .git && echo x > .env".to_owned()];

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert!(seen(&job.pushed("latest")).0.contains(&".env".to_owned()));
}

#[test]
fn files_that_git_does_not_track_are_named_with_what_mends_it() {
    let job = job().file("other/flake.nix", &FLAKE.replace("${self}", "${./lib/tool.sh}"));
    let project = job.place("project");
    git(&project, &["init", "--quiet"]);
    git(&project, &["add", "image.yaml", ".gitignore"]);

    for arguments in
        [["image.yaml", "--to", "oci:out"], [".#app", "--to", "oci:out"], [".", "--to", "oci:out"]]
    {
        let error = refused(&job.build(&arguments, &[]));
        let expected = "error: `flake.nix` is not there for Nix: Git does not track it\n  fix:   run `git add --intent-to-add flake.nix`\n";
        assert_eq!(error, expected);
    }
    commit(&project);
    let job = job.file("other/lib/tool.sh", "").file("other/build/tool.sh", "");
    let error = refused(&job.build(&["other#app", "--to", "oci:out"], &[]));
    assert!(
        error.contains("error: `other/lib/tool.sh` is not there for Nix: Git does not track it\n"),
        "{error}"
    );
    assert!(error.contains("\n  fix:   run `git add --intent-to-add other/lib/tool.sh`\n"), "{error}");
    // One that is ignored is not added by itself.
    let job = job
        .file("other/flake.nix", &FLAKE.replace("${self}", "${import ./build/tool.nix}"))
        .file("other/build/tool.nix", "");
    let job = job.file("image.yaml", &SPEC.replace(".#", "./other#"));
    let error = refused(&job.build(&["image.yaml", "--to", "oci:out"], &[]));
    assert!(
        error.contains("\n  fix:   run `git add --intent-to-add --force other/build/tool.nix`\n"),
        "{error}"
    );
}

#[test]
fn a_checkout_that_git_cannot_read_is_no_folder_without_one() {
    let mut job = job();
    commit(&job.place("project"));
    fs::write(job.place("project/.git/index"), "no index").unwrap();
    let error = refused(&job.build(&["image.yaml", "--to", "oci:out"], &[]));
    assert!(error.contains("error: Git does not say which files of `"), "{error}");
    assert!(error.contains("fatal: ") && error.contains("index"), "{error}");

    // A program of the repository's own is not run, and of others there is none to be found.
    job.admin["scripts"]["path"] = json!(job.place("bin"));
    fs::create_dir(job.place("bin")).unwrap();
    symlink("/usr/bin/bwrap", job.place("bin/bwrap")).unwrap();
    job.admin["nix"]["programs"] = json!("/usr/bin");
    let error = refused(&job.build(&["image.yaml", "--to", "oci:out"], &[]));
    assert!(error.contains("is a Git checkout, and there is no `git` in `"), "{error}");
    assert!(error.contains("\n  fix:   install git, or add its folder to `scripts.path`\n"), "{error}");
}

#[test]
fn a_repository_runs_no_program_of_its_own() {
    for sandbox in ["bubblewrap", "none"] {
        let mut job = job();
        job.admin["sandbox"] = json!(sandbox);
        job.script = vec![
            // Where the project is shown read-only, it leaves no file; that Git ends of it is seen there, too.
            "printf '#!/bin/sh\\ntouch \"%s\"\\nkill -KILL $PPID\\n' \"$PWD/ran\" > .git/run && chmod +x .git/run"
                .to_owned(),
            "git config core.worktree / && git config core.fsmonitor \"$PWD/.git/run\"".to_owned(),
        ];
        job.after_script = vec!["test ! -e ran && echo nothing ran".to_owned()];

        let outcome = job.run_cleanly();

        assert_eq!(outcome.status, Status::Success, "{sandbox}: {}", outcome.trace);
        assert!(outcome.trace.contains("\nnothing ran\n"), "{sandbox}: {}", outcome.trace);
        assert_eq!(seen(&job.pushed("latest")).0, COMMITTED, "{sandbox}");
    }
}
