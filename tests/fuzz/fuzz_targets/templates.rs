//! Any text as a chat template: it is refused, or it compiles; then it renders conversations or says why not,
//! and what it renders is bounded and can be tokenized.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use unmask_api::template::{ChatTemplate, Conversation, Turn};
use unmask_fuzz::golden;
use unmask_model::checkpoint::Checkpoint;

/// Bytes of a rendered prompt, and of what users wrote in it.
const LONGEST: usize = (1 << 20) + 1024;

static MODEL: LazyLock<Checkpoint> =
    LazyLock::new(|| Checkpoint::open(&golden("diffugpt-s"), None).expect("the golden model"));

static CONVERSATIONS: LazyLock<[Conversation; 2]> = LazyLock::new(|| {
    let turn =
        |(role, content): (&'static str, &str)| Turn { role, content: content.to_owned(), ..Turn::default() };
    let turns: Vec<Turn> = [
        ("system", "Be brief."),
        ("user", "Hi <|endoftext|>\n  ☃"),
        ("assistant", "<think>a</think> b"),
        ("user", ""),
    ]
    .map(turn)
    .to_vec();
    let variables = [("enable_thinking".to_owned(), false.into()), ("x".to_owned(), "a{{b".into())].into();
    let mut continued = turns.clone();
    continued.push(turn(("assistant", "To be")));
    [
        Conversation { turns, add_generation_prompt: true, variables, ..Conversation::default() },
        Conversation { turns: continued, continue_final: true, ..Conversation::default() },
    ]
});

fuzz_target!(|source: &str| {
    let mut profile = MODEL.profile.clone();
    profile.chat_template = Some(source.to_owned());
    let Ok(Some(template)) = ChatTemplate::choose(None, &profile, &MODEL.tokenizer) else { return };
    let _ = template.reads("enable_thinking");
    for conversation in CONVERSATIONS.iter() {
        if let Ok(prompt) = template.render(conversation) {
            assert!(prompt.text().len() <= LONGEST, "{} bytes", prompt.text().len());
            let _ = prompt.tokens(&MODEL.tokenizer);
        }
    }
});
