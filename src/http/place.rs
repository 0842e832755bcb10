//! Where in the network an address is, and how far a request may go.
//!
//! A server that redirects chooses where our next request goes. A public one must not use us as its arm
//! into the network that we are in, and nobody may lead us to the services of a cloud that give out
//! credentials to whoever asks. A name proves nothing, for its owner decides where it leads: so names are
//! resolved by [`Bounded`], which keeps only addresses within bounds, and the connection is made to one of
//! those.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Where an address is, the more of a secret the later; as a bound, how far a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Everybody can reach it.
    Public,
    /// Only machines of the same network can (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// Only this machine can.
    Loopback,
    /// Only machines of the same link can, or the virtual machine of a cloud that asks for what it is and
    /// for its credentials.
    LinkLocal,
}

impl fmt::Display for Place {
    /// What follows "to".
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Public => "a public address",
            Self::Private => "an address inside the network",
            Self::Loopback => "an address of this machine itself",
            Self::LinkLocal => "a link-local address, where clouds give out credentials",
        })
    }
}

impl Place {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, ..] = address.octets();
        // The metadata of Alibaba Cloud, in the range that carriers share.
        if address.is_link_local() || address == Ipv4Addr::new(100, 100, 100, 200) {
            Self::LinkLocal
        } else if address.is_loopback() || a == 0 {
            Self::Loopback
        } else if address.is_private()
            || (a == 100 && (64..128).contains(&b))
            || address.is_multicast()
            || address.is_broadcast()
        {
            Self::Private
        } else {
            Self::Public
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        const METADATA_OF_AWS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
        let embedded = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match address.segments() {
            _ if address.is_unicast_link_local() || address == METADATA_OF_AWS => Self::LinkLocal,
            _ if address.is_loopback() || address.is_unspecified() => Self::Loopback,
            _ if address.is_unique_local() || address.is_multicast() => Self::Private,
            // What RFC 3879 took out of use.
            [0xfec0..=0xfeff, ..] => Self::Private,
            // An IPv4 address through NAT64 (RFC 6052), 6to4 (RFC 3056), or as it was once written.
            [0x64, 0xff9b, 0, 0, 0, 0, high, low]
            | [0x2002, high, low, ..]
            | [0, 0, 0, 0, 0, 0, high, low] => embedded(high, low),
            _ => Self::Public,
        }
    }

    /// What the URL alone says of the place; `None` where only the name's owner knows.
    pub(super) fn of_url(url: &Url) -> Option<Self> {
        let host = url.host_str().unwrap_or_default();
        match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => Some(Self::of(address)),
            Err(_) => {
                let name = host.trim_end_matches('.');
                (name == "localhost" || name.ends_with(".localhost")).then_some(Self::Loopback)
            }
        }
    }
}

/// A name leads to nothing but places that are out of bounds.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the name leads to {place}, `{address}`")]
pub(super) struct OutOfBounds {
    address: IpAddr,
    pub(super) place: Place,
}

/// Gives only those addresses of a name that are within bounds.
pub(super) struct Bounded {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) bound: Place,
}

impl Resolve for Bounded {
    fn resolve(&self, name: Name) -> Resolving {
        let bound = self.bound;
        let resolving = self.resolver.resolve(name);
        Box::pin(async move {
            let (within, beyond): (Vec<SocketAddr>, Vec<SocketAddr>) =
                resolving.await?.partition(|address| Place::of(address.ip()) <= bound);
            match beyond.first() {
                Some(address) if within.is_empty() => {
                    let address = address.ip();
                    Err(OutOfBounds { address, place: Place::of(address) }.into())
                }
                _ => Ok(Box::new(within.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A name service that knows the same addresses for every name.
    pub(in crate::http) struct Fixed(pub(in crate::http) Vec<IpAddr>);

    impl Resolve for Fixed {
        fn resolve(&self, _name: Name) -> Resolving {
            let found = self.0.clone();
            Box::pin(async move {
                Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
            })
        }
    }

    #[test]
    fn the_place_of_an_address_is_that_of_its_range() {
        for (place, addresses) in [
            (
                Place::LinkLocal,
                &[
                    "169.254.169.254",
                    "169.254.0.1",
                    "100.100.100.200",
                    "fe80::1",
                    "febf::1",
                    "fd00:ec2::254",
                    "::ffff:169.254.169.254",
                    "64:ff9b::169.254.169.254",
                    "2002:a9fe:a9fe::",
                ][..],
            ),
            (
                Place::Loopback,
                &[
                    "127.0.0.1",
                    "127.255.0.1",
                    "0.0.0.0",
                    "0.1.2.3",
                    "::",
                    "::1",
                    "::ffff:127.0.0.1",
                    "::127.0.0.1",
                ],
            ),
            (
                Place::Private,
                &[
                    "10.1.2.3",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.0.1",
                    "100.64.0.1",
                    "224.0.0.1",
                    "255.255.255.255",
                    "fd00::1",
                    "fc00::1",
                    "fd00:ec2::253",
                    "ff02::1",
                    "fec0::1",
                    "64:ff9b::10.0.0.1",
                ],
            ),
            (
                Place::Public,
                &[
                    "192.0.2.1",
                    "9.255.255.255",
                    "11.0.0.0",
                    "172.32.0.1",
                    "100.128.0.1",
                    "169.253.0.1",
                    "2001:db8::1",
                    "64:ff9b::192.0.2.1",
                    "::ffff:192.0.2.1",
                ],
            ),
        ] {
            for address in addresses {
                assert_eq!(Place::of(address.parse().unwrap()), place, "{address}");
            }
        }
    }

    #[test]
    fn some_urls_tell_their_place() {
        for (url, place) in [
            ("http://10.0.0.1/", Some(Place::Private)),
            ("http://2130706433/", Some(Place::Loopback)),
            ("http://0xa9fea9fe/", Some(Place::LinkLocal)),
            ("http://[fe80::1]:80/", Some(Place::LinkLocal)),
            ("http://localhost:5000/", Some(Place::Loopback)),
            ("http://registry.localhost./", Some(Place::Loopback)),
            ("http://192.0.2.1/", Some(Place::Public)),
            ("http://storage.example/", None),
        ] {
            assert_eq!(Place::of_url(&Url::parse(url).unwrap()), place, "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_leads_to_its_addresses_within_bounds_or_nowhere() {
        let addresses = ["192.0.2.1", "10.0.0.1", "127.0.0.1", "169.254.169.254"];
        let of = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let resolve = async |found: &[&str], bound| {
            let bounded = Bounded { resolver: Arc::new(Fixed(of(found))), bound };
            let found = bounded.resolve("x.example".parse().unwrap()).await;
            found.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
        };
        for (bound, within) in
            [(Place::Public, 1), (Place::Private, 2), (Place::Loopback, 3), (Place::LinkLocal, 4)]
        {
            assert_eq!(resolve(&addresses, bound).await.unwrap(), of(&addresses[..within]), "{bound:?}");
        }

        let refused = resolve(&addresses[1..], Place::Public).await.unwrap_err();

        assert_eq!(refused.to_string(), "the name leads to an address inside the network, `10.0.0.1`");
        assert_eq!(resolve(&[], Place::Public).await.unwrap(), of(&[]));
    }
}
