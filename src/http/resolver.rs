//! The name service of this machine.
//!
//! A name server that does not answer may answer later. One that says that there is no such name will say so
//! again, unless the name has led somewhere before: whoever restarts a registry in a container takes its name
//! away for a while.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The name service of this machine: `/etc/hosts`, and the servers of `/etc/resolv.conf`.
#[derive(Clone, Default)]
pub(super) struct SystemResolver(Arc<Inner>);

#[derive(Default)]
struct Inner {
    resolver: OnceLock<TokioResolver>,
    /// Names that have led somewhere.
    found: Mutex<BTreeSet<String>>,
}

/// Why a name leads nowhere.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LookUpError {
    /// The name servers are sure, and it has led nowhere before.
    #[error("there is no host `{name}`")]
    NoSuchHost {
        /// The name.
        name: String,
    },
    /// They are not, or not to be believed.
    #[error("the name servers do not say where `{name}` is: {said}")]
    NoAnswer {
        /// The name.
        name: String,
        /// What they say instead.
        said: String,
    },
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let found = this.look_up(name.as_str()).await?;
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

impl SystemResolver {
    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, LookUpError> {
        let no_answer = |said: String| LookUpError::NoAnswer { name: name.to_owned(), said };
        let resolver = self.resolver().map_err(|error| no_answer(error.to_string()))?;
        let known = || self.0.found.lock().unwrap_or_else(PoisonError::into_inner);
        match resolver.lookup_ip(name).await {
            Ok(found) => {
                known().insert(name.to_owned());
                Ok(found.iter().collect())
            }
            Err(error) if !error.is_no_records_found() => Err(no_answer(error.to_string())),
            Err(error) if !error.is_nx_domain() => Err(no_answer("it has no address".to_owned())),
            Err(_) if known().contains(name) => Err(no_answer("it has none any more".to_owned())),
            // What was asked last may have been the name with a domain behind it.
            Err(_) => match resolver.lookup_ip(format!("{}.", name.trim_end_matches('.'))).await {
                Err(error) if error.is_nx_domain() => Err(LookUpError::NoSuchHost { name: name.to_owned() }),
                Err(error) => Err(no_answer(error.to_string())),
                Ok(found) => Ok(found.iter().collect()),
            },
        }
    }

    fn resolver(&self) -> Result<&TokioResolver, NetError> {
        let cell = &self.0.resolver;
        match cell.get() {
            Some(resolver) => Ok(resolver),
            // Not earlier, for it wants the runtime that will do the work.
            None => {
                // Without name servers there still is /etc/hosts; nobody else is asked instead of them.
                let hosts_only = |_| TokioResolver::builder_with_config(<_>::default(), <_>::default());
                let mut builder = TokioResolver::builder_tokio().unwrap_or_else(hosts_only);
                let options = builder.options_mut();
                options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
                // Another try asks again.
                options.negative_max_ttl = Some(Duration::ZERO);
                let made = builder.build()?;
                Ok(cell.get_or_init(|| made))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicU8, Ordering};

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use tokio::net::UdpSocket;

    use super::*;

    const NO_ERROR: u8 = 0;
    const SERVER_FAILURE: u8 = 2;
    const NO_SUCH_NAME: u8 = 3;
    const WITH_ADDRESS: u8 = 0x80;

    /// A name server that says the same of every name (RFC 1035 §4), and a resolver that asks it.
    async fn name_server(says: Arc<AtomicU8>) -> SystemResolver {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = socket.local_addr().unwrap().port();
        let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, <_>::default());
        builder.options_mut().negative_max_ttl = Some(Duration::ZERO);
        builder.options_mut().positive_max_ttl = Some(Duration::ZERO);
        tokio::spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut query).await.unwrap();
                let said = says.load(Ordering::SeqCst);
                let with_address = said & WITH_ADDRESS != 0;
                // One question has the root's empty name or more, a type and a class.
                let end = 12 + query[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
                let mut answer = query[..end].to_vec();
                answer[2] = 0x81;
                answer[3] = 0x80 | (said & 0xf);
                answer[6..12].fill(0);
                if with_address && query[end - 3] == 1 {
                    answer[7] = 1;
                    // The question's name, an address of the internet, good for no time.
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 1]);
                }
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        let inner = Inner { resolver: OnceLock::from(builder.build().unwrap()), ..Inner::default() };
        SystemResolver(Arc::new(inner))
    }

    #[tokio::test]
    async fn only_a_name_that_is_denied_is_no_host() {
        for (says, expected) in [
            (NO_SUCH_NAME, "there is no host `registry.example`"),
            (SERVER_FAILURE, "the name servers do not say where `registry.example` is: "),
            (NO_ERROR, "the name servers do not say where `registry.example` is: it has no address"),
        ] {
            let resolver = name_server(Arc::new(AtomicU8::new(says))).await;

            let error = resolver.look_up("registry.example").await.unwrap_err();

            assert!(error.to_string().starts_with(expected), "{error}");
            assert_eq!(matches!(error, LookUpError::NoSuchHost { .. }), says == NO_SUCH_NAME, "{error}");
        }
    }

    #[tokio::test]
    async fn a_name_that_led_somewhere_may_do_so_again() {
        let says = Arc::new(AtomicU8::new(WITH_ADDRESS));
        let resolver = name_server(Arc::clone(&says)).await;
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(resolver.look_up("registry.example").await.unwrap(), [address]);
        says.store(NO_SUCH_NAME, Ordering::SeqCst);

        let error = resolver.look_up("registry.example").await.unwrap_err();

        assert!(matches!(error, LookUpError::NoAnswer { .. }), "{error}");
        says.store(WITH_ADDRESS, Ordering::SeqCst);
        assert_eq!(resolver.look_up("registry.example").await.unwrap(), [address]);
    }
}
