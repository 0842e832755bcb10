//! The name service of this machine.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The name service of this machine: `/etc/hosts`, and the servers of `/etc/resolv.conf`.
#[derive(Default)]
pub(super) struct SystemResolver(Arc<OnceLock<TokioResolver>>);

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let cell = Arc::clone(&self.0);
        Box::pin(async move {
            let resolver = match cell.get() {
                Some(resolver) => resolver,
                // Not earlier, for it wants the runtime that will do the work.
                None => {
                    // Without name servers there still is /etc/hosts; nobody else is asked instead of them.
                    let hosts_only = |_| TokioResolver::builder_with_config(<_>::default(), <_>::default());
                    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(hosts_only);
                    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
                    let made = builder.build()?;
                    cell.get_or_init(|| made)
                }
            };
            let found: Vec<IpAddr> = resolver.lookup_ip(name.as_str()).await?.iter().collect();
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}
