//! A small HTTP client that keeps its connections: for the load test of the service, and for its
//! tests.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An error of the connection or of HTTP.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Sends requests to one server.
#[derive(Debug)]
pub struct Client {
    server: SocketAddr,
    idle: Mutex<Vec<Connection>>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Moves the bytes while it is polled. Here and not in a task of its own, so that dropping a
    /// request drops the connection, which is how a client hangs up.
    driver: http1::Connection<TokioIo<TcpStream>, Full<Bytes>>,
}

impl Client {
    /// No connection is made before the first request.
    pub fn new(server: SocketAddr) -> Self {
        Self { server, idle: Mutex::default() }
    }

    /// A GET. Dropping the future hangs up.
    ///
    /// # Errors
    ///
    /// If the server is not there or hangs up.
    pub async fn get(&self, path: &str) -> Result<Response<Bytes>, Error> {
        self.send(Request::get(path).body(Full::default())?).await
    }

    /// A POST. Dropping the future hangs up.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn post(&self, path: &str, body: Bytes) -> Result<Response<Bytes>, Error> {
        self.send(Request::post(path).body(body.into())?).await
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Error> {
        request.headers_mut().insert(HOST, "localhost".parse()?);
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::open(self.server).await?,
        };
        let (response, is_open) = connection.exchange(request).await?;
        if is_open {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        Ok(response)
    }
}

impl Connection {
    async fn open(server: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver })
    }

    /// The answer, and whether another request may follow.
    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Bytes>, bool), Error> {
        let mut answer = pin!(async {
            self.sender.ready().await?;
            whole(self.sender.send_request(request).await?).await
        });
        tokio::select! {
            biased;
            answer = &mut answer => Ok((answer?, true)),
            // The server has closed the connection, perhaps right after its answer.
            _ = &mut self.driver => Ok((answer.await?, false)),
        }
    }
}

async fn whole(response: Response<Incoming>) -> Result<Response<Bytes>, hyper::Error> {
    let (head, body) = response.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}
