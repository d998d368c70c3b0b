//! Texts that look like special tokens are texts.

use serde_json::{Value, json};

use crate::harness::{MODELS, Server};

const TEXTS: [&str; 12] = [
    "</s>",
    "<s>",
    "<unk>",
    "<pad>",
    "<|endoftext|>",
    "[¨M¨]",
    "[¨P¨]",
    "[¨S¨]",
    "------------",
    "ти",
    "<0x0A>",
    "▁",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn special_strings_around_a_hole_come_back_verbatim() {
    for model in MODELS {
        let server = Server::start_model(model);
        for text in TEXTS {
            let prefix = format!("a {text}{text} b");
            let suffix = format!("{text}\n{text}");
            let body = json!({ "prefix": prefix, "suffix": suffix, "length": 4, "seed": 1 });
            let answer = server.ok("/fill", &body).await;
            let hole = answer["choices"][0]["holes"][0]["text"].as_str().unwrap();
            assert_eq!(answer["choices"][0]["text"], format!("{prefix}{hole}{suffix}"), "{model:?} {text}");
            assert_eq!(answer["diffusion"]["generated_tokens"], 4, "a typed mask opens no position");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn special_strings_in_prompts_and_suffixes_do_no_harm() {
    for model in MODELS {
        let server = Server::start_model(model);
        for text in TEXTS {
            let body = json!({ "prompt": [text, ""], "suffix": text, "max_tokens": 4, "min_tokens": 4,
                               "seed": 1 });
            let answer = server.ok("/v1/completions", &body).await;
            assert_eq!(answer["diffusion"]["generated_tokens"], 8, "{model:?} {text}");
        }
    }
}

/// Otherwise a user who types the name of a token could end a document, or open a position.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_that_spell_special_tokens_hold_none() {
    for model in MODELS {
        let server = Server::start_model(model);
        let tokens = async |text: String| {
            let body = json!({ "prompt": text, "add_special_tokens": false });
            server.ok("/tokenize", &body).await["tokens"].as_array().unwrap().clone()
        };
        let info = server.get("/tokenizer_info").await.json();
        // Not the padding's: some models use an ordinary word for it.
        let names = ["bos_token", "eos_token"].map(|name| info[name].as_str().map(str::to_owned));
        let mut special = Vec::new();
        for name in names.into_iter().flatten() {
            special.extend(<[Value; 1]>::try_from(tokens(name).await).into_iter().flatten());
        }
        assert!(!special.is_empty(), "{model:?}");
        for text in TEXTS {
            let given = tokens(format!("a{text}{text} {text}\n")).await;
            assert!(!given.iter().any(|token| special.contains(token)), "{model:?} {text}: {given:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_token_id_is_ordinary_context_even_the_mask() {
    for (model, mask, eos) in [("diffugpt-s", 263, 597), ("diffugpt-m", 598, 599), ("diffullama", 259, 2)] {
        let server = Server::start(model, &[]);
        let body = json!({ "prompt": [5, mask, eos, 0, 599, mask], "max_tokens": 6, "seed": 1 });
        let answer = server.ok("/v1/completions", &body).await;
        assert_eq!(answer["usage"]["prompt_tokens"], 6);
        assert_eq!(answer["diffusion"]["generated_tokens"], 6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suffix_of_the_document_end_alone_counts_as_none() {
    for (model, eos) in [("diffugpt-s", "<|endoftext|>"), ("diffullama", "</s>")] {
        let server = Server::start(model, &[]);
        let plain = json!({ "prompt": "The", "max_tokens": 9, "seed": 8 });
        let ended = json!({ "prompt": "The", "suffix": eos, "max_tokens": 9, "seed": 8 });
        let (plain, ended) =
            (server.ok("/v1/completions", &plain).await, server.ok("/v1/completions", &ended).await);
        assert_eq!(plain["choices"], ended["choices"]);
        assert_eq!(plain["usage"], ended["usage"]);
    }
}

/// Evaluation harnesses learn the id of the document start by tokenizing its name. As a part of a text it is text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_special_token_by_itself_is_its_id() {
    for model in ["diffugpt-s", "diffullama"] {
        let server = Server::start(model, &[]);
        let name = server.get("/tokenizer_info").await.json()["eos_token"].clone();
        let tokens = async |text: String| {
            let body = json!({ "prompt": text, "add_special_tokens": false });
            server.ok("/tokenize", &body).await["tokens"].as_array().unwrap().clone()
        };
        let name = name.as_str().unwrap();
        assert_eq!(tokens(name.to_owned()).await.len(), 1, "{model}");
        assert!(tokens(format!("{name}a")).await.len() > 2, "{model}");
        let shown = server.ok("/detokenize", &json!({ "tokens": tokens(format!("{name}a")).await })).await;
        assert_eq!(shown["prompt"], format!("{name}a"));
    }
}
