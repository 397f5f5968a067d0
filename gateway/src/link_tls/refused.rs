//! Certificates that are good for no link any more though the authority has signed them: those of machines that are lost.

use std::{fs, path::Path};

use ahash::AHashSet;
use anyhow::Context as _;
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

/// SHA-256 of a certificate.
type Fingerprint = [u8; 32];

/// What the file `link.refused` lists.
#[derive(Default)]
pub struct Refused(AHashSet<Fingerprint>);

/// A certificate stands there.
#[derive(Debug, thiserror::Error)]
#[error("link.refused lists this certificate ({})", hexadecimal(.0))]
pub struct Listed(Fingerprint);

impl Refused {
    /// Reads the file: a fingerprint a line. No file: none.
    pub fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Refused::default()) };
        let text = fs::read_to_string(path).with_context(|| format!("link.refused {}", path.display()))?;
        let lines = text.lines().zip(1..).map(|(line, number)| (line.trim(), number));
        let listed = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')).map(|(line, number)| {
            parse(line).with_context(|| {
                format!(
                    "link.refused {}: line {number} is no SHA-256 fingerprint, which has 64 hexadecimal digits",
                    path.display()
                )
            })
        });
        listed.collect::<anyhow::Result<_>>().map(Refused)
    }

    /// Whether a certificate may have a link.
    pub fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Listed> {
        if self.0.is_empty() {
            return Ok(());
        }
        let fingerprint = Sha256::digest(certificate).into();
        if self.0.contains(&fingerprint) { Err(Listed(fingerprint)) } else { Ok(()) }
    }
}

/// As OpenSSL prints it, or its digits alone.
fn parse(line: &str) -> Option<Fingerprint> {
    let digits: Vec<u8> = line.rsplit('=').next()?.bytes().filter(|byte| *byte != b':').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect::<Option<_>>()?;
    // An odd digit at the end would pass for a byte.
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geo_01_certificates_are_listed_as_openssl_names_them() {
        let (one, other) = (CertificateDer::from(vec![1, 2, 3]), CertificateDer::from(vec![4]));
        let digits = hexadecimal(&Sha256::digest(&one));
        let pairs: Vec<String> = digits.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into()).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("refused");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Refused::read(Some(&path))
        };
        let openssl = format!("sha256 Fingerprint={}", pairs.join(":").to_uppercase());
        for text in [format!("# tokyo-1\n\n {digits} \n"), openssl] {
            let refused = read(&text).unwrap();
            assert!(refused.check(&other).is_ok());
            assert_eq!(
                refused.check(&one).unwrap_err().to_string(),
                format!("link.refused lists this certificate ({digits})")
            );
        }
        for none in ["", "# nobody\n"] {
            assert!(read(none).unwrap().check(&one).is_ok());
        }
        for wrong in [&digits[1..], &digits[2..], "tokyo-1", &format!("{digits}00"), &"+f".repeat(32), &"é".repeat(32)]
        {
            let error = read(&format!("# a comment\n{wrong}")).err().unwrap().to_string();
            assert!(error.contains("line 2 is no SHA-256 fingerprint"), "{error}");
        }
        assert!(Refused::read(Some(&folder.path().join("missing"))).is_err());
        assert!(Refused::read(None).unwrap().check(&one).is_ok());
    }
}
