//! `nixlayer build`: the same as an image job, outside GitLab.

use std::collections::BTreeMap;

use super::nix_place::NixPlace;
use super::spec_place::{DefinitionOptions, SpecPlace};
use super::target::Target;
use super::{definition, say, until_interrupted};
use crate::failure::Failure;
use crate::pipeline::{Event, NixImage};
use crate::spec::{Definition, Installable};
use crate::stage::Driver;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The spec, beneath the project's folder; or FILE.nix, FILE.nix#ATTRIBUTE, a folder, or a flake output such as
    /// .#image
    #[arg(value_name = "SPEC")]
    definition: String,
    #[command(flatten)]
    options: DefinitionOptions,
    /// Where the image goes: `HOST/REPOSITORY[:TAG]` or `oci:FOLDER[:TAG]`; may be given several times
    #[arg(long, required = true, value_name = "DEST")]
    to: Vec<Target>,
    /// Makes every layer, and compares what comes of it with what records say of it
    #[arg(long)]
    verify_layers: bool,
}

/// Builds the image and puts it wherever it shall go.
pub(super) async fn build(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    until_interrupted(async {
        match definition::read(&arguments.definition, &arguments.options)? {
            Definition::Spec(file) => build_spec(&file, arguments, driver).await,
            Definition::Nix(wanted) => build_nix(&wanted, arguments, driver).await,
        }
    })
    .await
}

async fn build_spec(file: &str, arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    let place = SpecPlace::open(file, &arguments.options, driver)?;
    let build = place.build();
    let prepared = build.prepare(&show).await?;
    let mut pushed = Vec::new();
    for target in &arguments.to {
        let destination = target.destination(driver)?;
        let tags = target.tag().map_or_else(|| place.tags(), |tag| Ok(vec![tag.clone()]))?;
        let mut reuse = place.reuse(target.repository(), arguments.verify_layers)?;
        reuse.add_pushed(&pushed, target.repository());
        let effort = driver.effort(target.host());
        target.summarise(&prepared.publish(&destination, &tags, effort, &reuse, &show).await?);
        pushed.extend(target.repository().cloned().zip(tags.first().cloned()));
    }
    Ok(())
}

async fn build_nix(wanted: &Installable, arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    let place = NixPlace::open(wanted, &arguments.options, driver)?;
    let images = place.build().prepare(&show).await?;
    let mut pushed = Vec::new();
    for target in &arguments.to {
        for (target, image) in targets(target, &images)? {
            let destination = target.destination(driver)?;
            let tags = image.tags_or(target.tag())?;
            let mut reuse = place.reuse(target.repository(), arguments.verify_layers)?;
            reuse.add_pushed(&pushed, target.repository());
            let effort = driver.effort(target.host());
            target.summarise(&image.publish(&destination, &tags, effort, &reuse, &show).await?);
            pushed.extend(target.repository().cloned().zip(tags.into_iter().next()));
        }
    }
    Ok(())
}

/// Where each image goes: one to the destination that was said, several below it under their own names.
fn targets<'a>(target: &Target, images: &'a [NixImage]) -> Result<Vec<(Target, &'a NixImage)>, Failure> {
    if let [image] = images {
        return Ok(vec![(target.clone(), image)]);
    }
    let mut taken = BTreeMap::new();
    let mut targets = Vec::new();
    for image in images {
        for tag in image.tags_or(target.tag())? {
            if let Some(other) = taken.insert((&image.name, tag), &image.origin) {
                let (name, origin) = (&image.name, &image.origin);
                return Err(Failure::build(
                    format!("two images are called `{name}`, and have one tag: `{other}` and `{origin}`"),
                    "give them names or tags of their own, or name one behind a `#`",
                ));
            }
        }
        targets.push((target.below(&image.name)?, image));
    }
    Ok(targets)
}

fn show(event: Event) {
    say(&event.to_string());
}
