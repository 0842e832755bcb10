//! The real programs the tests set nixlayer beside, each started by the test that needs it and gone with it.

mod binary_cache;
mod cache_server;
mod docker_registry;
mod environment;
mod image;
mod image_job;
mod nix_daemon;
mod packages;
mod process;
pub(crate) mod signing_job;
mod stalling_proxy;
mod static_server;
mod test_job;
mod token_issuer;
mod traces;
mod unpacked_image;
mod upstream;

pub(crate) use binary_cache::BinaryCache;
pub(crate) use cache_server::{CacheServer, Fault, Recorded};
pub(crate) use docker_registry::{Auth, DockerRegistry};
pub(crate) use environment::{Environment, environment};
pub(crate) use image::{Image, Kind, Member};
pub(crate) use nix_daemon::NixDaemon;
pub(crate) use packages::{Packages, nix};
pub(crate) use process::{closure_of, skopeo, succeed};
pub(crate) use stalling_proxy::StallingProxy;
pub(crate) use static_server::StaticServer;
pub(crate) use test_job::{TOKEN, TestJob, exit_code, stages};
pub(crate) use token_issuer::{Account, TokenIssuer};
pub(crate) use traces::{eventually, indirect_roots, processes, processes_naming};
pub(crate) use unpacked_image::UnpackedImage;
pub(crate) use upstream::timeless;
