//! Where things are on the earth, and what light says about the time between two places.

use serde::Deserialize;

/// Mean radius of the earth.
const EARTH_KM: f64 = 6_371.0;

/// Light in fibre does 200 km in a millisecond, and a round trip goes there and back.
const FLOOR_MS_PER_KM: f64 = 2.0 / 200.0;

/// What a round trip usually takes: cables do not run straight, and routers take their time.
const USUAL_MS_PER_KM: f64 = 0.016;

/// What the shortest round trip takes: the last mile on both sides.
const USUAL_MS_MIN: f64 = 5.0;

/// A point on the earth; in a file `[latitude, longitude]`, in degrees, north and east being positive.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "(f64, f64)")]
pub struct Place {
    latitude: f64,
    longitude: f64,
}

impl TryFrom<(f64, f64)> for Place {
    type Error = &'static str;

    fn try_from((latitude, longitude): (f64, f64)) -> Result<Self, Self::Error> {
        let is_place = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        is_place
            .then_some(Place { latitude, longitude })
            .ok_or("coordinates are a latitude of -90 to 90 and a longitude of -180 to 180")
    }
}

impl Place {
    /// A place that is known to be one.
    pub const fn at(latitude: f64, longitude: f64) -> Place {
        Place { latitude, longitude }
    }

    /// Latitude and longitude.
    pub fn degrees(self) -> (f64, f64) {
        (self.latitude, self.longitude)
    }

    /// The way along a great circle.
    pub fn distance_km(self, other: Place) -> f64 {
        let half_sin = |from: f64, to: f64| ((to - from).to_radians() / 2.0).sin();
        let (north, east) = (half_sin(self.latitude, other.latitude), half_sin(self.longitude, other.longitude));
        let narrowing = self.latitude.to_radians().cos() * other.latitude.to_radians().cos();
        let haversine = north * north + narrowing * east * east;
        2.0 * EARTH_KM * haversine.clamp(0.0, 1.0).sqrt().asin()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2}, {:.2}", self.latitude, self.longitude)
    }
}

/// No round trip over this distance takes less.
pub fn floor_ms(distance_km: f64) -> f64 {
    distance_km * FLOOR_MS_PER_KM
}

/// What a round trip over this distance takes, as far as the distance tells.
pub fn usual_ms(distance_km: f64) -> f64 {
    USUAL_MS_MIN + distance_km * USUAL_MS_PER_KM
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONDON: Place = Place::at(51.51, -0.13);
    const SYDNEY: Place = Place::at(-33.87, 151.21);

    #[test]
    fn geo_03_distances_are_those_of_the_earth() {
        for (from, to, km) in [
            (LONDON, SYDNEY, 16_994.0),
            (LONDON, Place::at(48.86, 2.35), 344.0),
            (Place::at(0.0, 179.5), Place::at(0.0, -179.5), 111.2),
            (Place::at(90.0, 0.0), Place::at(-90.0, 77.0), 20_015.0),
            (SYDNEY, SYDNEY, 0.0),
        ] {
            assert!((from.distance_km(to) - km).abs() < km * 0.002 + 0.1, "{} for {km}", from.distance_km(to));
        }
        assert!(Place::try_from((91.0, 0.0)).is_err() && Place::try_from((0.0, -180.5)).is_err());
        assert!(Place::try_from((f64::NAN, 0.0)).is_err());
    }

    fn place() -> impl Strategy<Value = Place> {
        (-90.0..=90.0, -180.0..=180.0).prop_map(|(latitude, longitude)| Place::at(latitude, longitude))
    }

    proptest! {
        #[test]
        fn geo_03_distance_is_a_metric(a in place(), b in place(), c in place()) {
            prop_assert!((a.distance_km(b) - b.distance_km(a)).abs() < 1e-6);
            prop_assert!(a.distance_km(b) <= a.distance_km(c) + c.distance_km(b) + 1e-6);
            prop_assert!((0.0..=20_016.0).contains(&a.distance_km(b)));
            prop_assert!(floor_ms(a.distance_km(b)) < usual_ms(a.distance_km(b)));
        }
    }
}
