//! Where an address is, by a location database in the MaxMind DB format.
//!
//! The file is read into memory whole, and read again when it was replaced; while a new one can't be read, the old one
//! stays in use. Databases by city and by country will do, in the layout of GeoIP2 and in the flat one that many free
//! ones have. Addresses that are nobody's alone (private, loopback …) are nowhere.

use std::{
    fs,
    io::Read as _,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use maxminddb::{LookupResult, PathElement, Reader};

use super::{
    countries::{self, Country},
    place::Place,
};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Where databases keep what is asked; the first one that is there counts.
const COUNTRY: &[&[&str]] =
    &[&["country", "iso_code"], &["country_code"], &["country"], &["registered_country", "iso_code"]];
const LATITUDE: &[&[&str]] = &[&["location", "latitude"], &["latitude"]];
const LONGITUDE: &[&[&str]] = &[&["location", "longitude"], &["longitude"]];

/// What is known of where an address is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Location {
    pub country: Option<Country>,
    /// The country's, if nothing better is known.
    pub place: Option<Place>,
}

/// Says where addresses are.
pub trait Whereabouts {
    /// Where an address is.
    fn locate(&self, ip: IpAddr) -> Location;
}

/// The database, if there is one.
pub struct Database {
    path: Option<PathBuf>,
    reader: ArcSwapOption<Reader<Vec<u8>>>,
    /// Which file was read last, or could not be.
    seen: Mutex<Option<Stamp>>,
}

/// What changes when a file is replaced or written.
type Stamp = (u64, u64, u64, i64, i64);

impl Database {
    /// Opens the database at `path`. `None`: there is none, and everything is nowhere.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let database =
            Database { path: path.map(Path::to_owned), reader: ArcSwapOption::empty(), seen: Mutex::default() };
        database.refresh()?;
        Ok(database)
    }

    /// Reads the file again if it is another one than last time. Returns whether it was read; an error is reported once
    /// for each file, and leaves what there was in use.
    pub fn refresh(&self) -> anyhow::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        let stamp = stamp(path);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = match stamp {
            Ok(stamp) if *seen == Some(stamp) => return Ok(false),
            // Between two names of a file there may be none: only a start needs it at once.
            Err(_) if seen.is_some() => return Ok(false),
            stamp => stamp.with_context(|| format!("geo.database {}", path.display()))?,
        };
        *seen = Some(stamp);
        let reader = read(path).with_context(|| format!("geo.database {}", path.display()))?;
        self.reader.store(Some(Arc::new(reader)));
        Ok(true)
    }

    /// What the file says it is; `None`: there is none.
    pub fn kind(&self) -> Option<String> {
        self.reader.load().as_deref().map(|reader| reader.metadata().database_type.clone())
    }
}

impl Whereabouts for Database {
    fn locate(&self, ip: IpAddr) -> Location {
        let reader = self.reader.load();
        let Some(reader) = reader.as_deref().filter(|_| is_public(ip)) else { return Location::default() };
        let Ok(found) = reader.lookup(ip.to_canonical()) else { return Location::default() };
        let country: Option<&str> = first(&found, COUNTRY);
        let degrees = (first::<f64>(&found, LATITUDE), first::<f64>(&found, LONGITUDE));
        let place = match degrees {
            (Some(latitude), Some(longitude)) => Place::try_from((latitude, longitude)).ok(),
            _ => None,
        };
        Location {
            country: country.and_then(countries::code),
            place: place.or_else(|| country.and_then(countries::place)),
        }
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let file = fs::metadata(path)?;
    Ok((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

fn read(path: &Path) -> anyhow::Result<Reader<Vec<u8>>> {
    // Of what is no file, a length says nothing, and an end may never come.
    anyhow::ensure!(fs::metadata(path)?.is_file(), "it is no regular file");
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    anyhow::ensure!(bytes.len() as u64 <= FILE_BYTES_MAX, "it has more bytes than a location database");
    let reader = Reader::from_source(bytes).context("it is no database in the MaxMind DB format")?;
    // Not as late as when a client asks: a copy that was cut short has a tree whose leaves lead nowhere.
    reader.verify().context("it is damaged, or not whole yet")?;
    Ok(reader)
}

/// The first of the fields that is there and of this type.
fn first<'a, T: serde::Deserialize<'a>>(found: &LookupResult<'a, Vec<u8>>, fields: &[&[&'static str]]) -> Option<T> {
    fields.iter().find_map(|field| {
        let path: Vec<_> = field.iter().map(|name| PathElement::Key(name)).collect();
        found.decode_path(&path).ok().flatten()
    })
}

/// Whether an address means the same machine everywhere, so that it can be somewhere.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared || first == 0 || first >= 224)
        }
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000, // what is given out for the world to reach
    }
}

#[cfg(test)]
mod tests {
    use super::{super::mmdb, *};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn written(folder: &Path, bytes: &[u8]) -> PathBuf {
        let (path, fresh) = (folder.join("where.mmdb"), folder.join("fresh"));
        fs::write(&fresh, bytes).unwrap();
        fs::rename(fresh, &path).unwrap();
        path
    }

    #[test]
    fn geo_03_cities_and_countries_are_found_in_every_layout() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = mmdb::database(&[
            ("198.51.100.0/24", mmdb::city("DE", 50.1, 8.7)),
            ("203.0.113.0/25", mmdb::flat_city("JP", 35.7, 139.7)),
            ("203.0.113.128/25", mmdb::flat_country("BR")),
            ("2001:db8::/32", mmdb::country("AU")),
        ]);
        let database = Database::open(Some(&written(folder.path(), &bytes))).unwrap();
        for (address, country, latitude) in [
            ("198.51.100.77", "DE", 50.1),
            ("::ffff:198.51.100.77", "DE", 50.1),
            ("203.0.113.1", "JP", 35.7),
            ("203.0.113.200", "BR", -23.5),
            ("2001:db8::1", "AU", -33.9),
        ] {
            let found = database.locate(ip(address));
            assert_eq!(found.country, countries::code(country), "{address}");
            assert!(found.place.unwrap().to_string().starts_with(&format!("{latitude:.2}")), "{address}: {found:?}");
        }
        for nowhere in ["192.0.2.1", "8.8.8.8", "2400::1"] {
            assert_eq!(database.locate(ip(nowhere)), Location::default(), "{nowhere}");
        }
        assert_eq!(Database::open(None).unwrap().locate(ip("198.51.100.77")), Location::default());
    }

    #[test]
    fn geo_03_addresses_that_are_nobodys_alone_are_nowhere() {
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_public(ip(address)), "{address}");
        }
        for address in ["1.1.1.1", "100.128.0.1", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8"] {
            assert!(is_public(ip(address)), "{address}");
        }
        // Even if a database says something of them.
        let folder = tempfile::tempdir().unwrap();
        let bytes = mmdb::database(&[("0.0.0.0/0", mmdb::city("DE", 50.1, 8.7))]);
        let database = Database::open(Some(&written(folder.path(), &bytes))).unwrap();
        assert_eq!(database.locate(ip("10.0.0.1")), Location::default());
        assert!(database.locate(ip("9.0.0.1")).place.is_some());
    }

    #[test]
    fn geo_03_a_replaced_file_is_read_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let of = |country| mmdb::database(&[("198.51.100.0/24", mmdb::country(country))]);
        let path = written(folder.path(), &of("DE"));
        let database = Database::open(Some(&path)).unwrap();
        let country = || database.locate(ip("198.51.100.1")).country;
        assert!(!database.refresh().unwrap(), "nothing has changed");
        written(folder.path(), &of("JP"));
        assert!(database.refresh().unwrap());
        assert_eq!(country(), Some(*b"JP"));
        let whole = of("FR");
        for broken in [&b"no database"[..], &whole[..whole.len() / 2], &[]] {
            written(folder.path(), broken);
            assert!(database.refresh().is_err());
            assert!(!database.refresh().unwrap(), "said once");
            assert_eq!(country(), Some(*b"JP"));
        }
        fs::remove_file(&path).unwrap();
        assert!(!database.refresh().unwrap());
        assert_eq!(country(), Some(*b"JP"));
        written(folder.path(), &whole);
        assert!(database.refresh().unwrap());
        assert_eq!(country(), Some(*b"FR"));
        assert!(Database::open(Some(&folder.path().join("missing"))).is_err(), "a start needs what it names");
        for endless in [Path::new("/dev/zero"), folder.path()] {
            let error = Database::open(Some(endless)).err().map(|error| format!("{error:#}"));
            assert!(error.is_some_and(|error| error.ends_with("it is no regular file")), "{}", endless.display());
        }
    }
}
