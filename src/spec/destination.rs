//! Where an image goes: repository, tags, annotations.

use std::collections::BTreeMap;

use super::VARIABLE_FIX;
use super::variables::VariableText;
use crate::oci::{Repository, Tag};
use crate::yaml::{Error, Value};

const TAG_FIX: &str = "write at most 128 letters, digits, `_`, `.` and `-`, the first no `.` or `-`";

/// A repository, or a name below the project's own; checked as one if no variable is in it.
pub(super) fn repository(value: &Value<'_>) -> Result<VariableText, Error> {
    let text: VariableText = value.parse(VARIABLE_FIX)?;
    if let Some(literal) = text.as_literal() {
        // A name without a host parses as well; which registry that means is not asked here.
        literal.parse::<Repository>().map_err(|cause| {
            value.error(
                cause.to_string(),
                "write `$CI_REGISTRY_IMAGE`, or a name below it such as `web`, in lower case and without a tag",
            )
        })?;
    }
    Ok(text)
}

/// A list of tags, or one; what stands around variables is checked as part of a tag.
pub(super) fn tags(value: &Value<'_>) -> Result<Vec<VariableText>, Error> {
    let mut tags = Vec::new();
    for item in value.list_or_one()? {
        if item.text()?.contains(char::is_whitespace) {
            let reason = format!("`{}` is not a tag: there is a space in it", item.text()?);
            return Err(item.error(reason, "write several tags as a list, `[latest, $CI_COMMIT_SHORT_SHA]`"));
        }
        let tag: VariableText = item.parse(VARIABLE_FIX)?;
        check_tag(&item, &tag)?;
        if tags.contains(&tag) {
            return Err(
                item.error(format!("the tag `{}` is there twice", item.text()?), "remove one of the two")
            );
        }
        tags.push(tag);
    }
    if tags.is_empty() {
        return Err(value.error("the list is empty", "name a tag, or remove the key"));
    }
    Ok(tags)
}

fn check_tag(item: &Value<'_>, tag: &VariableText) -> Result<(), Error> {
    if let Some(literal) = tag.as_literal() {
        literal.parse::<Tag>().map_err(|cause| item.error(cause.to_string(), TAG_FIX))?;
    }
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match tag.literals().find(|literal| !literal.bytes().all(belongs)) {
        Some(literal) => Err(item.error(format!("`{literal}` cannot be part of a tag"), TAG_FIX)),
        None => Ok(()),
    }
}

/// Annotations of the manifest (image specification, "Annotations").
pub(super) fn annotations(value: &Value<'_>) -> Result<BTreeMap<String, VariableText>, Error> {
    let mut annotations = BTreeMap::new();
    for (key, text) in value.entries()? {
        if key.is_empty()
            || key.contains(|character: char| character.is_whitespace() || character.is_control())
        {
            let fix = "write a key such as `org.opencontainers.image.source`";
            return Err(text.key_error("an annotation's key has characters, and no spaces", fix));
        }
        annotations.insert(key.to_owned(), text.parse(VARIABLE_FIX)?);
    }
    Ok(annotations)
}
