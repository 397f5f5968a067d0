//! Small location databases in the MaxMind DB format, written for tests: the networks that a test names, in the layouts
//! that databases have.

use std::net::IpAddr;

/// What a database says of a network.
#[derive(Clone, Debug)]
pub enum Data {
    /// Text.
    Text(String),
    /// A double.
    Number(f64),
    /// Fields by name.
    Map(Vec<(&'static str, Data)>),
}

fn text(text: &str) -> Data {
    Data::Text(text.to_owned())
}

/// A record of a database of cities, in the layout of GeoIP2.
pub fn city(country: &str, latitude: f64, longitude: f64) -> Data {
    let location = Data::Map(vec![("latitude", Data::Number(latitude)), ("longitude", Data::Number(longitude))]);
    Data::Map(vec![("country", Data::Map(vec![("iso_code", text(country))])), ("location", location)])
}

/// A record of a database of countries, in the layout of GeoIP2.
pub fn country(country: &str) -> Data {
    Data::Map(vec![("country", Data::Map(vec![("iso_code", text(country))]))])
}

/// A record of a database of cities, in the flat layout.
pub fn flat_city(country: &str, latitude: f64, longitude: f64) -> Data {
    let (latitude, longitude) = (Data::Number(latitude), Data::Number(longitude));
    Data::Map(vec![("country_code", text(country)), ("latitude", latitude), ("longitude", longitude)])
}

/// A record of a database of countries, in the flat layout.
pub fn flat_country(country: &str) -> Data {
    Data::Map(vec![("country_code", text(country))])
}

const SEPARATOR: [u8; 16] = [0; 16];

/// What one side of a node leads to.
#[derive(Clone, Copy)]
enum Side {
    Nothing,
    Node(usize),
    Data(usize),
}

/// A database of IPv4 and IPv6 networks, such as `198.51.100.0/24`, that do not overlap.
pub fn database(networks: &[(&str, Data)]) -> Vec<u8> {
    let mut nodes = vec![[Side::Nothing; 2]];
    let mut data = Vec::new();
    for (network, record) in networks {
        let (address, bits) = network.split_once('/').expect("a network");
        let bits: u32 = bits.parse().expect("its length");
        let (address, bits) = match address.parse().expect("an address") {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), bits + 96),
            IpAddr::V6(ip) => (ip.to_bits(), bits),
        };
        let at = data.len();
        put(&mut data, record);
        let mut node = 0;
        for bit in 0..bits {
            let side = usize::from(address >> (127 - bit) & 1 == 1);
            if bit + 1 == bits {
                nodes[node][side] = Side::Data(at);
                continue;
            }
            node = match nodes[node][side] {
                Side::Node(next) => next,
                _ => {
                    nodes.push([Side::Nothing; 2]);
                    let next = nodes.len() - 1;
                    nodes[node][side] = Side::Node(next);
                    next
                }
            };
        }
    }
    let mut bytes = Vec::new();
    for side in nodes.iter().flatten() {
        let record = match side {
            Side::Nothing => nodes.len(),
            Side::Node(node) => *node,
            Side::Data(at) => nodes.len() + SEPARATOR.len() + at,
        };
        bytes.extend_from_slice(&(record as u32).to_be_bytes()[1..]);
    }
    bytes.extend(SEPARATOR);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    put_metadata(&mut bytes, nodes.len());
    bytes
}

fn put_metadata(bytes: &mut Vec<u8>, nodes: usize) {
    const UINT16: u8 = 5;
    const UINT32: u8 = 6;
    const UINT64: u8 = 9;
    put_head(bytes, 7, 9);
    for (name, kind, value) in [
        ("node_count", UINT32, &(nodes as u32).to_be_bytes()[..]),
        ("record_size", UINT16, &24u16.to_be_bytes()),
        ("ip_version", UINT16, &6u16.to_be_bytes()),
        ("binary_format_major_version", UINT16, &2u16.to_be_bytes()),
        ("binary_format_minor_version", UINT16, &0u16.to_be_bytes()),
        ("build_epoch", UINT64, &1_800_000_000u64.to_be_bytes()),
    ] {
        put(bytes, &text(name));
        put_head(bytes, kind, value.len());
        bytes.extend(value);
    }
    put(bytes, &text("database_type"));
    put(bytes, &text("Test"));
    put(bytes, &text("languages"));
    put_head(bytes, 11, 0);
    put(bytes, &text("description"));
    put(bytes, &Data::Map(vec![("en", text("for tests"))]));
}

fn put(bytes: &mut Vec<u8>, data: &Data) {
    match data {
        Data::Text(text) => {
            put_head(bytes, 2, text.len());
            bytes.extend(text.as_bytes());
        }
        Data::Number(number) => {
            put_head(bytes, 3, 8);
            bytes.extend(number.to_be_bytes());
        }
        Data::Map(fields) => {
            put_head(bytes, 7, fields.len());
            for (name, value) in fields {
                put(bytes, &text(name));
                put(bytes, value);
            }
        }
    }
}

/// A field's kind and size; kinds over 7 take a second byte.
fn put_head(bytes: &mut Vec<u8>, kind: u8, size: usize) {
    let size = u8::try_from(size).ok().filter(|size| *size < 29).expect("tests write nothing long");
    match kind {
        0..=7 => bytes.push(kind << 5 | size),
        _ => bytes.extend([size, kind - 7]),
    }
}
