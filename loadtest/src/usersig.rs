//! Stand-in for `backend::domain::usersig::sign`, to be dropped once that is on the main branch.

use std::io::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, write::ZlibEncoder};
use hmac::{Hmac, KeyInit, Mac};

/// A UserSig as the public tls-sig-api-v2 libraries make it.
pub(crate) fn sign(sdkappid: u32, secret: &str, user: &str, issued_s: u64, expire_s: u64) -> String {
    let signed =
        format!("TLS.identifier:{user}\nTLS.sdkappid:{sdkappid}\nTLS.time:{issued_s}\nTLS.expire:{expire_s}\n");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    let document = serde_json::json!({
        "TLS.ver": "2.0",
        "TLS.identifier": user,
        "TLS.sdkappid": sdkappid,
        "TLS.time": issued_s,
        "TLS.expire": expire_s,
        "TLS.sig": STANDARD.encode(mac.finalize().into_bytes()),
    });
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(document.to_string().as_bytes()).expect("writing to memory");
    STANDARD.encode(zlib.finish().expect("writing to memory")).replace('+', "*").replace('/', "-").replace('=', "_")
}
