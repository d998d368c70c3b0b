//! The language against Jinja2's own results, and its bounds.

use std::path::Path;

use serde_json::Value as Json;

use super::*;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/templates")
}

fn conversation(given: &Json) -> Conversation {
    let turn = |message: &Json| Turn {
        role: ["system", "user", "assistant"].into_iter().find(|role| message["role"] == *role).unwrap(),
        content: message["content"].as_str().unwrap().to_owned(),
        ..Turn::default()
    };
    let fields = given.as_object().unwrap().clone().into_iter();
    let own = ["messages", "add_generation_prompt"];
    Conversation {
        turns: given["messages"].as_array().unwrap().iter().map(turn).collect(),
        add_generation_prompt: given["add_generation_prompt"] == true,
        variables: fields.filter(|(name, _)| !own.contains(&name.as_str())).collect(),
        ..Conversation::default()
    }
}

#[test]
fn prompts_are_those_of_jinja2() {
    let expected = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    let expected: Json = serde_json::from_str(&expected).unwrap();
    let tokens = BTreeMap::from([("bos_token", "<s>".to_owned()), ("eos_token", "</s>".to_owned())]);
    for case in expected["cases"].as_array().unwrap() {
        let name = case["template"].as_str().unwrap();
        let source = match name {
            "alpaca" => super::super::ALPACA.to_owned(),
            name => match expected["styles"][name].as_str() {
                Some(style) => style.to_owned(),
                None => std::fs::read_to_string(folder().join(format!("{name}.jinja"))).unwrap(),
            },
        };
        let jinja = Jinja::compile(source).unwrap();
        let conversation = conversation(&case["conversation"]);
        match (jinja.render(&conversation, &tokens), &case["refused"]) {
            (Ok(text), Json::Null) => assert_eq!(text, case["text"].as_str().unwrap(), "{name} {case}"),
            (Err(TemplateError::Refused(words)), Json::String(refused)) => assert_eq!(words, *refused),
            (found, _) => panic!("{name}: {found:?}, but {case}"),
        }
    }
}

fn rendered(source: &str) -> Result<String, TemplateError> {
    let turns = vec![Turn { role: "user", content: "Hello".to_owned(), ..Turn::default() }];
    let conversation = Conversation { turns, ..Conversation::default() };
    Jinja::compile(source.to_owned()).unwrap().render(&conversation, &BTreeMap::new())
}

#[test]
fn templates_that_never_end_or_grow_without_bound_are_stopped() {
    for (source, reason) in [
        ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "steps"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ""),
        ("{% for i in range(100000) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' }}{% endfor %}", "longer"),
        ("{{ 'a' * 1000000000 }}", ""),
        ("{{ range(1000000000) | list | length }}", ""),
        (
            "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "",
        ),
    ] {
        let error = rendered(source).unwrap_err();
        assert!(matches!(&error, TemplateError::Failed(why) if why.contains(reason)), "{source}: {error}");
    }
}

#[test]
fn what_a_template_cannot_reach_is_not_there() {
    for source in [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    ] {
        match rendered(source) {
            Ok(text) => assert_eq!(text, "", "{source}"),
            Err(TemplateError::Failed(_)) => {}
            Err(error) => panic!("{source}: {error}"),
        }
    }
    assert!(Jinja::compile("{% include '/etc/passwd' %}".to_owned()).is_err(), "no other files");
}

#[test]
fn times_are_written_as_strftime_does() {
    // 29 February 2024, 13:07:09 UTC.
    let time = |format: &str| strftime(format, 1_709_212_029).unwrap();
    assert_eq!(time("%d %b %Y"), "29 Feb 2024");
    assert_eq!(time("%Y-%m-%d %H:%M:%S %A %B %j"), "2024-02-29 13:07:09 Thursday February 060");
    assert!(rendered("{{ strftime_now('%Y') }}").unwrap().parse::<u32>().unwrap() > 2020);
    assert!(rendered("{{ strftime_now('%') }}").is_err());
}

#[test]
fn requests_set_only_what_the_template_reads() {
    let jinja = Jinja::compile(
        "{{ bos_token }}{{ messages }}{% if thinking is defined %}{% endif %}{{ range(2) }}".into(),
    );
    let jinja = jinja.unwrap();
    assert!(jinja.reads("thinking"));
    for name in ["messages", "bos_token", "range", "add_generation_prompt", "tokenize", "other", ""] {
        assert!(!jinja.reads(name), "{name}");
    }
}
