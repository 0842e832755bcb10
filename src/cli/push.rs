//! `nixlayer push`: an image that is finished already, from an archive to where it shall be.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use tokio::task::spawn_blocking;

use super::image_script::{ImageScript, failure_behind};
use super::target::Target;
use super::{say, until_interrupted, variable};
use crate::failure::Failure;
use crate::oci::Tag;
use crate::pipeline::{ArchivePush, Event, usual_reuse};
use crate::source::archive::{ArchiveSource, Form, Select, begins_so};
use crate::stage::Driver;

/// The name of standard input, for people.
const STANDARD_INPUT: &str = "standard input";

/// What every image layout has.
const INDEX: &str = "index.json";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// `docker-archive:FILE[:NAME]`, `oci-archive:FILE[:NAME]`, `oci:FOLDER[:NAME]`, the file or folder of an archive,
    /// `-` for standard input, or a program that writes an archive, such as the `result` of `streamLayeredImage`
    source: Source,
    /// Where the image goes: `HOST/REPOSITORY[:TAG]` or `oci:FOLDER[:TAG]`; without a tag, the image's own
    #[arg(value_name = "DEST")]
    to: Target,
    /// Makes every layer, and compares what comes of it with what records say of it
    #[arg(long)]
    verify_layers: bool,
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Archive {
        form: Form,
        file: PathBuf,
        select: Select,
    },
    Folder {
        folder: PathBuf,
        select: Select,
    },
    /// Whatever is there.
    Path(PathBuf),
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("docker://") {
            return Err("what is pushed is an archive or an image layout".to_owned());
        }
        // As skopeo has it: the name follows the first colon.
        let (kind, rest) = text.split_once(':').unwrap_or(("", text));
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) => (path, Some(name)),
            None => (rest, None),
        };
        let select = match name.map(|name| (name, name.strip_prefix('@').map(str::parse))) {
            None => Select::Only,
            Some((_, Some(Ok(at)))) => Select::At(at),
            Some(("", _)) => return Err("an image's name follows the second `:`".to_owned()),
            Some((name, _)) => Select::Named(name.to_owned()),
        };
        let source = match kind {
            "docker-archive" => Self::Archive { form: Form::Docker, file: path.into(), select },
            "oci-archive" => Self::Archive { form: Form::Layout, file: path.into(), select },
            "oci" => Self::Folder { folder: path.into(), select },
            _ => return Ok(Self::Path(text.into())),
        };
        if path.is_empty() { Err(format!("a file or folder follows `{kind}:`")) } else { Ok(source) }
    }
}

/// Brings the image of an archive to where it shall be.
pub(super) async fn push(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    until_interrupted(push_image(arguments, driver)).await
}

async fn push_image(arguments: &Arguments, driver: &Driver<'_>) -> Result<(), Failure> {
    let (source, select, _script) = open(&arguments.source).await?;
    let source = Arc::new(source);
    let destination = arguments.to.destination(driver)?;
    let tags: Vec<Tag> = arguments.to.tag().cloned().into_iter().collect();
    let from = arguments.to.repository().map(|near| usual_reuse(near, &|name| variable(driver, name)));
    let reuse = driver.reuse(from.unwrap_or_default(), arguments.verify_layers, &say)?;
    let effort = driver.effort(arguments.to.host());
    let push = ArchivePush { source: &source, select: &select, annotations: BTreeMap::new() };
    let show = |event: Event| say(&event.to_string());
    let published = push.publish(&destination, &tags, effort, &reuse, &show).await;
    let published = published.map_err(|error| failure_behind(&error).unwrap_or_else(|| error.into()))?;
    arguments.to.summarise(&published);
    Ok(())
}

/// The archive, which of its images, and the program that makes it if one does.
async fn open(source: &Source) -> Result<(ArchiveSource, Select, Option<ImageScript>), Failure> {
    match source {
        Source::Archive { form, file, select } => Ok((archive(file, *form).await?, select.clone(), None)),
        Source::Folder { folder, select } => Ok((layout(folder)?, select.clone(), None)),
        Source::Path(path) if path.is_dir() => Ok((layout(path)?, Select::Only, None)),
        Source::Path(path) if is_program(path) => {
            let (script, output) = ImageScript::start(path)?;
            let source = ArchiveSource::stream(&path.to_string_lossy(), Form::Docker, Box::new(output));
            Ok((source, Select::Only, Some(script)))
        }
        Source::Path(path) => Ok((archive(path, Form::Any).await?, Select::Only, None)),
    }
}

async fn archive(path: &Path, form: Form) -> Result<ArchiveSource, Failure> {
    if path == OsStr::new("-") {
        return Ok(ArchiveSource::stream(STANDARD_INPUT, form, Box::new(io::stdin())));
    }
    let name = path.to_string_lossy();
    // A pipe is open once somebody writes into it, and whoever waits for that may be asked to end.
    let opened = spawn_blocking({
        let path = path.to_owned();
        move || File::open(path)
    });
    let opened = opened.await.map_err(Failure::cannot("open the archive"))?;
    let file = opened.map_err(|error| missing(&name, error))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(folder_in_its_place(format!("`{name}` is a folder, and no file"), path));
    }
    Ok(ArchiveSource::file(&name, form, file)?)
}

fn layout(path: &Path) -> Result<ArchiveSource, Failure> {
    let name = path.to_string_lossy();
    let folder = Dir::open_ambient_dir(path, ambient_authority()).map_err(|error| missing(&name, error))?;
    if matches!(folder.try_exists(INDEX), Ok(false)) {
        let no_layout = format!("`{name}` is no image layout: there is no `{INDEX}` in it");
        return Err(folder_in_its_place(no_layout, path));
    }
    Ok(ArchiveSource::folder(&name, folder))
}

/// What can be said of a folder that is not what was named.
fn folder_in_its_place(error: String, folder: &Path) -> Failure {
    let has = |name| folder.join(name).exists();
    let fix = if has(INDEX) {
        "name `oci:FOLDER`, as it is an image layout"
    } else if has("manifest.json") {
        "pack what is in it, `tar -C FOLDER -cf FILE .`, and name `docker-archive:FILE`"
    } else {
        "name the file of an archive, or `oci:FOLDER` for a folder that is an image layout"
    };
    Failure::build(error, fix)
}

fn missing(name: &str, error: io::Error) -> Failure {
    Failure::build(
        format!("`{name}` cannot be opened: {error}"),
        "name `docker-archive:FILE`, `oci-archive:FILE`, `oci:FOLDER`, a file of these, a program that writes one, or `-`",
    )
}

/// Whether a file begins as archives do, or as the programs that are run for one.
pub(super) fn takes_file(path: &Path) -> bool {
    is_program(path) || begins_so(&head(path, 512))
}

/// Whether a file is to be run: it begins as scripts or the programs of Linux do.
fn is_program(path: &Path) -> bool {
    let head = head(path, 4);
    head.starts_with(b"#!") || head == b"\x7fELF"
}

/// As much of the beginning of a file, if it can be read.
pub(super) fn head(path: &Path, most: usize) -> Vec<u8> {
    // A pipe has no beginning that could be read twice.
    let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
    let mut head = vec![0; most];
    let read = if is_file { File::open(path).and_then(|file| file.read_at(&mut head, 0)) } else { Ok(0) };
    head.truncate(read.unwrap_or(0));
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_as_skopeo_reads_it() {
        let named = |name: &str| Select::Named(name.to_owned());
        let archive = |form, file: &str, select| Source::Archive { form, file: file.into(), select };
        for (text, expected) in [
            ("docker-archive:a.tar", archive(Form::Docker, "a.tar", Select::Only)),
            (
                "docker-archive:a.tar:r.example:5000/app:1",
                archive(Form::Docker, "a.tar", named("r.example:5000/app:1")),
            ),
            ("docker-archive:-:@1", archive(Form::Docker, "-", Select::At(1))),
            ("oci-archive:a.tar:latest", archive(Form::Layout, "a.tar", named("latest"))),
            ("oci:folder", Source::Folder { folder: "folder".into(), select: Select::Only }),
            ("-", Source::Path("-".into())),
            ("./result", Source::Path("./result".into())),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["docker-archive:", "oci::x", "oci-archive:a.tar:"] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
