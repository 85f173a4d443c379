//! The page at `/`: one file, served with a policy that lets nothing else run.

use std::sync::LazyLock;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The page, a file beside this one: readable, without a build step.
pub const PAGE: &str = include_str!("page/index.html");

/// The path of the page alone: `GET /`, and so `HEAD /`. It holds no data, so it asks for no key; what
/// its script asks of the server needs one like any other request.
pub fn route<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(page))
}

/// The page, or 304 where the browser has it.
async fn page(asked: HeaderMap) -> Response {
    let headers = HEADERS.clone();
    let known = asked.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    match known.is_some_and(|tags| tags.split(',').any(|tag| is_tag(tag.trim()))) {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, PAGE).into_response(),
    }
}

/// Whether a tag of `If-None-Match` is that of the page. It is compared weakly (RFC 9110, 13.1.2).
fn is_tag(tag: &str) -> bool {
    tag == "*" || tag.trim_start_matches("W/") == TAG.as_str()
}

static TAG: LazyLock<String> = LazyLock::new(|| format!("\"{}\"", hash(PAGE)));

/// The headers of the page, made when it is first asked for.
static HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let fixed = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        // A new server's page replaces the old one at once.
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ];
    let mut headers = HeaderMap::new();
    headers.extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
    let made = [(header::CONTENT_SECURITY_POLICY, policy(PAGE)), (header::ETAG, TAG.clone())];
    headers.extend(made.into_iter().filter_map(|(name, value)| {
        let value = HeaderValue::try_from(value);
        value.ok().map(|value| (name, value))
    }));
    headers
});

/// The content security policy (CSP level 3) of a page: its inline styles and scripts by their
/// hashes, requests to its own server, and nothing else. A script that gets into the page some other
/// way has another hash and does not run; text cannot become markup (`trusted-types`).
fn policy(page: &str) -> String {
    let (script, style) = (sources(page, "script"), sources(page, "style"));
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// The hashes of all inline elements of a name, or 'none'.
fn sources(page: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let inside = page.split(&open).skip(1).filter_map(|rest| rest.split(&close).next());
    let hashes: Vec<String> = inside.map(|text| format!("'sha256-{}'", hash(text))).collect();
    if hashes.is_empty() { "'none'".into() } else { hashes.join(" ") }
}

/// The SHA-256 of a text in base64.
fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn ask(method: &str, known: Option<&str>) -> (StatusCode, HeaderMap, Vec<u8>) {
        let mut request = Request::builder().method(method).uri("/");
        if let Some(known) = known {
            request = request.header(header::IF_NONE_MATCH, known);
        }
        let app: Router = route();
        let answer = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        (status, headers, to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    #[tokio::test]
    async fn the_page_comes_with_a_policy_and_is_sent_once() {
        let (status, headers, body) = ask("GET", None).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, PAGE.as_bytes()));
        let text = |name: HeaderName| headers[name].to_str().unwrap().to_owned();
        assert_eq!(text(header::CONTENT_TYPE), "text/html; charset=utf-8");
        assert_eq!(text(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        let policy = text(header::CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        assert!(!["-inline", "-eval", "*"].iter().any(|it| policy.contains(it)), "{policy}");
        let tag = text(header::ETAG);
        for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".into()] {
            let (status, headers, body) = ask("GET", Some(&known)).await;
            assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0), "{known}");
            assert!(headers.contains_key(header::CONTENT_SECURITY_POLICY));
        }
        assert_eq!(ask("GET", Some("\"other\"")).await.0, StatusCode::OK);
        let (status, _, body) = ask("HEAD", None).await;
        assert_eq!((status, body.len()), (StatusCode::OK, 0));
        assert_eq!(ask("POST", None).await.0, StatusCode::METHOD_NOT_ALLOWED);
    }

    /// The hash of 'abc' is the first example of FIPS 180-2.
    #[test]
    fn a_policy_names_the_hashes_of_what_stands_between_the_tags() {
        let abc = "'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='";
        let policy = policy("<style>abc</style>x<script>abc</script><script>abc</script>");
        assert!(policy.contains(&format!("style-src {abc};")), "{policy}");
        assert!(policy.contains(&format!("script-src {abc} {abc};")), "{policy}");
        assert!(super::policy("").contains("script-src 'none'; style-src 'none'"));
    }

    /// What the policy forbids is not in the page, and nothing of it comes from elsewhere.
    #[test]
    fn the_page_is_small_and_holds_nothing_that_its_policy_forbids() {
        assert!(PAGE.len() < 100_000, "{} bytes", PAGE.len());
        for forbidden in ["http://", "https://", " style=\"", " onclick=", "innerHTML", "@import"] {
            let found = PAGE.lines().find(|line| line.contains(forbidden));
            // The name space of SVG is a name, and nobody asks for it.
            let found = found.filter(|line| !line.contains("http://www.w3.org/2000/svg"));
            assert_eq!(found, None, "{forbidden}");
        }
        assert_eq!((PAGE.matches("<script").count(), PAGE.matches("<style").count()), (1, 1));
    }

    /// Every word that the page uses is in its table, in two languages; and every word is used.
    #[test]
    fn words_of_the_page_are_in_its_table_and_used() {
        let (_, rest) = PAGE.split_once("const WORDS = {").unwrap();
        let (table, script) = rest.split_once("\n};").unwrap();
        let key = |line: &str| {
            let (name, _) = line.strip_prefix("  ")?.split_once(": [")?;
            name.chars().all(char::is_alphanumeric).then(|| name.to_owned())
        };
        let names: Vec<String> = table.lines().filter_map(key).collect();
        assert!(names.len() > 60, "{}", names.len());
        let (markup, _) = PAGE.split_once("<script>").unwrap();
        let mut used = Vec::new();
        for attribute in ["data-word=\"", "data-label=\"", "data-placeholder=\""] {
            used.extend(markup.split(attribute).skip(1).filter_map(|it| it.split('"').next()));
        }
        assert!(used.iter().all(|used| names.iter().any(|name| name == used)), "{used:?}");
        for name in &names {
            let quoted = format!("\"{name}\"");
            assert!(used.contains(&name.as_str()) || script.contains(&quoted), "{name} is unused");
        }
    }
}
