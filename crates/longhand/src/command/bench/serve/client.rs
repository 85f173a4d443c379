//! One request and its answer, whole or as a stream of server-sent events.

use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use serde_json::Value;

use super::sample::{End, Sample, Usage};
use super::target::{Body, Target};

/// The largest answer that is not a stream, and the longest event of one.
const LARGEST: usize = 64 << 20;

/// A connection that may be open.
#[derive(Default)]
pub(super) struct Connection(Option<SendRequest<Body>>);

/// An answer, and the text that it holds.
pub(super) struct Answer {
    pub(super) sample: Sample,
    pub(super) text: String,
}

/// What has come of an answer.
#[derive(Default)]
struct Arrived {
    /// When each piece of text came.
    times: Vec<Instant>,
    text: String,
    usage: Usage,
    refusal: Option<String>,
}

impl Connection {
    /// Sends a request and reads its answer to the end. Its times count from `due`.
    pub(super) async fn ask(
        &mut self,
        target: &Target,
        endpoint: &str,
        body: &Value,
        due: Instant,
    ) -> Answer {
        let mut arrived = Arrived::default();
        let asked = self.answer(target, endpoint, body, &mut arrived);
        let end = match tokio::time::timeout(target.timeout, asked).await {
            Ok(end) => end,
            Err(_) => End::TimedOut,
        };
        if !matches!(end, End::Answered | End::Status(_)) {
            // What may still come on it belongs to nobody.
            self.0 = None;
        }
        let Arrived { times, text, usage, refusal } = arrived;
        let sample = Sample {
            first_token: times.first().map(|&time| time.duration_since(due)),
            between: times.windows(2).map(|pair| pair[1].duration_since(pair[0])).collect(),
            whole: due.elapsed(),
            end,
            usage,
            refusal,
        };
        Answer { sample, text }
    }

    async fn answer(
        &mut self,
        target: &Target,
        endpoint: &str,
        body: &Value,
        arrived: &mut Arrived,
    ) -> End {
        let Ok(answer) = self.send(target, "POST", endpoint, body.to_string()).await else {
            return End::Unreachable;
        };
        let status = answer.status();
        let read = match (status, body["stream"] == true) {
            (StatusCode::OK, true) => events(answer.into_body(), arrived).await,
            (StatusCode::OK, false) => whole(answer.into_body(), arrived).await,
            _ => {
                // A connection whose answer was read to its end serves the next request.
                match bytes(answer.into_body()).await {
                    Ok(body) => arrived.refusal = refusal(&body),
                    Err(_) => self.0 = None,
                }
                return End::Status(status.as_u16());
            }
        };
        if read.is_ok() { End::Answered } else { End::Broken }
    }

    /// Sends a request, on a new connection where there is none that is open.
    pub(super) async fn send(
        &mut self,
        target: &Target,
        method: &str,
        endpoint: &str,
        body: String,
    ) -> Result<hyper::Response<Incoming>> {
        if let Some(open) = &mut self.0
            && open.ready().await.is_err()
        {
            self.0 = None;
        }
        let open = match &mut self.0 {
            Some(open) => open,
            none => none.insert(target.connect().await?),
        };
        let answer = open.send_request(target.request(method, endpoint, body)?).await;
        if answer.is_err() {
            self.0 = None;
        }
        Ok(answer?)
    }
}

/// The sentence of an answer that refuses, if it has one.
fn refusal(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    Some(answer["error"]["message"].as_str()?.to_owned())
}

/// Reads an answer that comes whole.
async fn whole(body: Incoming, arrived: &mut Arrived) -> Result<()> {
    let answer: Value = serde_json::from_slice(&bytes(body).await?)?;
    arrived.take(&answer);
    // The answer came at once, so that there is no first token.
    arrived.times.clear();
    Ok(())
}

async fn bytes(mut body: Incoming) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        all.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
        if all.len() > LARGEST {
            bail!("the answer has more than {LARGEST} bytes");
        }
    }
    Ok(all)
}

/// Reads events until `[DONE]`, and what the body still holds, so that the connection can be used
/// again.
async fn events(mut body: Incoming, arrived: &mut Arrived) -> Result<()> {
    let mut rest = Vec::new();
    let mut done = false;
    while let Some(frame) = body.frame().await {
        rest.extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = rest.drain(..end + 2).collect();
            let Some(data) = event.strip_prefix(b"data:") else { continue };
            match data.trim_ascii() {
                b"[DONE]" => done = true,
                data => {
                    let data: Value = serde_json::from_slice(data)?;
                    if let Some(error) = data.get("error") {
                        bail!("the stream ends with an error: {error}");
                    }
                    arrived.take(&data);
                }
            }
        }
        if rest.len() > LARGEST {
            bail!("an event has more than {LARGEST} bytes");
        }
    }
    if done { Ok(()) } else { bail!("the stream broke off") }
}

impl Arrived {
    /// Takes the text and the usage of an answer or of an event.
    fn take(&mut self, answer: &Value) {
        let text = answer["choices"][0]["text"].as_str().unwrap_or_default();
        if !text.is_empty() {
            self.times.push(Instant::now());
            self.text += text;
        }
        let usage = &answer["usage"];
        if usage.is_object() {
            let number = |value: &Value| value.as_u64().unwrap_or(0);
            self.usage = Usage {
                prompt: number(&usage["prompt_tokens"]),
                cached: number(&usage["prompt_tokens_details"]["cached_tokens"]),
                written: number(&usage["completion_tokens"]),
            };
        }
    }
}

/// Why a server cannot be reached, and what to do where its certificate is refused. The system's own
/// error is none of what this program writes to.
fn explained(error: anyhow::Error) -> anyhow::Error {
    let told = format!("{error:#}");
    if told.contains("CaUsedAsEndEntity") {
        return anyhow!(
            "{told}: the server's certificate is that of an authority: give the server one with \
             basicConstraints=CA:FALSE, and name with --ca the one that signed it, or itself"
        );
    }
    if told.contains("invalid peer certificate") {
        return anyhow!("{told}: name with --ca the certificate that the server's is signed with");
    }
    anyhow!(told)
}

/// The first model that the server names.
pub(super) async fn first_model(target: &Target) -> Result<String> {
    let asked = async {
        let mut connection = Connection::default();
        let answer = connection.send(target, "GET", "/v1/models", String::new()).await?;
        let status = answer.status();
        let body = bytes(answer.into_body()).await?;
        anyhow::Ok((status, body))
    };
    let (status, body) = tokio::time::timeout(target.timeout, asked)
        .await
        .context("the server does not answer")?
        .map_err(explained)
        .context("the server cannot be reached: is it running, and at this address?")?;
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status != StatusCode::OK {
        let message = answer["error"]["message"].as_str().unwrap_or("no reason");
        bail!("the server refuses with {status}: {message}");
    }
    let language = |model: &&Value| model["kind"].as_str().is_none_or(|kind| kind == "language");
    let models = answer["data"].as_array().map_or(&[][..], Vec::as_slice);
    let first = models.iter().find(language).or(models.first());
    let name = first.and_then(|model| model["id"].as_str());
    Ok(name.context("the server names no model: pass --model")?.to_owned())
}
