//! Data files: formats, hostile ones, places where they are found.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::find::find;
use super::super::items;
use super::super::question::Question;
use super::super::read::read_records;
use super::super::record::{DataError, Record};
use super::super::task::Task;

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
    let marked = read("x.jsonl", b"\xef\xbb\xbf{\"text\":\"c\"}").unwrap();
    assert_eq!(texts(&marked), [(1, "c")], "a byte order mark");
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
    let records = read("x.parquet", include_bytes!("../testdata/rows.parquet")).unwrap();
    assert_eq!(records.len(), 2);
    let first = json!({ "question": "What do bees make", "label": 3, "score": 0.5,
                        "answer": { "value": "Honey", "aliases": ["Honey", "Bees' honey"] } });
    assert_eq!(Value::Object(records[0].fields.clone()), first);
    assert_eq!((records[1].place.line, &records[1].fields["label"]), (2, &Value::Null));
    assert_eq!(records[1].text(&["question"]).unwrap(), "Größe?");
    let other = read("x.parquet", include_bytes!("../testdata/gzip.parquet")).unwrap_err().to_string();
    assert!(other.contains("JSON lines file of the same rows"), "{other}");
    for cut in (0..1700).step_by(61) {
        let damaged = &include_bytes!("../testdata/rows.parquet")[..cut];
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
    eval: super::super::EvalArgs,
}

fn arguments(more: &[&str]) -> super::super::EvalArgs {
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

#[test]
fn several_files_of_a_task_are_named() {
    let folder = TempDir::new().unwrap();
    let own = folder.path().join("piqa");
    std::fs::create_dir(&own).unwrap();
    let found = || find(Task::Piqa, folder.path()).map_err(|error| error.to_string());
    std::fs::write(own.join("validation.jsonl"), "").unwrap();
    assert_eq!(found(), Ok(own.join("validation.jsonl")));
    std::fs::write(own.join("train.jsonl"), "").unwrap();
    assert!(found().unwrap_err().contains("several files (train.jsonl, validation.jsonl)"));
    let absent = find(Task::Piqa, &folder.path().join("nix")).unwrap_err().to_string();
    assert!(absent.contains("nix") && absent.contains("there is no such file or folder"), "{absent}");
}
