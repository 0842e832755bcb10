//! `git_info.repo_url`: where a project is cloned from, without the token in it.

/// An `http(s)` URL of a Git repository, its user and password left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CloneUrl {
    /// Scheme, host and port, `https://gitlab.example.com`.
    pub(super) origin: String,
    /// The path, without `.git` and slashes around it.
    pub(super) path: String,
}

impl CloneUrl {
    /// `None` if `url` is no such URL, or its path has empty, `.` or `..` parts.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (origin, path) = split(url)?;
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        path.split('/').all(plain).then(|| Self { origin, path: path.to_owned() })
    }

    /// Whether this is the repository of `project`, on a GitLab at the root of its host or below.
    pub(super) fn is_of(&self, project: &str) -> bool {
        let above = self.path.strip_suffix(project);
        !project.is_empty() && above.is_some_and(|above| above.is_empty() || above.ends_with('/'))
    }
}

/// Host and port of an `http(s)` URL.
pub(super) fn authority(url: &str) -> Option<String> {
    let (origin, _) = split(url)?;
    Some(origin.split_once("://")?.1.to_owned())
}

fn split(url: &str) -> Option<(String, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().filter(|host| !host.is_empty())?;
    matches!(scheme, "http" | "https").then(|| (format!("{scheme}://{host}"), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_and_path_come_apart_and_the_token_goes() {
        for (url, origin, path) in [
            (
                "https://gitlab-ci-token:T@gitlab.example.com/team/App.git",
                "https://gitlab.example.com",
                "team/App",
            ),
            ("http://gitlab.example.com:8080/a/b/c.git", "http://gitlab.example.com:8080", "a/b/c"),
            ("https://u:p@ss@host.example/sub/team/app", "https://host.example", "sub/team/app"),
        ] {
            let url = CloneUrl::parse(url).unwrap();

            assert_eq!((url.origin.as_str(), url.path.as_str()), (origin, path));
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "",
            "git@gitlab.example.com:team/app.git",
            "ssh://git@gitlab.example.com/team/app.git",
            "https://gitlab.example.com/",
            "https:///team/app.git",
            "https://user@/team/app.git",
            "https://gitlab.example.com/team/../other.git",
            "https://gitlab.example.com/team//app.git",
        ] {
            assert_eq!(CloneUrl::parse(url), None, "{url}");
        }
    }

    #[test]
    fn a_project_matches_by_whole_parts() {
        let url = CloneUrl::parse("https://host.example/gitlab/team/app.git").unwrap();

        for (project, expected) in [
            ("team/app", true),
            ("gitlab/team/app", true),
            ("am/app", false),
            ("team/App", false),
            ("", false),
        ] {
            assert_eq!(url.is_of(project), expected, "{project}");
        }
    }
}
