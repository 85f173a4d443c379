//! `longhand bench serve` against `longhand serve`, over TLS and with a key, as an operator runs both.

use serde_json::Value;

use crate::place::Place;
use crate::place::served::Served;

#[test]
fn a_load_over_tls_reuses_what_sessions_remember_and_leaves_none_behind() {
    let place = Place::with_models();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    place.write("cert.pem", &made.cert.pem());
    place.write("key.pem", &made.signing_key.serialize_pem());
    let (code, key, errors) = place.run("serve --new-key load --api-key-file keys.toml", "");
    assert_eq!(code, 0, "{errors}");
    place.write("key", &key);
    let server = Served::start(
        &place,
        "serve base --port 0 --threads 1 --api-key-file keys.toml --tls-cert cert.pem --tls-key \
         key.pem",
    );
    let url = &server.url;
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");

    let common =
        format!("bench serve {url} --ca cert.pem --words 6 --tokens 5 --seconds 60 --json");
    let summary = place.done(&format!(
        "{common} --key-file key --clients 3 --requests 12 --turns 3 --sessions --plot wait.png"
    ));
    let number = |summary: &Value, name: &str| summary[name].as_u64().unwrap();
    assert_eq!(number(&summary, "answered"), 12, "{summary}");
    assert!(number(&summary, "written_tokens") > 0, "{summary}");
    // A later turn says its own words alone; what came before is in the session.
    assert!(number(&summary, "cached_tokens") > 0, "{summary}");
    assert!(summary["first_token"]["p50"].as_f64().unwrap() > 0.0, "{summary}");
    assert_eq!(&place.read("wait.png")[1..4], b"PNG");

    let open = place.done(&format!("{common} --key-file key --rate 40 --requests 10 --no-stream"));
    assert_eq!((number(&open, "answered"), &open["first_token"]), (10, &Value::Null), "{open}");

    // Without the key nothing is answered, and each refusal is told by its status.
    let line = format!("{common} --model base --requests 3");
    let (code, refused, errors) = place.run(&line, "");
    assert!(code == 1 && errors.contains("no request was answered: "), "{errors}");
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!((number(&refused, "answered"), &refused["errors"]["401"]), (0, &3.into()));
    place.refused(&format!("{common} --requests 3"), "refuses with 401");
    place.refused(&format!("bench serve {url} --ca key --requests 1"), "not a certificate");
    place.refused("bench serve http://127.0.0.1:1 --requests 1", "cannot be reached");
}
