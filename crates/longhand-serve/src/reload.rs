//! What is read again while the server runs: after SIGHUP all of it, and each minute the files of keys
//! and the certificate, where they have changed. What is not usable is told, and the old one stays.

use crate::app::App;
use crate::reloads::Reloaded;
use crate::sealing::SealingFile;
use crate::tls::Tls;

/// Reads all of it again.
pub(crate) fn reload_all(app: &App, tls: Option<&Tls>) {
    match app.keys().is_needed() {
        true => reload_keys(app),
        false => tracing::info!("there is no file of keys to read again"),
    }
    if let Some(sealing) = app.reloads().and_then(|reloads| reloads.sealing.as_ref()) {
        reload_sealing(sealing);
    }
    if let Some(settings) = app.reloads().and_then(|reloads| reloads.settings.as_ref()) {
        match settings() {
            Ok(reloaded) => take_over(app, &reloaded),
            Err(error) => tracing::error!(error, "the old settings stay"),
        }
    }
    if let Some(tls) = tls {
        tls.reload();
    }
}

/// Reads the files again that have changed.
pub(crate) fn reload_changed(app: &App, tls: Option<&Tls>) {
    if app.keys().has_changed() {
        reload_keys(app);
    }
    let sealing = app.reloads().and_then(|reloads| reloads.sealing.as_ref());
    if let Some(sealing) = sealing.filter(|sealing| sealing.has_changed()) {
        reload_sealing(sealing);
    }
    if let Some(tls) = tls {
        tls.reload();
    }
}

fn reload_keys(app: &App) {
    match app.reload_keys() {
        Ok(()) => tracing::info!("the keys were read again"),
        Err(error) => tracing::error!(%error, "the old keys stay"),
    }
}

fn reload_sealing(sealing: &SealingFile) {
    match sealing.reload() {
        Ok(()) => tracing::info!("the keys for sealing were read again"),
        Err(error) => tracing::error!(%error, "the old keys for sealing stay"),
    }
}

fn take_over(app: &App, reloaded: &Reloaded) {
    app.set_limits(reloaded.limits);
    app.sessions().renew(&reloaded.sessions);
    tracing::info!("the settings were read again");
    if !reloaded.later.is_empty() {
        let settings = reloaded.later.join(", ");
        tracing::warn!(settings, "these settings hold from the next start on");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use longhand_sessions::SessionsSettings;
    use serde_json::json;

    use super::*;
    use crate::auth::{Keys, new_key};
    use crate::limits::Limits;
    use crate::reloads::Reloads;
    use crate::testing::{Server, json as answer};

    #[tokio::test]
    async fn keys_and_settings_are_taken_over_while_requests_go_on() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let seal = |digit: &str| {
            fs_err::write(path("sealing.keys"), format!("{digit} {}", digit.repeat(64))).unwrap();
        };
        let (alice, lines) = new_key("alice");
        fs_err::write(path("keys.toml"), &lines).unwrap();
        seal("a");
        let server = Server::with(Keys::of_file(&path("keys.toml")).unwrap(), Limits::default());
        let sealing = Some(SealingFile::open(&path("sealing.keys")).unwrap());
        // The settings can be used the second time only.
        let is_usable = AtomicBool::new(false);
        let settings = move || match is_usable.swap(true, Ordering::Relaxed) {
            false => Err("serve.toml: line 1: it cannot be used".to_owned()),
            true => Ok(Reloaded {
                limits: Limits { body: 40, ..Limits::default() },
                sessions: SessionsSettings { sessions_per_owner: 1, ..Default::default() },
                later: vec!["port".into()],
            }),
        };
        server.app.set_reloads(Reloads { sealing, settings: Some(Box::new(settings)) });
        let ask = async |key: &str, session: &str| {
            let body = json!({"model": "nano", "prompt": "a", "max_tokens": 1,
                "session_id": session});
            answer(server.call("POST", "/v1/completions", Some(body), Some(key)).await).await.0
        };
        assert_eq!(ask(&alice, "one").await, 200);
        // A further key, and fewer sessions for the first one.
        let (bob, more) = new_key("bob");
        fs_err::write(path("keys.toml"), format!("{lines}sessions = 1\n{more}")).unwrap();
        assert_eq!(ask(&bob, "one").await, 401);
        reload_changed(&server.app, None);
        assert_eq!((ask(&bob, "one").await, ask(&bob, "two").await), (200, 200));
        assert_eq!((ask(&alice, "one").await, ask(&alice, "two").await), (200, 429));
        fs_err::write(path("keys.toml"), "[[key]]\n").unwrap();
        seal("b");
        reload_all(&server.app, None);
        // What cannot be used changes nothing, and what can be used is taken over all the same.
        assert_eq!(ask(&alice, "one").await, 200);
        let sealing = server.app.reloads().unwrap().sealing.as_ref().unwrap();
        assert!(!sealing.has_changed());
        reload_all(&server.app, None);
        assert_eq!(ask(&alice, "one").await, 413);
    }
}
