"""Writes the parquet file of the tests: `pip install pyarrow && python parquet.py`."""

import pyarrow as pa
import pyarrow.parquet as pq

rows = [
    {"question": "What do bees make", "answer": {"value": "Honey", "aliases": ["Honey", "Bees' honey"]}, "label": 3, "score": 0.5},
    {"question": "Größe?", "answer": {"value": "x", "aliases": ["x"]}, "label": None, "score": None},
]
pq.write_table(pa.Table.from_pylist(rows), "rows.parquet", compression="snappy")
pq.write_table(pa.Table.from_pylist(rows), "gzip.parquet", compression="gzip")
