//! `gateway node-certs`: an authority and certificates of nodes, to try links out with.
//!
//! A deployment that means it has an authority of its own elsewhere, whose key no node has.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Arg, ArgMatches, Command};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::DnsName;

use crate::{
    config::{LinkFiles, is_name, keys},
    development::write_secret,
    link_tls::edge_name,
};

/// What certificates are for.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// Those of all nodes.
    pub all: &'a str,
    /// Those of cores, too.
    pub cores: &'a str,
}

/// The command.
pub fn command() -> Command {
    let default = |name: &str| keys().find(|key| key.name == name).map_or("", |key| key.default);
    let nodes = |arg: Arg| arg.num_args(0..).value_name("NODE");
    Command::new("node-certs")
        .about("Make an authority and certificates of nodes, to try links between nodes out with")
        .arg(Arg::new("folder").required(true).value_name("DIR").help("Where to write them; must not have any yet"))
        .arg(
            nodes(Arg::new("cores"))
                .help("Names of cores: each gets NODE.pem and NODE.key; one called node if nobody is named"),
        )
        .arg(
            nodes(Arg::new("edges").long("edges"))
                .help("Names of edges, likewise: theirs make no core, and no other edge"),
        )
        .arg(
            Arg::new("name")
                .long("link-name")
                .default_value(default("link.name"))
                .help("What the certificates are for: link.name of all nodes"),
        )
        .arg(
            Arg::new("core-name")
                .long("link-core-name")
                .default_value(default("link.core_name"))
                .help("What those of cores are for, too: link.core_name of all nodes"),
        )
}

/// Does what the command says.
pub fn run(arguments: &ArgMatches) -> anyhow::Result<()> {
    let folder = arguments.get_one::<String>("folder").map(PathBuf::from).unwrap_or_default();
    let named = |id| arguments.get_many(id).unwrap_or_default().cloned().collect::<Vec<String>>();
    let (mut cores, edges) = (named("cores"), named("edges"));
    if cores.is_empty() && edges.is_empty() {
        cores.push("node".to_owned());
    }
    let text = |id| arguments.get_one::<String>(id).map_or("", String::as_str);
    let names = Names { all: text("name"), cores: text("core-name") };
    make(&folder, &cores, &edges, names)?;
    for node in cores.iter().chain(&edges) {
        let LinkFiles { cert, key, ca, .. } = files(&folder, node, names);
        let (cert, key, ca) = (cert.display(), key.display(), ca.display());
        println!("{node}: --link-cert {cert} --link-key {key} --link-ca {ca}");
    }
    println!("With {} anybody can make more nodes: keep it apart, or delete it.", folder.join("ca.key").display());
    Ok(())
}

/// Where the files of a node are.
pub fn files(folder: &Path, node: &str, names: Names<'_>) -> LinkFiles {
    LinkFiles {
        cert: folder.join(format!("{node}.pem")),
        key: folder.join(format!("{node}.key")),
        ca: folder.join("ca.pem"),
        refused: None,
        name: names.all.to_owned(),
        core_name: names.cores.to_owned(),
    }
}

/// Makes an authority, and a certificate of it for each node.
pub fn make(folder: &Path, cores: &[String], edges: &[String], names: Names<'_>) -> anyhow::Result<()> {
    for node in cores.iter().chain(edges) {
        anyhow::ensure!(is_name(node) && node != "ca", "{node:?} can't be a node's name here");
    }
    for edge in edges {
        let name = edge_name(edge, names.all);
        anyhow::ensure!(
            DnsName::try_from(name.as_str()).is_ok(),
            "{name:?} can't be in a certificate: name the edge otherwise"
        );
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("can't make the folder {}", folder.display()))?;
    let all = cores.iter().chain(edges).flat_map(|node| [format!("{node}.pem"), format!("{node}.key")]);
    for file in all.chain(["ca.pem".into(), "ca.key".into()]) {
        let path = folder.join(file);
        anyhow::ensure!(!path.exists(), "{} exists; it is not overwritten", path.display());
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = params(Vec::new(), "authority of nodes")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let cert = params.self_signed(&key)?;
    write_secret(&folder.join("ca.key"), key.serialize_pem().as_bytes())?;
    write_secret(&folder.join("ca.pem"), cert.pem().as_bytes())?;
    let authority = Issuer::new(params, key);
    for core in cores {
        make_node(&files(folder, core, names), core, names.cores.to_owned(), &authority)?;
    }
    for edge in edges {
        make_node(&files(folder, edge, names), edge, edge_name(edge, names.all), &authority)?;
    }
    Ok(())
}

/// The certificate of a node, for `link.name` and for what it is.
fn make_node(files: &LinkFiles, node: &str, what: String, authority: &Issuer<'_, KeyPair>) -> anyhow::Result<()> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = params(vec![files.name.clone(), what], node)?;
    params.use_authority_key_identifier_extension = true;
    // The one who connects is a client, the other one a server; a core is both.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let cert = params.signed_by(&key, authority)?;
    write_secret(&files.key, key.serialize_pem().as_bytes())?;
    write_secret(&files.cert, cert.pem().as_bytes())
}

fn params(names: Vec<String>, common_name: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(2044, 1, 1);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NAMES: Names<'static> = Names { all: "im-node", cores: "im-core" };

    #[test]
    fn geo_01_certificates_are_ones_own_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("certs");
        make(&path, &["a".to_owned()], &[], NAMES).unwrap();
        let modes: Vec<u32> =
            fs::read_dir(&path).unwrap().map(|file| file.unwrap().metadata().unwrap().permissions().mode()).collect();
        assert_eq!(modes, [0o100_600; 4]);
        let why = |nodes: &[&str]| {
            let nodes: Vec<String> = nodes.iter().map(|&node| node.to_owned()).collect();
            make(&path, &nodes, &[], NAMES).unwrap_err().to_string()
        };
        assert!(why(&["b"]).ends_with("ca.pem exists; it is not overwritten"));
        assert!(why(&["a"]).ends_with("a.pem exists; it is not overwritten"));
        assert!(why(&["../b"]).contains("can't be a node's name"));
        assert!(why(&["ca"]).contains("can't be a node's name"));
        let unfit = make(&path, &[], &["a..b".to_owned()], NAMES).unwrap_err().to_string();
        assert!(unfit.contains("\"a..b.im-node\" can't be in a certificate"), "{unfit}");
        assert!(!path.join("b.pem").exists());
    }
}
