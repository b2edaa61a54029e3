//! Which addresses are not the public internet's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is, if it must not be reached: everything in the registries of special addresses
/// (RFC 6890 and its successors) and all of IPv6 that is not globally assigned (2000::/3).
pub(super) fn refused(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => refused_v4(ip),
        IpAddr::V6(ip) => refused_v6(ip),
    }
}

fn refused_v4(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        [0, ..] => Some("at an address of this network"),
        [127, ..] => Some("at a loopback address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("at a private address"),
        [100, 64..=127, ..] => Some("at an address shared behind a carrier's NAT"),
        [169, 254, ..] => Some("at a link-local address"),
        [192, 0, 0 | 2, _] | [198, 18..=19, ..] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => {
            Some("at an address reserved for tests and protocols")
        }
        [224..=239, ..] => Some("at a multicast address"),
        [240..=255, ..] => Some("at a reserved address"),
        _ => None,
    }
}

fn refused_v6(ip: Ipv6Addr) -> Option<&'static str> {
    if let Some(inner) = embedded(ip) {
        return refused_v4(inner);
    }
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Some("at a loopback address"),
        [0xfc00..=0xfdff, ..] => Some("at a private address"),
        [0xfe80..=0xfebf, ..] => Some("at a link-local address"),
        [0xff00..=0xffff, ..] => Some("at a multicast address"),
        // Protocol assignments (Teredo, ORCHID, benchmarks), documentation.
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => {
            Some("at an address reserved for tests and protocols")
        }
        [0x2000..=0x3fff, ..] => None,
        _ => Some("at a reserved address"),
    }
}

/// The IPv4 address inside: mapped, NAT64 (RFC 6052) or 6to4 (RFC 3056).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, is_refused: bool) {
        assert_eq!(refused(address.parse().unwrap()).is_some(), is_refused, "{address}");
    }

    #[test]
    fn only_the_public_internet_is_reached() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2001:4860:4860::8888",
        ] {
            check(public, false);
        }
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.254",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "192.88.99.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "5f00::1",
            "4000::1",
        ] {
            check(special, true);
        }
    }
}
