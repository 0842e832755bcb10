//! `nixlayer build`: the same as an image job, outside GitLab.

use super::target::Target;
use super::workplace::{SpecOptions, Workplace};
use super::{say, until_interrupted};
use crate::failure::Failure;
use crate::pipeline::{Event, Totals};
use crate::stage::Driver;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The spec, beneath the project's folder
    spec: String,
    #[command(flatten)]
    options: SpecOptions,
    /// Where the image goes: `HOST/REPOSITORY[:TAG]` or `oci:FOLDER`; may be given several times
    #[arg(long, required = true, value_name = "DEST")]
    to: Vec<Target>,
    /// Makes every layer, and compares what comes of it with what records say of it
    #[arg(long)]
    verify_layers: bool,
}

/// Builds the spec and puts the image wherever it shall go.
pub(super) async fn build(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    until_interrupted(build_image(arguments, driver)).await
}

async fn build_image(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    let place = Workplace::open(&arguments.spec, &arguments.options, driver)?;
    let show = |event: Event| say(&event.to_string());
    let build = place.build();
    let prepared = build.prepare(&show).await?;
    for target in &arguments.to {
        let (destination, tags) = target.destination(&place)?;
        let reuse = target.reuse(&place, arguments.verify_layers)?;
        let effort = driver.effort(target.host());
        let published = prepared.publish(&destination, &tags, effort, &reuse, &show).await?;
        say(&Totals::of(&published.layers).to_string());
        say(&format!("digest: {}", published.digest));
    }
    Ok(())
}
