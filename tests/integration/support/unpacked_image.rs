//! An image as a container runtime sees it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::succeed;

/// An image unpacked by umoci, ready to be run by crun: an OCI runtime bundle.
pub(crate) struct UnpackedImage {
    folder: TempDir,
}

impl UnpackedImage {
    /// Unpacks the image `tag` of the OCI layout in the folder `layout`.
    pub(crate) fn from_layout(layout: &Path, tag: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let image = format!("{}:{tag}", layout.display());
        let unpack = Command::new("umoci")
            .args(["unpack", "--image", &image])
            .arg(folder.path().join("bundle"))
            .output();
        succeed(unpack.unwrap());
        Self { folder }
    }

    /// Runs `arguments` in the image, with the user, environment and folder of its configuration; without
    /// arguments its own command.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let bundle = self.folder.path().join("bundle");
        let config_file = bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&config_file).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        if !arguments.is_empty() {
            config["process"]["args"] = json!(arguments);
        }
        // Control groups belong to the machine, and a test may not have any.
        config["linux"]["resources"] = json!({});
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
        fs::write(&config_file, config.to_string()).unwrap();
        // crun refuses to start where both versions of control groups are mounted: it gets to see one.
        Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-c",
                r#"mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec crun "$@""#,
                "crun",
            ])
            .arg("--root")
            .arg(self.folder.path().join("state"))
            .args(["--cgroup-manager=disabled", "run", "--bundle"])
            .arg(&bundle)
            .arg("image")
            .output()
            .unwrap()
    }
}
