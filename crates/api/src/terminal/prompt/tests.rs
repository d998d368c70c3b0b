use super::*;

#[test]
fn commands_are_told_from_texts() {
    assert_eq!(command("/seed 7"), Some("/seed"));
    assert_eq!(command("/nonsense"), Some("/nonsense"));
    for text in ["/usr/bin/<fill>", "// a comment", "/", " /seed", "seed", "/Seed"] {
        assert_eq!(command(text), None, "{text}");
    }
}

#[test]
fn commands_change_what_is_asked() {
    let mut talk = Talk { settings: json!({ "diffusion": {} }), first: Vec::new(), messages: Vec::new() };
    for line in ["/seed 7", "/preset exact", "/length 12"] {
        obey(line, &mut talk);
    }
    let question = talk.question("hello").unwrap().body;
    assert_eq!((&question["seed"], &question["max_tokens"]), (&json!(7), &json!(12)));
    assert_eq!(question["diffusion"]["preset"], "exact");
    talk.answered(Some("hi"));
    assert_eq!(talk.question("again").unwrap().body["messages"].as_array().map(Vec::len), Some(3));
    talk.answered(None);
    assert_eq!(talk.messages.len(), 2);
    obey("/clear", &mut talk);
    assert!(talk.messages.is_empty());
    assert!(obey("/sede 7", &mut talk).contains("did you mean /seed?"));
    assert!(obey("/length 1..3", &mut talk).contains("not a range"));
    assert!(obey("/seed x", &mut talk).contains("must be an integer"));
    assert!(obey("/preset nope", &mut talk).contains("there is no preset nope; there are reference"));
    assert_eq!(talk.settings["max_tokens"], 12);
}
