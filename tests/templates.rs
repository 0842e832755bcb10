//! The include file and the component are one template, and their documentation is theirs.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_yaml::Value;

const INCLUDE: &str = "ci-templates/image.yml";
const COMPONENT: &str = "templates/image.yml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    inputs: BTreeMap<String, Input>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    description: String,
    default: Value,
    #[serde(default = "string", rename = "type")]
    kind: String,
}

fn string() -> String {
    "string".to_owned()
}

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The two documents of a template: the header with the inputs, and the jobs.
fn template(path: &str) -> (BTreeMap<String, Input>, BTreeMap<String, Value>) {
    let text = text(path);
    let mut documents = serde_yaml::Deserializer::from_str(&text);
    let header = Header::deserialize(documents.next().unwrap()).unwrap();
    let body = BTreeMap::deserialize(documents.next().unwrap()).unwrap();
    assert!(documents.next().is_none(), "{path} has a third document");
    (header.spec.inputs, body)
}

/// The names in `$[[ inputs.NAME ]]`.
fn used(value: &Value) -> BTreeSet<String> {
    let text = serde_yaml::to_string(value).unwrap();
    let names = text.split("$[[ inputs.").skip(1).map(|rest| rest.split_once(" ]]").unwrap().0.to_owned());
    names.collect()
}

fn only<T>(map: &BTreeMap<String, T>) -> (&str, &T) {
    assert_eq!(map.len(), 1, "{:?}", map.keys());
    map.iter().map(|(key, value)| (key.as_str(), value)).next().unwrap()
}

#[test]
fn both_forms_have_the_same_inputs() {
    assert_eq!(template(INCLUDE).0, template(COMPONENT).0);
}

#[test]
fn the_component_includes_the_file_and_passes_every_input_on() {
    let (inputs, body) = template(COMPONENT);

    let (key, includes) = only(&body);
    assert_eq!(key, "include");
    let include = &includes[0];
    assert_eq!(include["local"], format!("/{INCLUDE}").as_str());
    let passed: BTreeMap<String, String> = serde_yaml::from_value(include["inputs"].clone()).unwrap();
    let expected = inputs.into_keys().map(|name| (name.clone(), format!("$[[ inputs.{name} ]]")));
    assert_eq!(passed, expected.collect());
}

#[test]
fn the_file_has_one_job_that_uses_every_input() {
    let (inputs, body) = template(INCLUDE);

    // A second key would be another job or a global keyword, which a template must not set.
    let (name, job) = only(&body);
    assert_eq!(name, "$[[ inputs.job-name ]]");
    let mut names = used(job);
    names.insert("job-name".to_owned());
    assert_eq!(names, inputs.into_keys().collect());
}

#[test]
fn inputs_keep_gitlabs_rules() {
    for (name, input) in template(INCLUDE).0 {
        assert!(!input.description.is_empty() && input.description.len() <= 1024, "{name}");
        let fits = match input.kind.as_str() {
            "string" => input.default.is_string(),
            // Neither `tags:` nor `script:` of a job may be an empty list.
            "array" => input.default.as_sequence().is_some_and(|items| !items.is_empty()),
            other => panic!("{name} has the type {other}"),
        };
        assert!(fits, "{name}: {:?} is not of its type", input.default);
    }
}

/// At the top of a configuration these words are keywords, so a job of that name is none.
#[test]
fn the_job_is_not_named_like_a_global_keyword() {
    let inputs = template(INCLUDE).0;
    let name = inputs["job-name"].default.as_str().unwrap();

    let keywords = [
        "after_script",
        "before_script",
        "cache",
        "default",
        "image",
        "include",
        "pages",
        "services",
        "spec",
        "stages",
        "types",
        "variables",
        "workflow",
    ];
    assert!(!keywords.contains(&name), "{name}");
}

#[test]
fn the_job_sets_what_the_executor_reads_and_keeps_what_it_writes() {
    let (_, body) = template(INCLUDE);
    let job = only(&body).1;

    let variables: BTreeMap<String, String> = serde_yaml::from_value(job["variables"].clone()).unwrap();
    let expected = [
        ("NIXLAYER_REPOSITORY", "$[[ inputs.repository ]]"),
        ("NIXLAYER_SPEC", "$[[ inputs.spec ]]"),
        ("NIXLAYER_TAGS", "$[[ inputs.tags ]]"),
    ];
    assert_eq!(variables, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let artifacts = &job["artifacts"];
    assert_eq!(artifacts["when"], "always");
    assert_eq!(artifacts["paths"][0], "nixlayer-report/");
    assert_eq!(artifacts["reports"]["dotenv"], "nixlayer-report/image.env");
    assert_eq!(artifacts["reports"]["annotations"], "nixlayer-report/annotations.json");
}

#[test]
fn the_documentation_lists_every_input_with_its_default() {
    let documentation = text("docs/templates.md");
    let table = documentation.split("\n## ").find(|section| section.starts_with("Inputs\n")).unwrap();
    let rows: BTreeSet<(String, String)> = table
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.trim_end_matches('`').to_owned();
            Some((name, cells.next()?.trim_matches('`').to_owned()))
        })
        .collect();

    let shown = |default: &Value| match default {
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::Sequence(items) => {
            format!("[{}]", items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
        }
        other => other.as_str().unwrap().to_owned(),
    };
    let expected = template(INCLUDE).0.into_iter().map(|(name, input)| (name, shown(&input.default)));
    assert_eq!(rows, expected.collect());
}
