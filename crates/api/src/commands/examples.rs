//! The examples at the end of help texts, none wider than 100 columns.

pub(super) const PROGRAM: &str = "\
Examples:
  unmask                           serve the small model in this program at http://localhost:8080
  unmask try 'import os'           continue a text, and watch it appear
  unmask models                    list larger models
  unmask serve diffugpt-s          download one of them and serve it
  unmask serve --help              list the settings";

pub(super) const SERVE: &str = "\
Examples:
  unmask serve diffugpt-s --dtype bf16
  unmask serve model.gguf --host 0.0.0.0 --api-key-file keys.txt
  unmask serve smollm2 --base SmolLM2-135M-Instruct.Q4_1.gguf
  unmask serve --config unmask.toml --print-config";

pub(super) const TRY: &str = "\
Examples:
  unmask try 'import os' --max-tokens 16 --slow
  printf 'def main():\\n' | unmask try - --seed 7
  unmask try 'Once upon a time' --url http://localhost:8080";

pub(super) const FILL: &str = "\
Examples:
  unmask fill file.py                          print the file with its <fill> holes filled
  unmask fill file.py --output file.py         write it back
  echo 'x = <fill> + 1' | unmask fill -
  unmask fill                                  ask for texts, one after another";

pub(super) const CHAT: &str = "\
Examples:
  unmask chat --model llada-8b --dtype int8
  unmask chat --url http://localhost:8080 --system 'Answer in one sentence.'";

pub(super) const MODELS: &str = "\
Examples:
  unmask models
  unmask models --json | head -1";

pub(super) const PULL: &str = "\
Examples:
  unmask pull diffugpt-s
  unmask pull owner/name --revision main";

pub(super) const RM: &str = "\
Examples:
  unmask rm diffugpt-s";

pub(super) const SHOW: &str = "\
Examples:
  unmask show dream-7b";

pub(super) const VERIFY: &str = "\
Examples:
  unmask verify diffugpt-s
  unmask verify ./folder --adapter ./adapter";

pub(super) const BENCH: &str = "\
Examples:
  unmask bench --arch diffugpt-s --rows 512 --dtype bf16
  unmask bench --model model.gguf --rows 256";

pub(super) const HEALTHCHECK: &str = "\
Examples:
  unmask healthcheck --url http://localhost:8080";

pub(super) const COMPLETIONS: &str = "\
Examples:
  unmask completions bash > ~/.local/share/bash-completion/completions/unmask
  unmask completions zsh > ~/.zfunc/_unmask
  unmask completions fish > ~/.config/fish/completions/unmask.fish";

pub(super) const MAN: &str = "\
Examples:
  unmask man | man -l -
  unmask man serve > unmask-serve.1";

pub(super) const PRINT_OPENAPI: &str = "\
Examples:
  unmask print-openapi > openapi.json";

pub(super) const EVAL: &str = "\
Examples:
  unmask eval --smoke                  ten items of each task, to see that all of it works
  unmask eval --list                   the tasks, and the files that each of them reads
  unmask eval lambada piqa --model diffugpt-s --data sets --out results
  unmask eval hellaswag --protocol harness --data sets/hellaswag_val.jsonl --limit 200
  unmask eval humaneval-single-line --run-code --data sets --url http://localhost:8080
  unmask eval infill --data /usr/lib/python3.11 --extension py --held-out";
