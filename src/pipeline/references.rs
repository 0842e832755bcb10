//! Which tags an image gets, and whose layers it may take.

use crate::oci::reference::ReferenceError;
use crate::oci::{Repository, Tag};
use crate::spec::ImageSpec;
use crate::yaml::{self, KeyPath};

/// The tags that a spec gives its image. A tag whose variable is not set, such as `$CI_COMMIT_TAG` on
/// a branch, is left out and told to `left_out`; a spec without tags means `latest`.
pub fn tags(
    spec: &ImageSpec,
    variable: &dyn Fn(&str) -> Option<String>,
    left_out: &dyn Fn(&str),
) -> Result<Vec<Tag>, yaml::Error> {
    let tags_key = KeyPath::root().key("tags");
    let mut tags: Vec<Tag> = Vec::new();
    for (index, text) in spec.tags.iter().enumerate() {
        match text.expand(variable) {
            Ok(expanded) => tags.push(expanded.parse().map_err(|error: ReferenceError| {
                let fix = "name a variable whose value is a tag, such as `$CI_COMMIT_REF_SLUG`";
                spec.error_at(&tags_key.index(index), error.to_string(), fix)
            })?),
            Err(unset) => left_out(&format!("tag {} of {} is left out: {unset}", index + 1, spec.tags.len())),
        }
    }
    if tags.is_empty() && !spec.tags.is_empty() {
        let fix = "add a tag whose variable every job has, such as `$CI_COMMIT_SHORT_SHA`";
        return Err(spec.error_at(&tags_key, "no tag is left", fix));
    }
    if tags.is_empty() {
        tags.push(Tag::latest());
    }
    Ok(tags)
}

/// The images whose layers a spec may take beside those under its own tags: what it names, else the image of the
/// default branch and `latest`. An image whose variable is not set, or whose name is no tag, is left out.
pub fn reuse_from(
    spec: &ImageSpec,
    repository: &Repository,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(Repository, Tag)>, yaml::Error> {
    let Some(images) = &spec.layers.reuse_from else { return Ok(usual_reuse(repository, variable)) };
    let key = KeyPath::root().key("layers").key("reuseFrom");
    let mut from = Vec::new();
    for (index, text) in images.iter().enumerate() {
        let Ok(image) = text.expand(variable) else { continue };
        let error = |reason: String| {
            let fix = format!("write a tag, or `{}/GROUP/PROJECT:TAG`", repository.registry());
            spec.error_at(&key.index(index), reason, fix)
        };
        let (near, tag) = match image.rsplit_once(':') {
            Some((near, tag)) if !tag.contains('/') => {
                let near: Repository =
                    near.parse().map_err(|cause: ReferenceError| error(cause.to_string()))?;
                (near, tag)
            }
            _ if image.contains('/') => return Err(error(format!("`{image}` has no tag"))),
            _ => (repository.clone(), image.as_str()),
        };
        if near.registry() != repository.registry() {
            return Err(error(format!("`{image}` is on another registry, and blobs stay on theirs")));
        }
        from.push((near, tag.parse().map_err(|cause: ReferenceError| error(cause.to_string()))?));
    }
    Ok(from)
}

/// The images whose layers an image may take if nobody names others: that of the default branch, and `latest`.
pub fn usual_reuse(
    repository: &Repository,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Vec<(Repository, Tag)> {
    let branch = variable("CI_DEFAULT_BRANCH").and_then(|branch| slug(&branch).parse().ok());
    branch.into_iter().chain([Tag::latest()]).map(|tag| (repository.clone(), tag)).collect()
}

/// `CI_COMMIT_REF_SLUG` of a branch: lower case, at most 63 bytes, all but letters and digits made `-`, and none of
/// these at either end (GitLab, "Predefined variables").
fn slug(branch: &str) -> String {
    let lower = branch.to_lowercase();
    let plain = |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte) } else { '-' };
    // GitLab replaces characters, each of which is one `-` however many bytes it has.
    let slug: String = lower.chars().map(|char| u8::try_from(char).map_or('-', plain)).take(63).collect();
    slug.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> Repository {
        "r.example/team/app".parse().unwrap()
    }

    fn from(layers: &str) -> Result<Vec<String>, yaml::Error> {
        let text = format!("name: a\ncontents: [a]\n{layers}\n");
        let spec = ImageSpec::parse("image.yaml", text.as_bytes()).unwrap();
        let variable = |name: &str| match name {
            "CI_DEFAULT_BRANCH" => Some("Main/2".to_owned()),
            "CI_REGISTRY" => Some("r.example".to_owned()),
            _ => None,
        };
        let images = reuse_from(&spec, &repository(), &variable)?;
        Ok(images.iter().map(|(repository, tag)| repository.with_tag(tag)).collect())
    }

    #[test]
    fn layers_come_from_the_default_branch_unless_the_spec_names_images() {
        assert_eq!(from("").unwrap(), ["r.example/team/app:main-2", "r.example/team/app:latest"]);
        assert_eq!(
            from("layers: { reuseFrom: [v1, $CI_REGISTRY/base:2, $CI_COMMIT_TAG] }").unwrap(),
            ["r.example/team/app:v1", "r.example/base:2"]
        );
        assert_eq!(from("layers: { reuseFrom: [] }").unwrap(), [] as [String; 0]);
    }

    #[test]
    fn what_is_no_image_of_the_registry_has_its_place() {
        for (image, reason) in [
            ("r.example/base", "`r.example/base` has no tag"),
            ("r.example:5000/base", "`r.example:5000/base` has no tag"),
            ("other.example/base:1", "`other.example/base:1` is on another registry"),
            ("-x", "`-x` is not a tag"),
            ("r.example/BASE:1", "`r.example/BASE` is not a repository"),
        ] {
            let error = from(&format!("layers: {{ reuseFrom: [{image}] }}")).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("image.yaml:3:23: `layers.reuseFrom[0]`: {reason}")),
                "{error}"
            );
        }
    }

    /// GitLab's documentation of `CI_COMMIT_REF_SLUG`.
    #[test]
    fn a_slug_is_gitlabs() {
        for (branch, expected) in
            [("main", "main"), ("Feature/ABC_1", "feature-abc-1"), ("-x-", "x"), ("ä/b", "b"), ("1.2", "1-2")]
        {
            assert_eq!(slug(branch), expected);
        }
        assert_eq!(slug(&"a".repeat(70)).len(), 63);
    }
}
