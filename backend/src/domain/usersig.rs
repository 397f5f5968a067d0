//! UserSig, the login credential (ACC-06): made by an application's own server with the application's
//! secret, in the format of the public `tls-sig-api-v2` libraries.
//!
//! The format: a JSON object with `TLS.ver`, `TLS.identifier`, `TLS.sdkappid`, `TLS.time` (seconds),
//! `TLS.expire` (seconds of validity), optionally `TLS.userbuf`, and `TLS.sig`, the HMAC-SHA256 over
//! one line for each of these; compressed with zlib; base64 with `+/=` written as `*-_`.

use std::io::Read;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::Sha256;

use super::AppId;

/// Longest credential looked at, in bytes; real ones have about 250.
pub const USERSIG_BYTES_MAX: usize = 4 * 1024;

/// Most bytes a credential may inflate to.
const DOCUMENT_BYTES_MAX: u64 = 8 * 1024;

/// Why a credential was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No credential.
    #[error("empty")]
    Empty,
    /// Not the format.
    #[error("malformed")]
    Malformed,
    /// Made for another application.
    #[error("made for another application")]
    OtherApplication,
    /// Made for another user.
    #[error("made for another user")]
    OtherUser,
    /// Not signed with this secret.
    #[error("wrong signature")]
    WrongSignature,
    /// No longer valid.
    #[error("expired")]
    Expired,
    /// Issued before all of the user's were made invalid.
    #[error("made invalid")]
    Invalidated,
}

#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(rename = "TLS.ver", default)]
    version: String,
    #[serde(rename = "TLS.identifier")]
    identifier: String,
    #[serde(rename = "TLS.sdkappid", deserialize_with = "integer")]
    sdkappid: i64,
    #[serde(rename = "TLS.time", deserialize_with = "integer")]
    time_s: i64,
    #[serde(rename = "TLS.expire", deserialize_with = "integer")]
    expire_s: i64,
    #[serde(rename = "TLS.userbuf", default, skip_serializing_if = "Option::is_none")]
    userbuf: Option<String>,
    #[serde(rename = "TLS.sig")]
    signature: String,
}

impl Document {
    fn mac(&self, secret: &str) -> Hmac<Sha256> {
        let mut lines = format!(
            "TLS.identifier:{}\nTLS.sdkappid:{}\nTLS.time:{}\nTLS.expire:{}\n",
            self.identifier, self.sdkappid, self.time_s, self.expire_s
        );
        if let Some(userbuf) = &self.userbuf {
            lines.push_str(&format!("TLS.userbuf:{userbuf}\n"));
        }
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes())
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(lines.as_bytes());
        mac
    }
}

/// Makes a credential for `user`, valid for `expire_s` seconds from `issued_s` (seconds since the Unix epoch).
pub fn sign(sdkappid: AppId, secret: &str, user: &str, issued_s: u64, expire_s: u64) -> String {
    let mut document = Document {
        version: "2.0".to_owned(),
        identifier: user.to_owned(),
        sdkappid: i64::from(sdkappid),
        time_s: issued_s as i64,
        expire_s: expire_s as i64,
        userbuf: None,
        signature: String::new(),
    };
    document.signature = BASE64.encode(document.mac(secret).finalize().into_bytes());
    encode(&document)
}

/// Checks a credential for `user` of the application `sdkappid` at `now_s` (seconds since the Unix
/// epoch). One of `secrets` must have signed it. Signatures are compared in constant time, and with all of
/// them. Returns when it was issued, in seconds since the Unix epoch; a time before that counts as the epoch
/// itself.
pub fn verify<'a>(
    sdkappid: AppId,
    secrets: impl IntoIterator<Item = &'a str>,
    user: &str,
    usersig: &str,
    now_s: u64,
) -> Result<u64, Invalid> {
    let document = decode(usersig)?;
    if document.sdkappid != i64::from(sdkappid) {
        return Err(Invalid::OtherApplication);
    }
    if document.identifier != user {
        return Err(Invalid::OtherUser);
    }
    let signature = BASE64.decode(&document.signature).map_err(|_| Invalid::Malformed)?;
    let is_signed = |secret| document.mac(secret).verify_slice(&signature).is_ok();
    if !secrets.into_iter().fold(false, |any, secret| any | is_signed(secret)) {
        return Err(Invalid::WrongSignature);
    }
    let expires_s = document.time_s.saturating_add(document.expire_s);
    if i64::try_from(now_s).unwrap_or(i64::MAX) >= expires_s {
        return Err(Invalid::Expired);
    }
    Ok(u64::try_from(document.time_s).unwrap_or(0))
}

fn encode(document: &Document) -> String {
    use std::io::Write;
    let json = serde_json::to_vec(document).unwrap_or_else(|_| unreachable!("strings and numbers are JSON"));
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let compressed = encoder.write_all(&json).and_then(|()| encoder.finish());
    let compressed = compressed.unwrap_or_else(|_| unreachable!("writing to a vector does not fail"));
    BASE64.encode(compressed).replace('+', "*").replace('/', "-").replace('=', "_")
}

fn decode(usersig: &str) -> Result<Document, Invalid> {
    if usersig.is_empty() {
        return Err(Invalid::Empty);
    }
    if usersig.len() > USERSIG_BYTES_MAX {
        return Err(Invalid::Malformed);
    }
    let base64 = usersig.replace('*', "+").replace('-', "/").replace('_', "=");
    let compressed = BASE64.decode(base64).map_err(|_| Invalid::Malformed)?;
    let mut json = Vec::new();
    let mut bounded = ZlibDecoder::new(&compressed[..]).take(DOCUMENT_BYTES_MAX + 1);
    bounded.read_to_end(&mut json).map_err(|_| Invalid::Malformed)?;
    if json.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(Invalid::Malformed);
    }
    serde_json::from_slice(&json).map_err(|_| Invalid::Malformed)
}

/// Some generators write numbers as strings.
fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Plain(i64),
        Quoted(String),
    }
    match Number::deserialize(deserializer)? {
        Number::Plain(value) => Ok(value),
        Number::Quoted(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: AppId = 1_400_000_001;
    const SECRET: &str = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";
    const NOW_S: u64 = 1_800_000_000;

    #[test]
    fn accepts_its_own_and_refuses_each_way_of_being_wrong() {
        let sig = sign(APP, SECRET, "anna", NOW_S, 3600);
        let at = |app, secret, user, sig: &str, now| verify(app, [secret], user, sig, now);
        assert_eq!(at(APP, SECRET, "anna", &sig, NOW_S), Ok(NOW_S));
        assert_eq!(at(APP, SECRET, "anna", &sig, NOW_S + 3599), Ok(NOW_S));
        assert_eq!(at(APP, SECRET, "anna", &sig, NOW_S + 3600), Err(Invalid::Expired));
        assert_eq!(at(APP, SECRET, "ben", &sig, NOW_S), Err(Invalid::OtherUser));
        assert_eq!(at(APP + 1, SECRET, "anna", &sig, NOW_S), Err(Invalid::OtherApplication));
        assert_eq!(at(APP, "another secret", "anna", &sig, NOW_S), Err(Invalid::WrongSignature));
        assert_eq!(at(APP, SECRET, "anna", "", NOW_S), Err(Invalid::Empty));
        for malformed in ["x", "%%%%", &sig[..sig.len() / 2], &"A".repeat(USERSIG_BYTES_MAX + 1)] {
            assert_eq!(at(APP, SECRET, "anna", malformed, NOW_S), Err(Invalid::Malformed), "{malformed}");
        }
    }

    #[test]
    fn a_changed_field_breaks_the_signature() {
        let mut document = decode(&sign(APP, SECRET, "anna", NOW_S, 60)).unwrap();
        document.expire_s = 1_000_000;
        assert_eq!(verify(APP, [SECRET], "anna", &encode(&document), NOW_S), Err(Invalid::WrongSignature));
        document.expire_s = 60;
        document.signature = String::new();
        assert_eq!(verify(APP, [SECRET], "anna", &encode(&document), NOW_S), Err(Invalid::WrongSignature));
    }

    #[test]
    fn userbuf_is_signed_and_numbers_may_be_quoted() {
        let mut document = decode(&sign(APP, SECRET, "anna", NOW_S, 60)).unwrap();
        document.userbuf = Some("AAEC".to_owned());
        document.signature = BASE64.encode(document.mac(SECRET).finalize().into_bytes());
        assert_eq!(verify(APP, [SECRET], "anna", &encode(&document), NOW_S), Ok(NOW_S));
        let json = r#"{"TLS.identifier":"a","TLS.sdkappid":"7","TLS.time":"1","TLS.expire":2,"TLS.sig":""}"#;
        let quoted: Document = serde_json::from_str(json).unwrap();
        assert_eq!((quoted.sdkappid, quoted.time_s, quoted.expire_s), (7, 1, 2));
    }

    #[test]
    fn an_inflating_credential_is_cut_off() {
        use std::io::Write;
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
        let bomb = BASE64.encode(encoder.finish().unwrap());
        assert!(bomb.len() < USERSIG_BYTES_MAX);
        assert_eq!(verify(APP, [SECRET], "anna", &bomb, NOW_S), Err(Invalid::Malformed));
    }
}
