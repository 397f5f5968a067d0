//! The regions where access points may stand (GEO-04): the catalogue, and what the operator adds or says otherwise.

use serde::Deserialize;

use super::place::Place;

/// A region. Its coordinates stand for those of its access points that have none of their own.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// As access points name it.
    pub id: String,
    /// For people; the id, if there is none.
    #[serde(default)]
    pub name: String,
    /// ISO 3166-1, two letters.
    pub country: String,
    pub coordinates: Place,
}

/// Id, name, country, and the city whose coordinates stand for it.
type Row = (&'static str, &'static str, &'static str, &'static str, Place);

/// The regions that need no configuration.
pub const CATALOGUE: &[Row] = &[
    ("china-south", "China (South)", "CN", "Guangzhou", Place::at(23.13, 113.26)),
    ("china-north", "China (North)", "CN", "Beijing", Place::at(39.90, 116.41)),
    ("china-east", "China (East)", "CN", "Shanghai", Place::at(31.23, 121.47)),
    ("hong-kong", "China (Hong Kong)", "HK", "Hong Kong", Place::at(22.32, 114.17)),
    ("taiwan", "China (Taiwan)", "TW", "Taipei", Place::at(25.03, 121.57)),
    ("japan", "Japan", "JP", "Tokyo", Place::at(35.68, 139.69)),
    ("korea", "Korea", "KR", "Seoul", Place::at(37.57, 126.98)),
    ("singapore", "Singapore", "SG", "Singapore", Place::at(1.35, 103.82)),
    ("india", "India", "IN", "Mumbai", Place::at(19.08, 72.88)),
    ("thailand", "Thailand", "TH", "Bangkok", Place::at(13.76, 100.50)),
    ("malaysia", "Malaysia", "MY", "Kuala Lumpur", Place::at(3.13, 101.69)),
    ("vietnam", "Vietnam", "VN", "Ho Chi Minh City", Place::at(10.82, 106.63)),
    ("philippines", "Philippines", "PH", "Manila", Place::at(14.60, 120.98)),
    ("uae", "UAE", "AE", "Dubai", Place::at(25.20, 55.27)),
    ("indonesia", "Indonesia", "ID", "Jakarta", Place::at(-6.21, 106.85)),
    ("germany", "Germany", "DE", "Frankfurt", Place::at(50.11, 8.68)),
    ("uk", "UK", "GB", "London", Place::at(51.51, -0.13)),
    ("france", "France", "FR", "Paris", Place::at(48.86, 2.35)),
    ("russia", "Russia", "RU", "Moscow", Place::at(55.76, 37.62)),
    ("italy", "Italy", "IT", "Milan", Place::at(45.46, 9.19)),
    ("norway", "Norway", "NO", "Oslo", Place::at(59.91, 10.75)),
    ("spain", "Spain", "ES", "Madrid", Place::at(40.42, -3.70)),
    ("netherlands", "Netherlands", "NL", "Amsterdam", Place::at(52.37, 4.90)),
    ("usa", "USA", "US", "Ashburn", Place::at(39.04, -77.49)),
    ("canada", "Canada", "CA", "Toronto", Place::at(43.65, -79.38)),
    ("mexico", "Mexico", "MX", "Querétaro", Place::at(20.59, -100.39)),
    ("brazil", "Brazil", "BR", "São Paulo", Place::at(-23.55, -46.63)),
    ("australia", "Australia", "AU", "Sydney", Place::at(-33.87, 151.21)),
    ("south-africa", "South Africa", "ZA", "Johannesburg", Place::at(-26.20, 28.05)),
    ("nigeria", "Nigeria", "NG", "Lagos", Place::at(6.52, 3.38)),
];

/// The catalogue with the operator's regions: new ones beside it, and others in place of those with the same id.
pub fn with(own: Vec<Region>) -> Result<Vec<Region>, String> {
    let mut regions: Vec<Region> = CATALOGUE.iter().map(of_row).collect();
    let mut seen = Vec::new();
    for mut region in own {
        if !is_id(&region.id) {
            return Err(format!("id \"{}\" must have 1 to 32 letters, digits or hyphens", region.id));
        }
        let country = region.country.as_bytes();
        if country.len() != 2 || !country.iter().all(u8::is_ascii_uppercase) {
            return Err(format!("country \"{}\" must be two capital letters", region.country));
        }
        if seen.contains(&region.id) {
            return Err(format!("id \"{}\" stands there twice", region.id));
        }
        seen.push(region.id.clone());
        if region.name.is_empty() {
            region.name.clone_from(&region.id);
        }
        match regions.iter_mut().find(|known| known.id == region.id) {
            Some(known) => *known = region,
            None => regions.push(region),
        }
    }
    Ok(regions)
}

/// Whether this can be the id of a region or an access point.
pub fn is_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn of_row(&(id, name, country, _, coordinates): &Row) -> Region {
    Region { id: id.to_owned(), name: name.to_owned(), country: country.to_owned(), coordinates }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn geo_04_the_catalogue_has_every_region_once_and_in_its_place() {
        // As the row has them.
        let expected = "china-south china-north china-east hong-kong taiwan japan korea singapore india thailand malaysia \
                        vietnam philippines uae indonesia germany uk france russia italy norway spain netherlands usa \
                        canada mexico brazil australia south-africa nigeria";
        let regions = with(Vec::new()).unwrap();
        let ids: BTreeSet<&str> = regions.iter().map(|region| region.id.as_str()).collect();
        assert_eq!(ids, expected.split(' ').collect());
        assert_eq!(regions.len(), ids.len());
        for region in &regions {
            assert!(is_id(&region.id) && !region.name.is_empty());
            let country = super::super::countries::place(&region.country).unwrap();
            let km = country.distance_km(region.coordinates);
            assert!(km < 4_200.0, "{} is {km} km from its country", region.id);
        }
    }

    #[test]
    fn geo_04_operators_add_and_say_otherwise() {
        let region = |id: &str, country: &str| Region {
            id: id.into(),
            name: String::new(),
            country: country.into(),
            coordinates: Place::at(34.05, -118.24),
        };
        let regions = with(vec![region("usa-west", "US"), region("usa", "US")]).unwrap();
        assert_eq!(regions.len(), 31);
        let usa = regions.iter().find(|region| region.id == "usa").unwrap();
        assert_eq!((usa.coordinates, usa.name.as_str()), (Place::at(34.05, -118.24), "usa"));
        for wrong in [region("a b", "US"), region("", "US"), region("west", "usa"), region("west", "us")] {
            assert!(with(vec![wrong.clone()]).is_err(), "{wrong:?}");
        }
        assert!(with(vec![region("west", "US"), region("west", "US")]).is_err());
    }
}
