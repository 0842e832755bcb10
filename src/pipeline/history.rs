//! Which store paths an image holds, layer by layer, as its history tells.
//!
//! The comments are dockerTools' own, so images that it made can be read as well. They are no more than a hint:
//! anybody may have written them.

use serde_json::Value;

use crate::nix::StorePath;

/// What the history says of a layer of these paths.
pub(super) fn comment(paths: &[StorePath]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| format!("'{path}'")).collect();
    format!("store paths: [{}]", paths.join(", "))
}

/// The store paths of each layer that has some, from the configuration of an image; none of what is no such.
pub(super) fn store_paths(configuration: &[u8]) -> Vec<Vec<StorePath>> {
    layers(configuration).into_iter().filter(|paths| !paths.is_empty()).collect()
}

/// The store paths of each layer; none of those that have none, and none at all of what is no configuration.
pub(super) fn layers(configuration: &[u8]) -> Vec<Vec<StorePath>> {
    let configuration: Value = serde_json::from_slice(configuration).unwrap_or_default();
    let history = configuration["history"].as_array().map(Vec::as_slice).unwrap_or_default();
    // Entries that made no layer are marked (image specification, "OCI Image Configuration").
    let layers = history.iter().filter(|entry| entry["empty_layer"] != true);
    layers.map(|entry| entry["comment"].as_str().and_then(paths).unwrap_or_default()).collect()
}

fn paths(comment: &str) -> Option<Vec<StorePath>> {
    let list = comment.strip_prefix("store paths: [")?.strip_suffix(']')?;
    list.split(", ").map(|path| path.trim_matches('\'').parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(name: &str) -> StorePath {
        StorePath::from_base_name(&format!("{}-{name}", "0".repeat(32))).unwrap()
    }

    #[test]
    fn layers_come_back_from_their_comments() {
        let layers = [vec![path("a"), path("b")], vec![path("c")]];
        let configuration = json!({ "history": [
            { "comment": comment(&layers[0]) },
            { "created_by": "somebody" },
            { "created_by": "nobody", "empty_layer": true },
            { "comment": comment(&layers[1]) },
            { "comment": "customisation layer" },
            { "comment": "store paths: ['/etc/passwd']" },
        ] });

        assert_eq!(store_paths(configuration.to_string().as_bytes()), layers);
        let [first, second] = layers;
        let all = [first, vec![], second, vec![], vec![]];
        assert_eq!(super::layers(configuration.to_string().as_bytes()), all);
    }

    #[test]
    fn what_is_no_configuration_says_nothing() {
        for text in ["", "[]", "{}", r#"{"history":7}"#, r#"{"history":[{"comment":"store paths: []"}]}"#] {
            assert_eq!(store_paths(text.as_bytes()), [] as [Vec<StorePath>; 0], "{text}");
        }
    }
}
