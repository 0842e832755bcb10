//! `nixlayer plan`: what a push would build, reuse and send, before anything moves.

use serde_json::{Value, json};

use super::nix_place::NixPlace;
use super::spec_place::{DefinitionOptions, SpecPlace};
use super::target::Image;
use super::{definition, say, until_interrupted};
use crate::failure::Failure;
use crate::pipeline::{Event, Outlook};
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
    /// The image that the push would replace: `HOST/REPOSITORY[:TAG]`
    #[arg(long, value_name = "REF")]
    against: Option<Image>,
    /// Prints the plan as JSON, and nothing else
    #[arg(long)]
    json: bool,
}

pub(super) async fn plan(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    until_interrupted(print_plan(arguments, driver)).await
}

async fn print_plan(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    let show = |event: Event| {
        if !arguments.json {
            say(&event.to_string());
        }
    };
    let outlook = match definition::read(&arguments.definition, &arguments.options)? {
        Definition::Spec(file) => of_spec(&file, arguments, driver, &show).await?,
        Definition::Nix(wanted) => of_nix(&wanted, arguments, driver, &show).await?,
    };
    if arguments.json {
        say(&to_json(&outlook).to_string());
        return Ok(());
    }
    for layer in &outlook.layers {
        say(&layer.to_string());
    }
    say(&outlook.to_string());
    Ok(())
}

async fn of_spec(
    file: &str,
    arguments: &Arguments,
    driver: &Driver<'_>,
    show: &(dyn Fn(Event) + Sync),
) -> Result<Outlook, Failure> {
    let place = SpecPlace::open(file, &arguments.options, driver)?;
    let build = place.build();
    let prepared = build.prepare(show).await?;
    let Some(image) = &arguments.against else {
        return Ok(prepared.outlook(None, &driver.reuse(Vec::new(), false, &|_| {})?, show).await?);
    };
    let destination = image.destination(driver)?;
    let tags = image.tag.clone().map_or_else(|| place.tags(), |tag| Ok(vec![tag]))?;
    let reuse = place.reuse(Some(&image.repository), false)?;
    Ok(prepared.outlook(Some((&destination, &tags)), &reuse, show).await?)
}

async fn of_nix(
    wanted: &Installable,
    arguments: &Arguments,
    driver: &Driver<'_>,
    show: &(dyn Fn(Event) + Sync),
) -> Result<Outlook, Failure> {
    let place = NixPlace::open(wanted, &arguments.options, driver)?;
    let images = place.build().prepare(show).await?;
    let [image] = images.as_slice() else {
        let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
        let error = format!("`{wanted}` means several images: {}", names.join(", "));
        return Err(Failure::build(error, "name one of them behind a `#`"));
    };
    let reuse = place.reuse(arguments.against.as_ref().map(|image| &image.repository), false)?;
    let outlook = match &arguments.against {
        None => image.outlook(None, &reuse, show).await?,
        Some(target) => {
            let destination = target.destination(driver)?;
            let tags = image.tags_or(target.tag.as_ref())?;
            image.outlook(Some((&destination, &tags)), &reuse, show).await?
        }
    };
    let finished = || format!("`{wanted}` is an image that is finished, of which nothing would be built");
    outlook.ok_or_else(|| Failure::build(finished(), "push it: what is there already is not sent"))
}

fn to_json(outlook: &Outlook) -> Value {
    let layers = outlook.layers.iter().map(|layer| {
        let paths: Vec<String> = layer.paths.iter().map(ToString::to_string).collect();
        json!({
            "number": layer.number,
            "contents": layer.contents,
            "storePaths": paths,
            "narSize": layer.nar_size,
            "decision": layer.decision.word(),
            "digest": layer.known.map(|known| known.digest.to_string()),
            "size": layer.known.map(|known| known.size),
        })
    });
    json!({
        "unchanged": outlook.unchanged,
        "layers": layers.collect::<Vec<_>>(),
        "build": { "layers": outlook.build().count, "narSize": outlook.build().size },
        "reuse": { "layers": outlook.reuse().count, "size": outlook.reuse().size },
        "estimatedUpload": outlook.estimated_upload(),
    })
}
