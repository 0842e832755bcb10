//! What an image says about the job that made it, as annotations and labels.
//!
//! The keys are those of the OCI image specification ("Pre-Defined Annotation Keys"). Nothing in them
//! changes from job to job of one commit: a job that is run again makes the same image.

use std::collections::BTreeMap;

use super::Job;

/// `org.opencontainers.image.…`: the same for every job of a commit.
///
/// `title` is the spec's name; `created` is the image's own time, in RFC 3339.
pub fn of_commit(job: &Job, title: Option<&str>, created: Option<&str>) -> BTreeMap<String, String> {
    let standard = |key: &str| format!("org.opencontainers.image.{key}");
    let mut annotations = BTreeMap::from([
        (standard("revision"), job.sha.clone()),
        (standard("source"), job.project_url.clone()),
        (standard("url"), job.project_url.clone()),
    ]);
    if !job.ref_name.is_empty() {
        annotations.insert(standard("version"), job.ref_name.clone());
    }
    annotations.extend(title.map(|title| (standard("title"), title.to_owned())));
    annotations.extend(created.map(|created| (standard("created"), created.to_owned())));
    annotations
}

#[cfg(test)]
mod tests {
    use super::super::context::tests::{job, tag_job};
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_image_names_its_commit() {
        assert_eq!(
            of_commit(&job(), Some("deployer"), Some("2026-03-04T05:06:07Z")),
            map(&[
                ("org.opencontainers.image.created", "2026-03-04T05:06:07Z"),
                ("org.opencontainers.image.revision", "4f1c2b3a5d6e7f8091a2b3c4d5e6f708192a3b4c"),
                ("org.opencontainers.image.source", "https://gitlab.example.com/team/k8s-deployer"),
                ("org.opencontainers.image.title", "deployer"),
                ("org.opencontainers.image.url", "https://gitlab.example.com/team/k8s-deployer"),
                ("org.opencontainers.image.version", "main"),
            ])
        );
    }

    /// The fixture's author tried to replace the project's address and the commit.
    #[test]
    fn nothing_in_it_is_the_authors() {
        let annotations = of_commit(&tag_job(), None, None);

        assert_eq!(annotations["org.opencontainers.image.version"], "v1.2.0");
        assert_eq!(
            annotations["org.opencontainers.image.source"],
            "http://127.0.0.1:8080/gitlab/Team/Sub/App"
        );
        assert_eq!(
            annotations["org.opencontainers.image.revision"],
            "89abcdef0123456789abcdef0123456789abcdef"
        );
    }
}
