//! `nixlayer plan`: what a push would build, reuse and send, before anything moves.

use serde_json::{Value, json};

use super::spec_place::{DefinitionOptions, SpecPlace, spec_file};
use super::target::Image;
use super::{say, until_interrupted};
use crate::failure::Failure;
use crate::pipeline::{Event, Outlook};
use crate::stage::Driver;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The spec, beneath the project's folder
    spec: String,
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
    let place = SpecPlace::open(&spec_file(&arguments.spec)?, &arguments.options, driver)?;
    let show = |event: Event| {
        if !arguments.json {
            say(&event.to_string());
        }
    };
    let build = place.build();
    let prepared = build.prepare(&show).await?;
    let outlook = match &arguments.against {
        Some(image) => {
            let destination = image.destination(driver)?;
            let tags = image.tag.clone().map_or_else(|| place.tags(), |tag| Ok(vec![tag]))?;
            let reuse = place.reuse(Some(&image.repository), false)?;
            prepared.outlook(Some((&destination, &tags)), &reuse, &show).await?
        }
        None => prepared.outlook(None, &driver.reuse(Vec::new(), false, &|_| {})?, &show).await?,
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
