//! The texts of the report files that tell later jobs and people about a pushed image.
//!
//! | file | for | in the job |
//! |---|---|---|
//! | `image.env` | variables of later jobs | `artifacts:reports:dotenv` |
//! | `image.json` | programs | `artifacts:paths` |
//! | `annotations.json` | links on the job's page | `artifacts:reports:annotations` |
//!
//! GitLab stores reports of failed jobs too, so they are written when the tags have moved and not
//! before.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Job;
use crate::oci::{Digest, Repository, Tag};

/// An image that is in the registry.
#[derive(Clone, Copy, Debug)]
pub struct PushedImage<'a> {
    /// Where it is.
    pub repository: &'a Repository,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// The tags that now lead to it.
    pub tags: &'a [Tag],
}

impl PushedImage<'_> {
    /// `REPOSITORY@DIGEST`, which names this image and never another.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.repository, self.digest)
    }

    /// The variables that name the image.
    fn variables(&self) -> String {
        let mut text = format!(
            "NIXLAYER_IMAGE={}\nNIXLAYER_DIGEST={}\nNIXLAYER_REF={}\n",
            self.repository,
            self.digest,
            self.reference()
        );
        if let Some(tag) = self.tags.first() {
            text.push_str(&format!("NIXLAYER_TAG={tag}\n"));
        }
        text
    }

    /// What its variable among those of several images ends with: its own name, as far as variables can have it.
    fn suffix(&self) -> String {
        let name = self.repository.name().rsplit('/').next().unwrap_or_default().to_uppercase();
        name.replace(|character: char| !character.is_ascii_alphanumeric(), "_")
    }

    fn json(&self, job: &Job) -> Value {
        json!({
            "repository": self.repository.to_string(),
            "digest": self.digest.to_string(),
            "reference": self.reference(),
            "tags": self.tags.iter().map(Tag::as_str).collect::<Vec<_>>(),
            "project": job.project_path,
            "commit": job.sha,
            "ref": job.ref_name,
            "job": { "id": job.id, "url": job.job_url },
            "pipeline": { "id": job.pipeline_id, "url": job.pipeline_url },
        })
    }

    fn link(&self, job: &Job) -> Value {
        let name = match self.tags.first() {
            Some(tag) => self.repository.with_tag(tag),
            None => self.reference(),
        };
        link(&format!("{name} in the container registry"), &format!("{}/container_registry", job.project_url))
    }
}

/// The most variables of several images: GitLab takes 20 of a report by default.
const MOST_VARIABLES: usize = 20;

/// The most bytes of `image.env`: GitLab takes 5 KiB.
const MOST_ENV: usize = 5 << 10;

/// `image.env`: one `KEY=VALUE` a line, as GitLab's dotenv reports want it. Of several images, `NIXLAYER_REF_NAME` for
/// as many as GitLab takes; of equal names, the later ones end with their number.
///
/// None of the keys is one that an image job reads: a later image job would take it for its own.
pub fn image_env(images: &[PushedImage<'_>]) -> String {
    if let [image] = images {
        return image.variables();
    }
    let mut text = String::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for image in images.iter().take(MOST_VARIABLES) {
        let number = names.entry(image.suffix()).and_modify(|number| *number += 1).or_insert(1);
        let number = if *number > 1 { format!("_{number}") } else { String::new() };
        let line = format!("NIXLAYER_REF_{}{number}={}\n", image.suffix(), image.reference());
        if text.len() + line.len() > MOST_ENV {
            break;
        }
        text.push_str(&line);
    }
    text
}

/// `image.json`: the image, and the job that pushed it; of several images, a list of such.
pub fn image_json(images: &[PushedImage<'_>], job: &Job) -> String {
    match images {
        [image] => pretty(&image.json(job)),
        several => pretty(&several.iter().map(|image| image.json(job)).collect()),
    }
}

/// `annotations.json`: links from the job's page to the images and to the commit in them.
pub fn annotations_json(images: &[PushedImage<'_>], job: &Job) -> String {
    let commit = link(&format!("Commit {}", &job.sha), &format!("{}/-/commit/{}", job.project_url, job.sha));
    let links: Vec<Value> = images.iter().map(|image| image.link(job)).chain([commit]).collect();
    pretty(&json!({ "Image": links }))
}

/// GitLab refuses the whole report for one label of more than 255 characters.
fn link(label: &str, url: &str) -> Value {
    let label: String = label.chars().take(255).collect();
    json!({ "external_link": { "label": label, "url": url } })
}

fn pretty(value: &Value) -> String {
    // Its alternate output is indented.
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::super::context::tests::job;
    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn with_image<T>(tags: &[&str], act: impl FnOnce(PushedImage<'_>) -> T) -> T {
        let repository = job().repository("web").unwrap();
        let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        act(PushedImage { repository: &repository, digest: DIGEST.parse().unwrap(), tags: &tags })
    }

    #[test]
    fn dotenv_names_the_image_by_tag_and_by_digest() {
        assert_eq!(
            with_image(&["latest", "4f1c2b3a"], |image| image_env(&[image])),
            format!(
                "NIXLAYER_IMAGE=registry.example.com:5050/team/k8s-deployer/web\n\
                 NIXLAYER_DIGEST={DIGEST}\n\
                 NIXLAYER_REF=registry.example.com:5050/team/k8s-deployer/web@{DIGEST}\n\
                 NIXLAYER_TAG=latest\n"
            )
        );
    }

    /// GitLab's rules for dotenv reports; and a value from one beats the variables of a later job.
    #[test]
    fn dotenv_keeps_gitlabs_rules_and_configures_no_later_job() {
        for tags in [&[][..], &["latest"], &["a", "b", "c"]] {
            let text = with_image(tags, |image| image_env(&[image]));

            assert!(text.len() < 5 * 1024 && text.lines().count() <= 8);
            for line in text.lines() {
                let (key, value) = line.split_once('=').unwrap();
                assert!(key.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{line}");
                assert!(!value.is_empty() && !value.contains(['"', '\'', ' ', '#', '$', '\r']), "{line}");
                assert!(!["NIXLAYER_SPEC", "NIXLAYER_TAGS", "NIXLAYER_REPOSITORY"].contains(&key), "{line}");
            }
        }
    }

    #[test]
    fn json_names_image_and_job() {
        let json: Value =
            serde_json::from_str(&with_image(&["latest"], |image| image_json(&[image], &job()))).unwrap();

        assert_eq!(json["digest"], DIGEST);
        assert_eq!(json["reference"], format!("registry.example.com:5050/team/k8s-deployer/web@{DIGEST}"));
        assert_eq!(json["tags"], json!(["latest"]));
        assert_eq!(json["commit"], "4f1c2b3a5d6e7f8091a2b3c4d5e6f708192a3b4c");
        assert_eq!(json["job"]["id"], 1001);
        assert_eq!(json["pipeline"]["id"], "55");
    }

    #[test]
    fn annotations_link_to_the_registry_page_of_the_project() {
        let json: Value =
            serde_json::from_str(&with_image(&["latest"], |image| annotations_json(&[image], &job())))
                .unwrap();

        assert_eq!(
            json["Image"][0]["external_link"],
            json!({
                "label": "registry.example.com:5050/team/k8s-deployer/web:latest in the container registry",
                "url": "https://gitlab.example.com/team/k8s-deployer/container_registry",
            })
        );
        for entry in json["Image"].as_array().unwrap() {
            assert!(entry["external_link"]["url"].as_str().unwrap().starts_with("https://"), "{entry}");
        }
    }

    #[test]
    fn several_images_have_variables_and_entries_of_their_own() {
        let repositories = ["web", "db-dump", "db.dump"].map(|name| job().repository(name).unwrap());
        let image = |repository| PushedImage { repository, digest: DIGEST.parse().unwrap(), tags: &[] };
        let images: Vec<PushedImage<'_>> = repositories.iter().map(image).collect();

        let text = image_env(&images);

        let keys: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        assert_eq!(keys, ["NIXLAYER_REF_WEB", "NIXLAYER_REF_DB_DUMP", "NIXLAYER_REF_DB_DUMP_2"]);
        let json: Value = serde_json::from_str(&image_json(&images, &job())).unwrap();
        assert_eq!(json[1]["repository"], "registry.example.com:5050/team/k8s-deployer/db-dump");
        let json: Value = serde_json::from_str(&annotations_json(&images, &job())).unwrap();
        assert_eq!(json["Image"].as_array().unwrap().len(), 4);
        let many = image_env(&images.repeat(30));
        assert!(many.lines().count() <= 20 && many.len() <= 5 << 10);
    }
}
