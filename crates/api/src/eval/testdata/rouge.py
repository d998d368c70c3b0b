"""Records values of the package rouge-score: `pip install rouge-score==0.1.2 && python rouge.py > rouge.jsonl`."""

import json

from rouge_score import rouge_scorer

CASES = [
    ("The cat sat on the mat.", "A cat is sitting on a mat."),
    ("Tom went to the store to buy milk.", "Tom went to the shop and bought some milk."),
    ("", "Nothing was said."),
    ("Nothing was said.", ""),
    ("hello hello hello world", "hello world world"),
    ("It's 3.5 km — naïve café!", "It s 3 5 km na ve caf"),
    ("a b c d e f g", "g f e d c b a"),
    ("She opened the door, and the dog ran outside.", "The dog ran outside when she opened the door."),
    ("same words here", "same words here"),
    ("Under_score and-dash", "under score and dash"),
    ("!!!", "..."),
    ("one", "one"),
    ("the the the the", "the the"),
    ("İstanbul ΣΑΣ Straße K", "istanbul σας strasse k"),
]

scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
for reference, prediction in CASES:
    score = scorer.score(reference, prediction)
    rouge = [score[name].fmeasure for name in ("rouge1", "rouge2", "rougeL")]
    print(json.dumps({"reference": reference, "prediction": prediction, "rouge": rouge}, ensure_ascii=False))
