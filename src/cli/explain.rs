//! `nixlayer explain`: why a store path is in an image, and what it costs.

use super::spec_place::{DefinitionOptions, SpecPlace, spec_file};
use super::target::Image;
use super::{say, until_interrupted};
use crate::failure::Failure;
use crate::pipeline::{self, Event};
use crate::stage::Driver;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A spec, or an image as `HOST/REPOSITORY[:TAG]`
    #[arg(value_name = "SPEC|IMAGE")]
    subject: String,
    /// A store path, a file in one, or the name of a package
    path: String,
    #[command(flatten)]
    options: DefinitionOptions,
}

pub(super) async fn explain(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    let subject = &arguments.subject;
    let is_definition = [".yaml", ".yml", ".nix"].iter().any(|ending| subject.ends_with(ending));
    until_interrupted(async {
        if is_definition || subject.contains('#') {
            explain_spec(&spec_file(subject)?, arguments, driver).await
        } else {
            explain_image(arguments, driver).await
        }
    })
    .await
}

async fn explain_spec(file: &str, arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    let place = SpecPlace::open(file, &arguments.options, driver)?;
    let build = place.build();
    let prepared = build.prepare(&|event: Event| say(&event.to_string())).await?;
    print_all(&prepared.explain(&arguments.path), arguments)
}

async fn explain_image(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    let fix = "name a spec that ends in `.yaml`, or an image as `HOST/REPOSITORY[:TAG]`";
    let image: Image = arguments.subject.parse().map_err(|error: String| Failure::build(error, fix))?;
    let registry = image.registry(driver)?;
    let missing = || {
        let subject = &arguments.subject;
        Failure::build(format!("there is no image `{subject}`, or not for you"), "check its name, and log in")
    };
    let tag = image.tag.clone().map_or_else(|| "latest".parse(), Ok);
    let tag = tag.map_err(|error: crate::oci::reference::ReferenceError| Failure::build(error, fix))?;
    let manifest = registry.manifest(&image.repository, &tag, false).await?.ok_or_else(missing)?;
    let no_image = |error: crate::oci::ManifestError| {
        Failure::build(error, "name the image of one platform: this is a list of such, or no image")
    };
    let config = crate::oci::Manifest::parse(&manifest).map_err(no_image)?.config;
    let configuration = registry.blob(&image.repository, &config.digest, false).await?.ok_or_else(missing)?;
    let found = pipeline::find_in_image(&manifest, &configuration, &arguments.path).map_err(no_image)?;
    print_all(&found, arguments)
}

fn print_all<T: ToString>(found: &[T], arguments: &Arguments) -> Result<(), Failure> {
    if found.is_empty() {
        let (path, subject) = (&arguments.path, &arguments.subject);
        let error = format!("no store path of `{subject}` is `{path}`, or is called so");
        return Err(Failure::build(
            error,
            "write a whole path, or the name of a package without its version",
        ));
    }
    found.iter().for_each(|one| say(&one.to_string()));
    Ok(())
}
