//! A client of HTTP/1.1 that waits for each answer. A driver of tests needs no more, and so no crate.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The longest wait for bytes of an answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// A connection that rested longer is not used again: the server may be about to close it.
const REST: Duration = Duration::from_secs(2);

/// What is asked of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// The API key; empty for none.
    pub(super) key: &'a str,
    pub(super) body: Body<'a>,
}

/// The body of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body<'a> {
    /// None, as with GET and DELETE.
    Empty,
    /// A text in JSON.
    Json(&'a str),
    /// A snapshot of a session.
    Bytes(&'a [u8]),
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// From the request to the first event of a stream, which has its first token, and else to the end.
    pub(super) first: Duration,
}

impl Answer {
    /// The body as text, with what is no UTF-8 replaced.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client, which keeps its last connection open.
#[derive(Debug, Default)]
pub(super) struct Client {
    kept: Option<(SocketAddr, BufReader<TcpStream>, Instant)>,
}

impl Client {
    /// Asks a server and waits for the whole answer. After an error it is not known whether the server
    /// did what it was asked.
    pub(super) fn ask(&mut self, server: SocketAddr, request: &Request<'_>) -> io::Result<Answer> {
        let begun = Instant::now();
        let mut connection = match self.kept.take() {
            Some((to, connection, used)) if to == server && used.elapsed() < REST => connection,
            _ => {
                let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                BufReader::new(stream)
            }
        };
        connection.get_mut().write_all(&request.to_bytes(server))?;
        let (answer, stays) = read_answer(&mut connection, begun)?;
        if stays {
            self.kept = Some((server, connection, Instant::now()));
        }
        Ok(answer)
    }
}

impl Request<'_> {
    fn to_bytes(self, server: SocketAddr) -> Vec<u8> {
        let (kind, body): (_, &[u8]) = match self.body {
            Body::Empty => ("", b""),
            Body::Json(text) => ("application/json", text.as_bytes()),
            Body::Bytes(bytes) => ("application/octet-stream", bytes),
        };
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {server}\r\n", self.method, self.path);
        if !self.key.is_empty() {
            head.push_str(&format!("Authorization: Bearer {}\r\n", self.key));
        }
        if !kind.is_empty() {
            head.push_str(&format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        [head.as_bytes(), body].concat()
    }
}

/// Reads an answer, and says whether the connection stays open.
fn read_answer(from: &mut impl BufRead, begun: Instant) -> io::Result<(Answer, bool)> {
    let status = line(from)?;
    let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| invalid("no status"))?;
    let (mut length, mut is_chunked, mut stays) = (None, false, true);
    loop {
        let header = line(from)?;
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else { return Err(invalid("a header")) };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse::<usize>().ok(),
            "transfer-encoding" => is_chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => stays = !value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    let mut first = None;
    if is_chunked {
        loop {
            let size = line(from)?;
            let size = usize::from_str_radix(&size, 16).map_err(|_| invalid("a chunk's size"))?;
            let before = body.len();
            take(from, size, &mut body)?;
            // Before it there may be comments, while the prompt is read.
            if first.is_none() && body[before..].windows(6).any(|part| part == b"data: ") {
                first = Some(begun.elapsed());
            }
            line(from)?;
            if size == 0 {
                break;
            }
        }
    } else {
        take(from, length.ok_or_else(|| invalid("no length"))?, &mut body)?;
    }
    let first = first.unwrap_or_else(|| begun.elapsed());
    Ok((Answer { status, body, first }, stays))
}

/// A line without its end. An end of the stream before it is an error.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let whole = line.strip_suffix('\n').ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(whole.strip_suffix('\r').unwrap_or(whole).to_owned())
}

fn take(from: &mut impl BufRead, count: usize, into: &mut Vec<u8>) -> io::Result<()> {
    let before = into.len();
    from.take(count as u64).read_to_end(into)?;
    match into.len() - before == count {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer is no HTTP: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<(Answer, bool)> {
        read_answer(&mut text.as_bytes(), Instant::now())
    }

    #[test]
    fn answers_of_both_forms_are_read() {
        let (answer, stays) = read("HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nabcd").unwrap();
        assert_eq!((answer.status, answer.text().as_str(), stays), (404, "ab", true));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nConnection: close\r\n\r\n\
                       3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        let (answer, stays) = read(chunked).unwrap();
        assert_eq!((answer.status, answer.text().as_str(), stays), (200, "abc0123456789", false));
    }

    #[test]
    fn an_answer_that_was_broken_off_is_an_error() {
        let cut = ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"];
        for text in
            cut.into_iter().chain(["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab"])
        {
            assert_eq!(read(text).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{text}");
        }
    }
}
