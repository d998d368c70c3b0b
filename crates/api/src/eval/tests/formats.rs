//! Records to questions, wrong fields, and the carried items.

use std::path::Path;

use serde_json::{Value, json};

use super::super::args::Protocol;
use super::super::formats::item;
use super::super::question::{Choice, Judge, Question};
use super::super::record::{Place, Record};
use super::super::smoke;
use super::super::task::Task;

const PROTOCOLS: [Protocol; 2] = [Protocol::Paper, Protocol::Harness];

fn record(fields: Value) -> Record {
    let Value::Object(fields) = fields else { panic!("{fields} is not an object") };
    Record { place: Place::new(Path::new("folder/set.jsonl"), 7), fields }
}

fn question(task: Task, fields: Value, protocol: Protocol) -> Question {
    item(task, &record(fields), protocol).unwrap().question
}

fn refusal(task: Task, fields: Value) -> String {
    item(task, &record(fields), Protocol::Paper).map(|_| ()).unwrap_err().to_string()
}

fn choice(task: Task, fields: Value, protocol: Protocol) -> (Choice, Vec<(String, String)>) {
    let Question::Choice(choice) = question(task, fields, protocol) else { panic!("{task:?}") };
    let texts =
        choice.options.iter().map(|option| (option.context.clone(), option.scored.join("|"))).collect();
    (choice, texts)
}

fn pair(context: &str, scored: &str) -> (String, String) {
    (context.to_owned(), scored.to_owned())
}

#[test]
fn every_task_carries_ten_items_of_both_protocols() {
    for task in Task::all() {
        let records = smoke::records(*task).unwrap();
        assert_eq!(records.len(), 10, "{task:?}");
        for record in &records {
            for protocol in PROTOCOLS {
                item(*task, record, protocol).unwrap();
            }
        }
    }
}

#[test]
fn the_last_word_is_behind_the_context() {
    let fields = json!({ "text": "A cup of  hot tea" });
    let word = |protocol| question(Task::Lambada, fields.clone(), protocol);
    let expected = |context: &str| Question::LastWord { context: context.to_owned(), word: "tea".to_owned() };
    assert_eq!(word(Protocol::Paper), expected("A cup of hot"));
    assert_eq!(word(Protocol::Harness), expected("A cup of  hot"));
}

#[test]
fn endings_stand_behind_activity_and_context() {
    let fields = json!({ "activity_label": "Tea", "ctx_a": "Water boils.", "ctx_b": "a Man",
                         "endings": ["pours [step] it.", "sings.", "sits.", "sleeps."], "label": "1" });
    let (found, texts) = choice(Task::Hellaswag, fields.clone(), Protocol::Paper);
    assert_eq!((found.right, found.joined), (1, false));
    assert_eq!(texts[0], pair("Tea: Water boils. A man", "pours it."));
    let (found, texts) = choice(Task::Hellaswag, fields, Protocol::Harness);
    assert!(found.joined);
    assert_eq!(texts[1], pair("Tea: Water boils. A man", " sings."));
    assert_eq!(found.options[1].characters, 6);
}

#[test]
fn names_are_put_into_the_sentence() {
    let fields = json!({ "sentence": "It fits as the _ is small.", "option1": "cup", "option2": "box", "answer": "2" });
    let (found, texts) = choice(Task::Winogrande, fields.clone(), Protocol::Paper);
    assert_eq!((found.right, &texts[0]), (1, &pair("It fits as the ", "cup|is small.")));
    let (_, texts) = choice(Task::Winogrande, fields, Protocol::Harness);
    assert_eq!(texts[1], pair("It fits as the box", " is small."));
}

#[test]
fn questions_have_the_words_of_their_protocol() {
    let fields = json!({ "goal": "Dry a coat", "sol1": "Freeze it.", "sol2": "Hang it up.", "label": 1 });
    let (found, texts) = choice(Task::Piqa, fields.clone(), Protocol::Paper);
    assert_eq!((found.right, &texts[1]), (1, &pair("Question: Dry a coat\nAnswer: ", " Hang it up.")));
    let (_, texts) = choice(Task::Piqa, fields, Protocol::Harness);
    assert_eq!(texts[0], pair("Question: Dry a coat\nAnswer:", " Freeze it."));
    let fields = json!({ "context": "Kim won.", "question": "How is Kim?", "answerA": "proud", "answerB": "sad",
                         "answerC": "late", "label": "1\n" });
    let (found, texts) = choice(Task::Siqa, fields.clone(), Protocol::Paper);
    assert_eq!((found.right, &texts[0]), (0, &pair("Question: Kim won. How is Kim?\nAnswer: ", "proud")));
    let (_, texts) = choice(Task::Siqa, fields, Protocol::Harness);
    assert_eq!(texts[2], pair("Q: Kim won. How is Kim?\nA:", " late"));
}

#[test]
fn trivia_is_read_in_both_layouts() {
    let hub = json!({ "question": "Q", "answer": { "aliases": ["A", "B"] } });
    let original = json!({ "Question": "Q", "Answer": { "Aliases": ["A", "B"] } });
    let expected =
        Question::ShortAnswer { question: "Q".to_owned(), aliases: vec!["A".to_owned(), "B".to_owned()] };
    for fields in [hub, original] {
        assert_eq!(question(Task::Triviaqa, fields, Protocol::Paper), expected);
    }
}

#[test]
fn the_third_sentence_is_the_hole() {
    let story = json!({ "storyid": "1", "storytitle": "t", "sentence1": "A.", "sentence2": "B.", "sentence3": "C.",
                        "sentence4": "D.", "sentence5": "E." });
    let cloze = json!({ "InputSentence1": "A.", "InputSentence2": "B.", "InputSentence3": "C.",
                        "InputSentence4": "D.", "RandomFifthSentenceQuiz1": "X.", "RandomFifthSentenceQuiz2": "E.",
                        "AnswerRightEnding": "2" });
    for fields in [story, cloze] {
        let Question::Hole(hole) = question(Task::Rocstories, fields, Protocol::Paper) else { panic!() };
        assert_eq!(
            (hole.prefix.as_str(), hole.truth.as_str(), hole.suffix.as_str()),
            ("A. B.", "C.", "D. E.")
        );
        assert_eq!(hole.judge, Judge::Rouge);
    }
}

#[test]
fn a_wrong_field_is_named_with_file_and_line() {
    let place = "folder/set.jsonl line 7, field ";
    for (task, fields, part) in [
        (Task::Lambada, json!({}), "`text`: it is missing"),
        (Task::Lambada, json!({ "text": 3 }), "`text`: it is a number, not a string"),
        (Task::Lambada, json!({ "text": "alone" }), "`text`: it must have two words"),
        (
            Task::Hellaswag,
            json!({ "activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": [], "label": 0 }),
            "`endings`: it is not a list with at least one entry",
        ),
        (
            Task::Hellaswag,
            json!({ "activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["x", 1], "label": 0 }),
            "`endings`: an entry",
        ),
        (
            Task::Hellaswag,
            json!({ "activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["x"], "label": 0 }),
            "`endings`: it is a list of 1, not of 4",
        ),
        (
            Task::Hellaswag,
            json!({ "activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["x", "y", "z", "w"], "label": 4 }),
            "`label`: it is 4, not a number from 0 to 3",
        ),
        (
            Task::Hellaswag,
            json!({ "activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["x", "y", "z", "w"], "label": "" }),
            "`label`: it is \"\", not a number",
        ),
        (
            Task::Winogrande,
            json!({ "sentence": "no blank", "option1": "a", "option2": "b", "answer": "1" }),
            "`sentence`: it has no `_`",
        ),
        (
            Task::Winogrande,
            json!({ "sentence": "_ x", "option1": "a", "option2": "b", "answer": "\u{1b}[2J" }),
            "`answer`: it is \"\\u001b[2J\", not",
        ),
        (Task::Piqa, json!({ "goal": "a", "sol1": "b", "sol2": null, "label": 1 }), "`sol2`: it is null"),
        (Task::Siqa, json!({ "context": " ", "question": "b" }), "`context`: it is empty"),
        (Task::Triviaqa, json!({ "question": "q", "answer": "x" }), "`answer`: it is not an object"),
        (Task::Triviaqa, json!({ "answer": {} }), "`question`: it is missing (or `Question`)"),
        (Task::Gsm8k, json!({ "question": "q", "answer": "5" }), "`answer`: it has no number behind `####`"),
        (Task::Rocstories, json!({ "InputSentence1": "A." }), "`AnswerRightEnding`: it is missing"),
        (
            Task::HumanevalSingleLine,
            json!({ "entry_point": "f(); import os" }),
            "`entry_point`: it is not the name",
        ),
        (
            Task::HumanevalMultiLine,
            json!({ "entry_point": "f", "canonical_solution": "" }),
            "`canonical_solution`: it is empty",
        ),
        (Task::Infill, json!({ "text": "" }), "`text`: it is empty"),
    ] {
        let message = refusal(task, fields);
        assert!(message.starts_with(place) && message[place.len()..].starts_with(part), "{message}");
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
}
