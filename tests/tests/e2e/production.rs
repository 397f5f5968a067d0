//! The production start: own certificate, own application, and nothing of a development start.
//!
//! Goal: nobody goes live by accident with a certificate that no client can trust, or with a secret that
//! lies in a developer's folder or that others on the machine can read. Mechanics: certificates made with
//! rcgen, application files made with `gateway app-file`. Without it such a start would work, silently.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use protocol::ErrorCode;
use tests::{App, Builder, Gateway, program};

/// Makes an application file the way operators do.
pub(crate) fn make_app_file(path: &Path, sdkappid: u32) {
    let mut command = Command::new(program("gateway"));
    let made =
        command.arg("app-file").arg(path).arg("--sdkappid").arg(sdkappid.to_string()).output().expect("it starts");
    assert!(made.status.success(), "{made:?}");
    let secret = App::read(path).secret;
    assert!(!String::from_utf8_lossy(&made.stdout).contains(&secret), "the secret must not be shown");
}

/// Writes a fresh self-signed certificate for localhost and its key.
pub(crate) fn make_certificate(cert: &Path, key: &Path, name: &str) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let pair = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&pair).expect("a certificate");
    fs::write(cert, certificate.pem()).expect("written");
    fs::write(key, pair.serialize_pem()).expect("written");
    chmod(key, 0o600);
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

/// A start with a certificate and an application of its own.
pub(crate) fn production() -> Builder {
    let builder = Gateway::builder();
    let file = |name: &str| builder.folder().join(name);
    let (cert, key, app) = (file("cert.pem"), file("key.pem"), file("app.json"));
    make_certificate(&cert, &key, "im.example.org");
    make_app_file(&app, 1_400_000_002);
    builder.flag("tls-cert", cert.display()).flag("tls-key", key.display()).flag("app-file", app.display())
}

fn refused(builder: &Builder, expected: &[&str]) {
    let output = builder.fails();
    for part in expected {
        assert!(output.contains(part), "should say {part:?}: {output}");
    }
}

#[test]
fn own_certificate_and_application_serve_and_no_development_files_are_made() {
    let gateway = production().start();
    gateway.login("anna").ping();
    assert!(!gateway.data().join("dev").exists());
}

#[test]
fn acc_06_logins_to_the_development_application_are_refused() {
    let development = Gateway::start();
    let app = development.app().clone();
    development.login("anna");
    let data = development.data().to_path_buf();
    let _folder = development.kill();

    let gateway = production().data(&data).start();
    let refusal = gateway.connect("anna").login_with(app.sdkappid, app.sign("anna")).expect_err("a development login");
    assert_eq!(refusal.code(), Some(ErrorCode::APPLICATION_UNKNOWN));
    gateway.login("anna").ping();
}

#[test]
fn development_credentials_are_refused() {
    let development = Gateway::start();
    let file = |name: &str| development.data().join("dev").join(name).display().to_string();
    let certificate = production().flag("tls-cert", file("cert.pem")).flag("tls-key", file("key.pem"));
    refused(&certificate, &["tls.cert", "development certificate", "clients can trust"]);
    let application = production().flag("app-file", file("app.json"));
    refused(&application, &["app.file", "development application", "gateway app-file"]);
}

#[test]
fn files_that_others_can_read_are_refused() {
    let builder = production();
    for (file, key) in [("key.pem", "tls.key"), ("app.json", "app.file")] {
        let path = builder.folder().join(file);
        for mode in [0o644, 0o640] {
            chmod(&path, mode);
            refused(&builder, &[key, &format!("mode is {mode:04o}"), &format!("chmod 600 {}", path.display())]);
        }
        chmod(&path, 0o600);
    }
    builder.start();
}

#[test]
fn files_that_are_missing_or_wrong_are_named() {
    let builder = production();
    let (cert, key, app) =
        (builder.folder().join("cert.pem"), builder.folder().join("key.pem"), builder.folder().join("app.json"));
    let other = builder.folder().join("other-key.pem");
    make_certificate(&builder.folder().join("other-cert.pem"), &other, "other");
    let cases: [(&Path, &str, &[&str]); 4] = [
        (&cert, "no certificate here", &["tls.cert", "cert.pem", "holds no certificate"]),
        (&key, "no key here", &["private key", "key.pem"]),
        (&key, &fs::read_to_string(&other).expect("made above"), &["cert.pem", "key.pem", "do not fit together"]),
        (&app, "{\"sdkappid\": 1}", &["app.file", "app.json", "secret must be a text of at least 16"]),
    ];
    for (path, content, expected) in cases {
        let before = fs::read(path).expect("made above");
        fs::write(path, content).expect("written");
        refused(&builder, expected);
        fs::write(path, before).expect("written");
    }
    fs::remove_file(&app).expect("made above");
    refused(&builder, &["app.file", "app.json", "No such file"]);
}

#[test]
fn an_application_file_is_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("app.json");
    make_app_file(&path, 7);
    assert_eq!(fs::metadata(&path).expect("made").permissions().mode() & 0o777, 0o600);
    let before = fs::read(&path).expect("made");
    let again = Command::new(program("gateway")).arg("app-file").arg(&path).output().expect("it starts");
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists"), "{again:?}");
    assert_eq!(fs::read(&path).expect("still there"), before);
}
