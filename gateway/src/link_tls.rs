//! TLS of links between nodes: both sides show a certificate, and check the other's against `link.ca`.
//!
//! TLS 1.3 only. Each certificate must be of one of these authorities and for `link.name`, on both sides: an authority
//! that signs other things, too, does not make nodes of them. Those of cores are for `link.core_name`, too, and whoever is
//! dialled, or comes as a core, must have that one: an edge, whose machine may stand anywhere, can't pass for a core. Those of
//! edges are for their own names under `link.name`, too: nor can it pass for another edge. Nothing is resumed, so that a
//! certificate or authority that was replaced means nothing to the next connection. Those that are lost `link.refused` lists
//! ([`refused`]).

mod refused;

use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use protocol::link::LINK_ALPN;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::{Resumption, danger::HandshakeSignatureValid, verify_server_name},
    crypto::CryptoProvider,
    server::{
        NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

pub use self::refused::Listed;
use self::refused::Refused;
use crate::{application, config::LinkFiles};

/// The certificate of this node and what it takes of others, as the files say.
pub struct LinkTls {
    files: LinkFiles,
    core_name: ServerName<'static>,
    sides: ArcSwap<Sides>,
}

struct Sides {
    /// For all nodes.
    server: Arc<ServerConfig>,
    /// For cores alone.
    core_server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    refused: Refused,
}

impl LinkTls {
    /// Reads and checks the files.
    pub fn load(files: &LinkFiles) -> anyhow::Result<Arc<Self>> {
        let core_name = ServerName::try_from(files.core_name.clone()).context("link.core_name")?;
        let sides = ArcSwap::from_pointee(Sides::load(files, &core_name)?);
        Ok(Arc::new(LinkTls { files: files.clone(), core_name, sides }))
    }

    /// Reads them again, for connections from now on. After an error what was there before holds.
    pub fn reload(&self) -> anyhow::Result<()> {
        self.sides.store(Arc::new(Sides::load(&self.files, &self.core_name)?));
        Ok(())
    }

    /// For a connection that another node has made.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.sides.load().server.clone()
    }

    /// The same for one that another core has made.
    pub fn core_server(&self) -> Arc<ServerConfig> {
        self.sides.load().core_server.clone()
    }

    /// For a connection to a core, whose certificate is for this name.
    pub fn client(&self) -> (Arc<ClientConfig>, ServerName<'static>) {
        (self.sides.load().client.clone(), self.core_name.clone())
    }

    /// Whether a certificate, which TLS has taken, is that of the edge called `name`.
    pub fn is_of_edge(&self, certificate: &CertificateDer<'_>, name: &str) -> bool {
        let Ok(own) = ServerName::try_from(self.edge_name(name)) else { return false };
        ParsedCertificate::try_from(certificate).and_then(|parsed| verify_server_name(&parsed, &own)).is_ok()
    }

    /// What that one is for, beside `link.name`.
    pub fn edge_name(&self, name: &str) -> String {
        edge_name(name, &self.files.name)
    }

    /// Whether the other side's certificate, which TLS has taken, may have a link; asked of links that there are, too.
    pub fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Listed> {
        self.sides.load().refused.check(certificate)
    }
}

/// What the certificate of the edge called `name` is for, beside `link.name`.
pub fn edge_name(name: &str, link_name: &str) -> String {
    format!("{name}.{link_name}")
}

/// The certificate of a connection's other side. TLS has asked for one.
pub fn shown(chain: Option<&[CertificateDer<'static>]>) -> CertificateDer<'static> {
    chain.and_then(<[_]>::first).cloned().unwrap_or_else(|| CertificateDer::from(Vec::new()))
}

impl Sides {
    fn load(files: &LinkFiles, core_name: &ServerName<'static>) -> anyhow::Result<Self> {
        let LinkFiles { cert, key, ca, refused, name, .. } = files;
        let name = ServerName::try_from(name.clone()).context("link.name")?;
        application::ensure_private(key).with_context(|| format!("link.key {}", key.display()))?;
        let key_der = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("link.key {}: not readable as PEM", key.display()))?;
        let chain = certificates("link.cert", cert)?;
        let mut authorities = RootCertStore::empty();
        for authority in certificates("link.ca", ca)? {
            authorities.add(authority).with_context(|| format!("link.ca {}", ca.display()))?;
        }
        let authorities = Arc::new(authorities);
        let unfit = || format!("link.cert {} and link.key {} do not fit together", cert.display(), key.display());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = |name: &ServerName<'static>| -> anyhow::Result<Arc<ServerConfig>> {
            let of_authorities =
                WebPkiClientVerifier::builder_with_provider(authorities.clone(), provider.clone()).build()?;
            let nodes_only = Arc::new(NodesOnly { of_authorities, name: name.clone() });
            let mut server = ServerConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[&TLS13])?
                .with_client_cert_verifier(nodes_only)
                .with_single_cert(chain.clone(), key_der.clone_key())
                .with_context(unfit)?;
            server.alpn_protocols = vec![LINK_ALPN.to_vec()];
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.send_tls13_tickets = 0;
            Ok(Arc::new(server))
        };
        let (server, core_server) = (server(&name)?, server(core_name)?);
        let client = Arc::new(client(provider, authorities, chain, key_der, unfit)?);
        Ok(Sides { server, core_server, client, refused: Refused::read(refused.as_deref())? })
    }
}

fn client(
    provider: Arc<CryptoProvider>,
    authorities: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    unfit: impl FnOnce() -> String,
) -> anyhow::Result<ClientConfig> {
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(authorities)
        .with_client_auth_cert(chain, key)
        .with_context(unfit)?;
    client.alpn_protocols = vec![LINK_ALPN.to_vec()];
    client.resumption = Resumption::disabled();
    Ok(client)
}

fn certificates(key: &str, path: &std::path::Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("{key} {}: not readable as PEM", path.display()))?;
    anyhow::ensure!(!certificates.is_empty(), "{key} {}: the file holds no certificate", path.display());
    Ok(certificates)
}

/// Takes certificates of the authorities that are for the name of nodes. (What a client checks of a server it does by
/// itself; of a client, a server usually does not look at the name.)
#[derive(Debug)]
struct NodesOnly {
    of_authorities: Arc<dyn ClientCertVerifier>,
    name: ServerName<'static>,
}

impl ClientCertVerifier for NodesOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.of_authorities.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.of_authorities.verify_client_cert(end_entity, intermediates, now)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, &self.name)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.of_authorities.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.of_authorities.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.of_authorities.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Read as _, Write as _},
        os::unix::fs::PermissionsExt as _,
        path::Path,
    };

    use rustls::{CertificateError, ClientConnection, ServerConnection};

    use super::*;
    use crate::node_certs::{self, Names};

    fn make(folder: &Path, cores: &[&str], edges: &[&str]) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        node_certs::make(folder, &owned(cores), &owned(edges), NAMES).unwrap();
    }

    const NAMES: Names<'static> = Names { all: "im-node", cores: "im-core" };

    fn files(folder: &Path, node: &str) -> LinkFiles {
        node_certs::files(folder, node, NAMES)
    }

    fn tls(folder: &Path, node: &str) -> Arc<LinkTls> {
        LinkTls::load(&files(folder, node)).unwrap()
    }

    /// A connection within memory: what one side says to the other, or why it does not.
    fn shake_hands(client: &LinkTls, server: &LinkTls) -> Result<(), Error> {
        shake_hands_with(client, server.server())
    }

    fn shake_hands_with(client: &LinkTls, server: Arc<ServerConfig>) -> Result<(), Error> {
        let (config, name) = client.client();
        let mut client = ClientConnection::new(config, name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        client.writer().write_all(b"hello").unwrap();
        for _ in 0..4 {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        let mut said = [0; 5];
        server.reader().read_exact(&mut said).unwrap();
        assert_eq!((&said, server.alpn_protocol()), (b"hello", Some(LINK_ALPN)));
        assert_eq!(server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        Ok(())
    }

    #[test]
    fn geo_01_nodes_of_one_authority_know_each_other_and_nobody_else() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(ours.path(), &["a", "b"], &[]);
        make(theirs.path(), &["a", "b"], &[]);
        let (a, b, stranger) = (tls(ours.path(), "a"), tls(ours.path(), "b"), tls(theirs.path(), "a"));
        shake_hands(&a, &b).unwrap();
        shake_hands(&b, &a).unwrap();
        assert!(matches!(shake_hands(&a, &stranger), Err(Error::InvalidCertificate(_))));
        // The right authority, but what it signed is for something else: refused by either side.
        let picky = LinkFiles { name: "another".into(), core_name: "another".into(), ..files(ours.path(), "b") };
        let picky = LinkTls::load(&picky).unwrap();
        for refused in [shake_hands(&a, &picky), shake_hands(&picky, &a)] {
            let not_for_name = |error| matches!(error, CertificateError::NotValidForNameContext { .. });
            assert!(matches!(refused, Err(Error::InvalidCertificate(error)) if not_for_name(error.clone())));
        }
    }

    #[test]
    fn geo_01_an_edge_passes_for_no_other_edge() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), &["core"], &["tokyo-1", "tokyo_2"]);
        let core = tls(folder.path(), "core");
        let is_of = |node: &str, name: &str| {
            let certificate = CertificateDer::from_pem_file(files(folder.path(), node).cert).unwrap();
            core.is_of_edge(&certificate, name)
        };
        assert!(is_of("tokyo-1", "tokyo-1") && is_of("tokyo-1", "TOKYO-1") && is_of("tokyo_2", "tokyo_2"));
        for (node, name) in [("tokyo-1", "tokyo_2"), ("tokyo-1", ""), ("tokyo-1", "*"), ("tokyo-1", "x.tokyo-1")] {
            assert!(!is_of(node, name), "{node} is not {name}");
        }
        assert!(!is_of("core", "core") && !is_of("core", "tokyo-1"), "a core is no edge");
    }

    #[test]
    fn geo_01_an_edge_passes_for_no_core() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), &["core"], &["edge"]);
        let (core, edge) = (tls(folder.path(), "core"), tls(folder.path(), "edge"));
        shake_hands(&edge, &core).unwrap();
        let not_for_name = |refused| {
            matches!(refused, Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })))
        };
        assert!(not_for_name(shake_hands(&core, &edge)), "nobody is linked with an edge as with a core");
        assert!(not_for_name(shake_hands_with(&edge, core.core_server())), "nor does it come as one");
        shake_hands_with(&tls(folder.path(), "core"), core.core_server()).unwrap();
    }

    #[test]
    fn geo_01_who_shows_no_certificate_is_no_node() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), &["a"], &[]);
        let a = tls(folder.path(), "a");
        let mut authorities = RootCertStore::empty();
        authorities.add(certificates("link.ca", &folder.path().join("ca.pem")).unwrap().remove(0)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
        let mut client = builder.with_root_certificates(authorities).with_no_client_auth();
        client.alpn_protocols = vec![LINK_ALPN.to_vec()];
        let sides = Sides {
            server: a.server(),
            core_server: a.core_server(),
            client: Arc::new(client),
            refused: Refused::default(),
        };
        let nobody =
            LinkTls { files: a.files.clone(), core_name: a.core_name.clone(), sides: ArcSwap::from_pointee(sides) };
        assert_eq!(shake_hands(&nobody, &a), Err(Error::NoCertificatesPresented));
    }

    #[test]
    fn geo_01_files_that_are_wrong_are_named() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), &["a", "b"], &[]);
        let good = files(folder.path(), "a");
        let why = |files: &LinkFiles| format!("{:#}", LinkTls::load(files).err().unwrap());
        let missing = folder.path().join("c.pem");
        assert!(why(&LinkFiles { cert: missing.clone(), ..good.clone() }).starts_with("link.cert "));
        assert!(why(&LinkFiles { ca: missing.clone(), ..good.clone() }).starts_with("link.ca "));
        assert!(why(&LinkFiles { key: missing, ..good.clone() }).starts_with("link.key "));
        let other_key = files(folder.path(), "b").key;
        assert!(why(&LinkFiles { key: other_key, ..good.clone() }).contains("do not fit together"));
        assert!(why(&LinkFiles { ca: good.key.clone(), ..good.clone() }).contains("holds no certificate"));
        let tls = LinkTls::load(&good).unwrap();
        fs::set_permissions(&good.key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(why(&good).contains("chmod 600"));
        let before = tls.server();
        assert!(tls.reload().is_err());
        assert!(Arc::ptr_eq(&before, &tls.server()), "what was there holds");
        fs::set_permissions(&good.key, fs::Permissions::from_mode(0o600)).unwrap();
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(&before, &tls.server()));
    }
}
