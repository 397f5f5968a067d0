//! Access points as the operator names them, in `geo.access_points` of the configuration.

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    place::Place,
    regions::{self, Region, is_id},
};

/// Access points of a deployment, at the most.
const ACCESS_POINTS_MAX: usize = 1_000;

/// Addresses of one, at the most.
pub const ADDRESSES_MAX: usize = 8;

/// Longest address, in bytes: a host name and a port.
const ADDRESS_BYTES_MAX: usize = 261;

/// What an access point weighs if nothing else is said.
const WEIGHT_DEFAULT: u32 = 100;
pub const WEIGHT_MAX: u32 = 10_000;

/// Where clients may connect.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessPoint {
    /// Its name among all of the deployment.
    pub id: String,
    /// `host:port`, the best first.
    pub addresses: Vec<String>,
    pub region: String,
    pub place: Place,
    /// How much of what comes to it and its equals it should take, beside theirs.
    pub weight: u32,
    /// Sessions it may have; 0: not known.
    pub capacity: u64,
    /// Is to be left by everybody, and entered by nobody.
    pub drained: bool,
}

/// The same as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    addresses: Vec<String>,
    region: String,
    /// The region's, if there are none.
    coordinates: Option<Place>,
    #[serde(default = "weight_default")]
    weight: u32,
    #[serde(default)]
    capacity: u64,
    #[serde(default)]
    drained: bool,
}

fn weight_default() -> u32 {
    WEIGHT_DEFAULT
}

/// Regions from a TOML array of tables, with the catalogue.
pub fn read_regions(text: &str) -> Result<Vec<Region>, String> {
    regions::with(read_array(text)?)
}

/// Access points from a TOML array of tables. An error says what is wrong with which.
pub fn read(text: &str, regions: &[Region]) -> Result<Vec<AccessPoint>, String> {
    let written: Vec<Written> = read_array(text)?;
    if written.len() > ACCESS_POINTS_MAX {
        return Err(format!("there are more than {ACCESS_POINTS_MAX}"));
    }
    let mut points: Vec<AccessPoint> = Vec::with_capacity(written.len());
    for one in written {
        let point = check(one, regions)?;
        if points.iter().any(|other| other.id == point.id) {
            return Err(format!("id \"{}\" stands there twice", point.id));
        }
        points.push(point);
    }
    Ok(points)
}

fn check(written: Written, regions: &[Region]) -> Result<AccessPoint, String> {
    let Written { id, addresses, region, coordinates, weight, capacity, drained } = written;
    if !is_id(&id) {
        return Err(format!("id \"{id}\" must have 1 to 32 letters, digits or hyphens"));
    }
    if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
        return Err(format!("{id}: there must be 1 to {ADDRESSES_MAX} addresses"));
    }
    if let Some(wrong) = addresses.iter().find(|address| !is_address(address)) {
        return Err(format!("{id}: address \"{wrong}\" must be one like im.example.com:443"));
    }
    let Some(found) = regions.iter().find(|known| known.id == region) else {
        return Err(format!("{id}: region \"{region}\" is neither in the catalogue nor in geo.regions"));
    };
    if !(1..=WEIGHT_MAX).contains(&weight) {
        return Err(format!("{id}: weight {weight} must be from 1 to {WEIGHT_MAX}; drained = true empties it"));
    }
    let place = coordinates.unwrap_or(found.coordinates);
    Ok(AccessPoint { id, addresses, region, place, weight, capacity, drained })
}

/// Whether this is an address and port, as clients are told them.
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic()) && !host.contains('/');
    text.len() <= ADDRESS_BYTES_MAX
        && is_host
        && (is_bracketed || !host.contains(':'))
        && port.parse().is_ok_and(|port: u16| port > 0)
}

fn read_array<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, String> {
    #[derive(Deserialize)]
    struct Document<T> {
        items: Vec<T>,
    }
    let document: Document<T> =
        toml::from_str(&format!("items = {text}")).map_err(|error| error.message().to_owned())?;
    Ok(document.items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with_catalogue(text: &str) -> Result<Vec<AccessPoint>, String> {
        read(text, &read_regions("[]").unwrap())
    }

    #[test]
    fn geo_02_access_points_have_what_is_written_and_defaults() {
        let text = r#"[{ id = "sg-1", addresses = ["sg.example.com:443", "[2001:db8::1]:443"], region = "singapore" },
            { id = "x", addresses = ["10.0.0.1:8443"], region = "usa", coordinates = [34.0, -118.2], weight = 50, capacity = 7, drained = true }]"#;
        let points = read_with_catalogue(text).unwrap();
        let [first, second] = &points[..] else { panic!("{points:?}") };
        assert_eq!(
            (first.place, first.weight, first.capacity, first.drained),
            (Place::at(1.35, 103.82), 100, 0, false)
        );
        assert_eq!(
            (second.place, second.weight, second.capacity, second.drained),
            (Place::at(34.0, -118.2), 50, 7, true)
        );
        assert_eq!(read_with_catalogue("[]"), Ok(Vec::new()));
    }

    #[test]
    fn geo_02_what_is_wrong_is_said() {
        let one = |rest: &str| format!(r#"[{{ id = "a", addresses = ["h:1"], region = "japan", {rest} }}]"#);
        for (text, expected) in [
            ("nonsense".to_owned(), ""),
            (r#"[{ id = "a" }]"#.into(), "missing field `addresses`"),
            (r#"[{ id = "a b", addresses = ["h:1"], region = "japan" }]"#.into(), "id \"a b\" must have"),
            (r#"[{ id = "a", addresses = [], region = "japan" }]"#.into(), "a: there must be 1 to 8"),
            (r#"[{ id = "a", addresses = ["h"], region = "japan" }]"#.into(), "a: address \"h\""),
            (r#"[{ id = "a", addresses = ["::1:443"], region = "japan" }]"#.into(), "a: address"),
            (r#"[{ id = "a", addresses = ["h:0"], region = "japan" }]"#.into(), "a: address"),
            (r#"[{ id = "a", addresses = ["h:1"], region = "atlantis" }]"#.into(), "a: region \"atlantis\""),
            (one("weight = 0"), "a: weight 0"),
            (one("weight = 10001"), "a: weight 10001"),
            (one("coordinates = [91.0, 0.0]"), "coordinates are"),
            (one("wieght = 1"), "unknown field `wieght`"),
        ] {
            let error = read_with_catalogue(&text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let twice = r#"{ id = "a", addresses = ["h:1"], region = "japan" }"#;
        assert!(read_with_catalogue(&format!("[{twice}, {twice}]")).unwrap_err().contains("twice"));
    }
}
