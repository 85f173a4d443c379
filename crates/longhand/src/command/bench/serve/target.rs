//! The server that is asked: its address, checked, and connections to it.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The body of a request.
pub(super) type Body = http_body_util::Full<hyper::body::Bytes>;

/// A server. A clone is the same one.
#[derive(Clone)]
pub(super) struct Target {
    address: SocketAddr,
    /// The host and port as the URL spells them.
    authority: String,
    /// The path that all endpoints are below, without a slash at its end.
    path: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// `Bearer KEY`, if there is one.
    authorization: Option<header::HeaderValue>,
    pub(super) timeout: Duration,
}

impl Target {
    /// Checks a URL and finds its address. Another machine's is refused, unless `remote`.
    pub(super) fn parse(
        url: &str,
        key: Option<String>,
        ca: Option<&Path>,
        remote: bool,
        timeout: Duration,
    ) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is not a URL"))?;
        let host = uri.host().with_context(|| format!("{url} names no server"))?;
        let host = host.trim_matches(['[', ']']);
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some((connector(ca)?, ServerName::try_from(host.to_owned())?)),
            _ => bail!("{url} is no address of a web server: begin it with http:// or https://"),
        };
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let mut found =
            (host, port).to_socket_addrs().with_context(|| format!("no server {host}"))?;
        let address = found.next().with_context(|| format!("the server {host} has no address"))?;
        if !remote && !address.ip().is_loopback() {
            bail!(
                "{host} is another machine: a load test needs the leave of whoever runs it; pass \
                 --allow-remote if you have that"
            );
        }
        let authorization = match key {
            None => None,
            Some(key) => {
                let mut value = header::HeaderValue::try_from(format!("Bearer {key}"))
                    .context("the API key has characters that no header can hold")?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { address, authority, path, tls, authorization, timeout })
    }

    /// Opens one more connection to it.
    pub(super) async fn connect(&self) -> Result<SendRequest<Body>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => start(TokioIo::new(stream)).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await?;
                start(TokioIo::new(stream)).await
            }
        }
    }

    /// A request for one of its endpoints.
    pub(super) fn request(
        &self,
        method: &str,
        endpoint: &str,
        body: String,
    ) -> Result<hyper::Request<Body>, hyper::http::Error> {
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(format!("{}{endpoint}", self.path))
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.body(Body::from(body))
    }
}

/// HTTP/1 over a stream. Its work goes on in the background until both ends are done.
async fn start<S>(stream: TokioIo<S>) -> Result<SendRequest<Body>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(stream).await?;
    // A fault of the connection is that of the request that it belongs to.
    tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

/// Trusts one certificate alone: a load test has no need of the world's.
fn connector(ca: Option<&Path>) -> Result<TlsConnector> {
    let Some(path) = ca else {
        bail!("an https URL needs --ca FILE: the certificate that the server must have");
    };
    let named = || format!("{} is not a certificate in PEM form", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&fs_err::read(path)?) {
        roots.add(certificate.with_context(named)?).with_context(named)?;
    }
    if roots.is_empty() {
        bail!(named());
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
