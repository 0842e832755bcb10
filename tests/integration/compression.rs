//! Layers of every compression, as registries and tools see them.

use std::fs;

use nixlayer::oci::media_type;
use nixlayer::simulate::Status;
use serde_json::Value;

use crate::support::{Auth, DockerRegistry, Image, TestJob, UnpackedImage, skopeo, succeed};

/// Compressions as in the spec, and how the media types of their layers end.
const CASES: [(&str, &str); 3] = [("gzip", "tar+gzip"), ("zstd", "tar+zstd"), ("{ zstd: 19 }", "tar+zstd")];

#[test]
fn layers_of_every_compression_are_stored_by_docker_registry_and_read_by_skopeo() {
    let registry = DockerRegistry::start(Auth::None);
    let spec = |compression: &str| {
        format!(
            "name: compressed\ncontents: [hello]\ncreated: epoch\nconfig: {{ Cmd: [/bin/hello] }}\n\
             compression: {compression}\n"
        )
    };
    let mut configurations: Vec<Value> = Vec::new();
    for (compression, ending) in CASES {
        let job = TestJob::image_of_spec(&spec(compression)).trusting(registry.address());
        let there = format!("{}/team/app", registry.address());

        succeed(job.build(&["image.yaml", "--to", &there, "--to", "oci:layout"], &[]));

        let image = Image::from_layout(&job.place("project/layout"), "latest");
        for layer in image.manifest["layers"].as_array().unwrap() {
            assert_eq!(layer["mediaType"], format!("application/vnd.oci.image.layer.v1.{ending}"));
        }
        // Through a folder without compression, since umoci 0.4.7 reads no zstd.
        let [plain, again] = ["plain", "again"].map(|name| job.place(name).display().to_string());
        let (there, plain) = (format!("docker://{there}:latest"), format!("dir:{plain}"));
        succeed(skopeo(&["copy", "--src-tls-verify=false", "--dest-decompress", &there, &plain]));
        let manifest = fs::read(job.place("plain/manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let tars =
            manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect();
        assert_eq!(image.configuration["rootfs"]["diff_ids"], Value::Array(tars), "{compression}");
        succeed(skopeo(&["copy", &plain, &format!("oci:{again}:latest")]));
        let unpacked = UnpackedImage::from_layout(&job.place("again"), "latest");
        assert_eq!(succeed(unpacked.run(&[])), "Hello, world!\n");
        configurations.push(image.configuration);
    }
    assert!(
        configurations.windows(2).all(|pair| pair[0] == pair[1]),
        "the tars are the same: {configurations:?}"
    );
}

#[test]
fn a_registry_that_knows_no_zstd_gets_gzip_and_the_log_says_so() {
    let mut job = TestJob::image_of_spec("name: z\ncontents: [hello]\ncompression: zstd\n");
    job.start_registry_with(|settings| settings.knows_no_layers_of(media_type::LAYER_ZSTD));

    let outcome = job.run_cleanly();

    assert_eq!(outcome.status, Status::Success, "{}", outcome.trace);
    assert!(outcome.trace.contains("layers are made again with gzip, since with zstd "), "{}", outcome.trace);
    let manifest: Value =
        serde_json::from_slice(&job.registry.manifest("team/app", "latest").unwrap()).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], media_type::LAYER_GZIP);
    }
    // The next push knows it, and makes nothing twice.
    let again = job.run_cleanly();
    assert!(
        again.trace.contains("layers are made with gzip, since the registry did not take them"),
        "{}",
        again.trace
    );
    assert!(again.trace.contains("layers: 0 (0 B) built"), "{}", again.trace);
}
