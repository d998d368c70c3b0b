//! Contents of a stream beside the text.

use serde_json::json;

use crate::chat;
use crate::completions::with;
use crate::sse;

/// The sizes of an encrypted connection's packets are visible; texts have been read from the sizes of their
/// tokens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn padded_chunks_tell_no_length() {
    let server = chat::start("diffugpt-m", "pipes");
    let settings = json!({ "max_tokens": 24, "seed": 3, "stream": true });
    let messages = json!({ "messages": [{ "role": "user", "content": "Say something." }] });
    for (path, body) in [
        ("/v1/completions", with(&settings, json!({ "prompt": "The cat" }))),
        ("/v1/fim/completions", with(&settings, json!({ "prompt": "The cat" }))),
        ("/v1/chat/completions", with(&settings, messages.clone())),
        ("/v1/chat/completions", with(&with(&settings, messages), json!({ "diffusing": true }))),
    ] {
        let options = |padded: bool| json!({ "stream_options": { "include_usage": true, "include_obfuscation": padded } });
        let padded = server.post(path, &with(&body, options(true))).await;
        let plain = server.post(path, &with(&body, options(false))).await;
        let sizes: Vec<usize> = sse::data_lines(&padded.body)
            .iter()
            .filter(|line| **line != "[DONE]")
            .map(|line| line.len())
            .collect();
        assert!(sizes.len() > 2 && sizes.iter().all(|size| size % 128 == 0), "{path}: {sizes:?}");
        assert!(!plain.body.contains("obfuscation"), "{path}: not asked for");
        // Beside the padding and what differs between two requests, the chunks are the same.
        let texts = |body: &str| -> Vec<_> {
            sse::chunks(body).into_iter().map(|mut chunk| chunk["choices"].take()).collect()
        };
        assert_eq!(texts(&padded.body), texts(&plain.body), "{path}");
    }
}
