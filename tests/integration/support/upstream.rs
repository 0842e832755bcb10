//! What Nix, skopeo and a program that only knows the byte rules make of the image of an expression.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::environment::environment;
use super::image::Image;
use super::packages::nix;
use super::process::{skopeo, succeed};
use super::test_job::TestJob;

impl TestJob {
    /// A job that makes the image of an expression, in which `MARK` is a word that no other test has.
    pub(crate) fn image_of_expression(expression: &str) -> Self {
        let job = Self::image_of_spec("").variable("NIXLAYER_SPEC", "default.nix");
        let expression = expression.replace("MARK", &job.mark());
        job.file("default.nix", &expression)
    }

    /// What tells this test from all others, in small letters.
    pub(crate) fn mark(&self) -> String {
        let name = self.root.path().file_name().unwrap().to_str().unwrap();
        name.trim_start_matches('.').to_lowercase()
    }

    /// A program of Nix in the project's folder, with the machine's package set.
    pub(crate) fn nix(&self, program: &str, arguments: &[&str]) -> String {
        let path = format!("nixpkgs={}", environment().nixpkgs.display());
        let mut command = nix(program);
        command.args(arguments).current_dir(self.place("project")).env("NIX_PATH", path);
        succeed(command.output().unwrap()).trim_end().to_owned()
    }

    /// What `nix-build` makes of the expression that `arguments` name.
    pub(crate) fn nix_build(&self, arguments: &[&str]) -> PathBuf {
        self.nix("nix-build", &[&["--no-out-link"], arguments].concat()).into()
    }

    /// Where `nix-build` would put the same, which is not built.
    pub(crate) fn nix_output(&self, arguments: &[&str]) -> PathBuf {
        let derivation = self.nix("nix-instantiate", arguments);
        self.nix("nix-store", &["--query", "--outputs", &derivation]).into()
    }

    /// The image that the rules say, by the conf.json of the layered image `name`: its configuration, but for the
    /// times in it. Whatever is between that file and the image is left out.
    pub(crate) fn configuration_by_rules(&self, name: &str, arguments: &[&str], options: &[&str]) -> Value {
        let derivation = self.nix("nix-instantiate", arguments);
        let needed = self.nix("nix-store", &["--query", "--requisites", &derivation]);
        let conf = needed.lines().find(|path| path.ends_with(&format!("-{name}-conf.json.drv")));
        let conf = self.nix("nix-store", &["--realise", conf.unwrap()]);
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/layers_by_python.py");
        let said = Command::new("python3").args(["-X", "utf8", program, &conf]).args(options).output();
        let mut said: Value = serde_json::from_str(&succeed(said.unwrap())).unwrap();
        timeless(&said["configuration"].take())
    }

    /// The image that skopeo reads in the archive which `nix-build` makes.
    pub(crate) fn image_by_skopeo(&self, arguments: &[&str]) -> Image {
        let archive = self.place("archive.tar");
        unpack(&self.nix_build(arguments), &archive);
        let layout = self.place("by-skopeo");
        let to = format!("oci:{}:image", layout.display());
        succeed(skopeo(&["copy", &format!("docker-archive:{}", archive.display()), &to]));
        let image = Image::from_layout(&layout, "image");
        fs::remove_dir_all(layout).unwrap();
        image
    }
}

/// Writes what is in an archive, or comes of a script that writes one. skopeo 1.9 reads no compressed archives.
fn unpack(archive: &Path, to: &Path) {
    let program = match fs::read(archive).unwrap().as_slice() {
        [b'#', b'!', ..] => "exec \"$0\"",
        [0x1f, 0x8b, ..] => "exec gzip --decompress --stdout \"$0\"",
        [0x28, 0xb5, ..] => "exec zstd --decompress --stdout \"$0\"",
        _ => "exec cat \"$0\"",
    };
    let unpacked =
        Command::new("sh").args(["-c", program]).arg(archive).stdout(fs::File::create(to).unwrap()).output();
    succeed(unpacked.unwrap());
}

/// A configuration without the times at which the image was made.
pub(crate) fn timeless(configuration: &Value) -> Value {
    let mut configuration = configuration.clone();
    configuration.as_object_mut().unwrap().remove("created");
    for entry in configuration["history"].as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("created");
    }
    configuration
}
