//! Formats, hostile files and carried items.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::args::Protocol;
use super::find::find;
use super::formats::item;
use super::question::{Choice, Judge, Question};
use super::read::read_records;
use super::record::{DataError, Place, Record};
use super::task::Task;
use super::{items, smoke};

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
                         "endings": ["pours [step] it.", "sings."], "label": "1" });
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
            json!({ "activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["x"], "label": 1 }),
            "`label`: it is 1, not a number from 0 to 0",
        ),
        (
            Task::Hellaswag,
            json!({ "activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["x"], "label": "" }),
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

fn file(name: &str, bytes: &[u8]) -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn read(name: &str, bytes: &[u8]) -> Result<Vec<Record>, DataError> {
    let (_folder, path) = file(name, bytes);
    read_records(&path)
}

fn texts(records: &[Record]) -> Vec<(usize, &str)> {
    records.iter().map(|record| (record.place.line, record.text(&["text"]).unwrap())).collect()
}

#[test]
fn every_format_gives_the_same_records() {
    let expected = [(1, "a, \"b\""), (3, "c")];
    let lines = read("x.jsonl", b"{\"text\":\"a, \\\"b\\\"\"}\n\n{\"text\":\"c\"}\n").unwrap();
    assert_eq!(texts(&lines), expected);
    assert_eq!(texts(&read("x.TXT", b"a, \"b\"\n \nc").unwrap()), expected);
    let list = read("x.json", b"[{\"text\":\"a, \\\"b\\\"\"},\n{\"text\":\"c\"}]").unwrap();
    assert_eq!(texts(&list), [(1, "a, \"b\""), (2, "c")]);
    let data = read("x.json", b"{\"Version\":1,\"Data\":[{\"text\":\"c\"}]}").unwrap();
    assert_eq!(texts(&data), [(1, "c")]);
    assert_eq!(texts(&read("x.json", b"{\"text\":\"c\"}").unwrap()), [(1, "c")], "one line");
    let table = read("x.csv", b"id,text\n1,\"a, \"\"b\"\"\"\n2,c\n").unwrap();
    assert_eq!(texts(&table), [(2, "a, \"b\""), (3, "c")]);
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut zipped, b"{\"text\":\"c\"}\n").unwrap();
    assert_eq!(texts(&read("x.jsonl.gz", &zipped.finish().unwrap()).unwrap()), [(1, "c")]);
}

#[test]
fn rows_of_parquet_files_are_records() {
    let records = read("x.parquet", include_bytes!("testdata/rows.parquet")).unwrap();
    assert_eq!(records.len(), 2);
    let first = json!({ "question": "What do bees make", "label": 3, "score": 0.5,
                        "answer": { "value": "Honey", "aliases": ["Honey", "Bees' honey"] } });
    assert_eq!(Value::Object(records[0].fields.clone()), first);
    assert_eq!((records[1].place.line, &records[1].fields["label"]), (2, &Value::Null));
    assert_eq!(records[1].text(&["question"]).unwrap(), "Größe?");
    let other = read("x.parquet", include_bytes!("testdata/gzip.parquet")).unwrap_err().to_string();
    assert!(other.contains("JSON lines file of the same rows"), "{other}");
    for cut in (0..1700).step_by(61) {
        let damaged = &include_bytes!("testdata/rows.parquet")[..cut];
        assert!(matches!(read("x.parquet", damaged), Err(DataError::Unreadable { .. })), "{cut}");
    }
}

#[test]
fn a_hostile_file_is_one_line() {
    for (name, bytes, part) in [
        ("x.jsonl", &b"{\"text\":\"a\"}\n{\"text\":"[..], "x.jsonl line 2: it is not JSON"),
        ("x.jsonl", b"{\"text\":\"a\"}\n[1]\n", "x.jsonl line 2: it is not a JSON object"),
        ("x.jsonl", b"\n\n", "x.jsonl holds no item"),
        ("x.jsonl", b"{\"text\":\"a\"}\n\xff", "x.jsonl line 2: it is not UTF-8"),
        ("x.json", b"[1]", "x.json line 1: it is not a JSON object"),
        ("x.csv", b"a,b\n1,2\n3\n", "x.csv line 3: it is not a row of the table"),
        ("x.csv", b"a,b\n", "x.csv holds no item"),
        ("x.jsonl.gz", b"no gzip", "cannot read"),
        ("x.tar", b"", "the name must end in .jsonl"),
    ] {
        let message = read(name, bytes).unwrap_err().to_string();
        assert!(message.contains(part) && message.lines().count() == 1, "{message}");
    }
}

#[test]
fn files_are_found_by_their_names_or_in_a_folder_of_the_task() {
    let folder = TempDir::new().unwrap();
    let missing = find(Task::Hellaswag, folder.path()).unwrap_err().to_string();
    for part in ["hellaswag needs one of hellaswag_val.jsonl", "/hellaswag;", "Rowan/hellaswag"] {
        assert!(missing.contains(part), "{missing}");
    }
    let own = folder.path().join("hellaswag");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("README.md"), "no data").unwrap();
    std::fs::write(own.join("0000.parquet"), "data").unwrap();
    assert_eq!(find(Task::Hellaswag, folder.path()).unwrap(), own.join("0000.parquet"));
    let named = folder.path().join("hellaswag_val.jsonl");
    std::fs::write(&named, "data").unwrap();
    assert_eq!(find(Task::Hellaswag, folder.path()).unwrap(), named);
    assert_eq!(find(Task::Piqa, &named).unwrap(), named, "a file is taken as it is");
}

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    eval: super::EvalArgs,
}

fn arguments(more: &[&str]) -> super::EvalArgs {
    <Arguments as clap::Parser>::parse_from([&["eval"], more].concat()).eval
}

#[test]
fn labels_may_stand_in_a_file_beside() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("valid.jsonl");
    let line = "{\"goal\":\"a\",\"sol1\":\"b\",\"sol2\":\"c\"}\n";
    std::fs::write(&path, line.repeat(2)).unwrap();
    let args = arguments(&["piqa", "--data", path.to_str().unwrap()]);
    let unlabelled = items::read(Task::Piqa, &args).err().unwrap().to_string();
    assert!(unlabelled.contains("line 1, field `label`: it is missing"), "{unlabelled}");
    let labels = folder.path().join("valid-labels.lst");
    std::fs::write(&labels, "1\n").unwrap();
    let short = items::read(Task::Piqa, &args).err().unwrap().to_string();
    assert!(short.contains("1 labels for 2 items"), "{short}");
    std::fs::write(&labels, "1\n0\n").unwrap();
    let asked = items::read(Task::Piqa, &args).unwrap();
    let right = |at: usize| match &asked.items[at].question {
        Question::Choice(choice) => choice.right,
        other => panic!("{other:?}"),
    };
    assert_eq!((right(0), right(1), asked.items[1].id.as_str()), (1, 0, "valid.jsonl:2"));
}

#[test]
fn a_limit_takes_the_first_items_of_the_same_file() {
    let all = items::read(Task::Gsm8k, &arguments(&["--smoke"])).unwrap();
    let some = items::read(Task::Gsm8k, &arguments(&["--smoke", "--limit", "3"])).unwrap();
    assert_eq!((all.items.len(), some.items.len()), (10, 3));
    assert_eq!(all.hash, some.hash, "so that a run can go on with a larger limit");
    assert_ne!(all.hash, items::read(Task::Lambada, &arguments(&["--smoke"])).unwrap().hash);
}
