//! The development start: what a fresh checkout needs and nobody should have to make by hand.
//!
//! `<store.path>/dev/` gets a self-signed certificate (`cert.pem`, `key.pem`) and an application
//! (`app.json`), made once and readable by this user alone. A production start refuses them.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::application::{self, DEVELOPMENT_SDKAPPID};

/// Common name of development certificates: what a production start recognises them by.
pub const CERTIFICATE_NAME: &str = "gateway development certificate";

/// The development certificate and its key, of the store at `store_path`; made if they are missing.
pub fn certificate(store_path: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let folder = folder(store_path)?;
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if !(cert.exists() && key.exists()) {
        make_certificate(&cert, &key)?;
    }
    Ok((cert, key))
}

/// The file of the development application, of the store at `store_path`; made if it is missing.
pub fn application(store_path: &Path) -> anyhow::Result<PathBuf> {
    let file = folder(store_path)?.join("app.json");
    if !file.exists() {
        let application = application::to_json(&application::generate(DEVELOPMENT_SDKAPPID, true)?);
        write_secret(&file, format!("{application:#}\n").as_bytes())?;
    }
    Ok(file)
}

/// Where both are, made if it is missing.
fn folder(store_path: &Path) -> anyhow::Result<PathBuf> {
    let folder = store_path.join("dev");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(|| {
        format!(
            "store.path: can't make the folder {}. Choose a folder this user may write to with --store-path",
            folder.display()
        )
    })?;
    Ok(folder)
}

fn make_certificate(cert_file: &Path, key_file: &Path) -> anyhow::Result<()> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, CERTIFICATE_NAME);
    params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(2044, 1, 1);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let cert = params.self_signed(&key)?;
    // The key first: a certificate without its key would look complete.
    write_secret(key_file, key.serialize_pem().as_bytes())?;
    write_secret(cert_file, cert.pem().as_bytes())
}

/// Whether a certificate was made by a development start.
pub fn is_development_certificate(cert: &Path) -> anyhow::Result<bool> {
    let at = || format!("tls.cert {}", cert.display());
    let mut chain = CertificateDer::pem_file_iter(cert).with_context(at)?;
    let Some(first) = chain.next() else { anyhow::bail!("{}: the file holds no certificate", at()) };
    let first = first.with_context(at)?;
    // The name stands in the encoded certificate as it is.
    Ok(first.windows(CERTIFICATE_NAME.len()).any(|window| window == CERTIFICATE_NAME.as_bytes()))
}

/// Writes a file that only this user can read, whole or not at all.
pub fn write_secret(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    let write = || {
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().with_context(|| format!("can't write {}", path.display()))
}
