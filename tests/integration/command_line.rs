//! What a person at the keyboard reads who has named the wrong thing, or the right one in the wrong way.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::support::{TestJob, skopeo, succeed};

fn program(path: &Path, mode: u32, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A project with an image layout, the archives of it, and programs beside and in it.
fn project() -> TestJob {
    let job = TestJob::example("hello").file("images/README.md", "");
    let place = |name: &str| job.place("project").join(name);
    succeed(job.build(&["image.yaml", "--to", "oci:layout"], &[]));
    let layout = format!("oci:{}:latest", place("layout").display());
    for (kind, file) in [("docker-archive", "docker.tar"), ("oci-archive", "layout.tar")] {
        succeed(skopeo(&["copy", &layout, &format!("{kind}:{}:app:1", place(file).display())]));
    }
    program(&job.place("stream"), 0o755, "echo no space >&2; exit 3");
    symlink("../stream", place("stream")).unwrap();
    program(&place("nox.sh"), 0o644, "cat docker.tar");
    job
}

#[test]
fn every_mistake_on_the_command_line_says_how_to_mend_it() {
    let job = project();
    let elsewhere = job.place("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for file in ["one.nix", "image.yaml"] {
        fs::write(elsewhere.join(file), "").unwrap();
    }
    let [nix, yaml] = ["one.nix", "image.yaml"].map(|file| elsewhere.join(file).display().to_string());
    let mut all = String::new();
    for (arguments, wanted) in [
        (&["build", "docker.tar", "--to", "oci:q"][..], "`nixlayer push docker.tar DEST`"),
        (&["plan", "docker.tar"], "`nixlayer push docker.tar DEST`"),
        (&["build", "layout", "--to", "oci:q"], "`nixlayer push layout DEST`"),
        (&["build", "stream", "--to", "oci:q"], "`nixlayer push stream DEST`"),
        (&["build", "stream", "--project", "../project", "--to", "oci:q"], "push ../project/stream DEST`"),
        (&["build", ".", "--to", "oci:q"], "error: there is neither `default.nix` nor `flake.nix`"),
        (&["build", "images", "--to", "oci:q"], "error: `images` is no file of the project, and no folder"),
        (&["build", &nix, "--to", "oci:q"], "`one.nix --project /"),
        (&["build", &yaml, "--to", "oci:q"], "`image.yaml --project /"),
        (&["build", "../elsewhere#web", "--to", "oci:q"], "`.#web --project ../elsewhere`"),
        (&["plan", "../elsewhere/one.nix"], "`one.nix --project ../elsewhere`"),
        (&["push", "oci:layout:nope", "oci:q"], "`oci:FOLDER:NAME`"),
        (&["push", "docker-archive:layout.tar", "oci:q:1"], "`oci-archive:FILE`"),
        (&["push", "oci-archive:docker.tar", "oci:q:1"], "`docker-archive:FILE`"),
        (&["push", "./nox.sh", "oci:q:1"], "error: `./nox.sh` cannot be run\n  cause: Permission denied"),
        (
            &["push", "./stream", "oci:q:1"],
            "error: `./stream` failed with exit status: 3\n         no space\n",
        ),
    ] {
        let output = job.nixlayer(arguments);

        let said = String::from_utf8(output.stderr).unwrap();
        let said = said.replace(job.place("").to_str().unwrap(), "/FOLDER/");
        let line = arguments.join(" ").replace(job.place("").to_str().unwrap(), "/FOLDER/");
        assert_eq!(output.status.code(), Some(1), "{line}: {said}");
        all.push_str(&format!("# {line}\n{said}\n"));
        assert!(said.contains(wanted) && said.contains("\n  fix:   "), "{all}");
    }
    insta::assert_snapshot!("command_line", all);
}
