"""datatrove on the same documents: quality rules, personal data redacted, near duplicates by
MinHash. One process, one task.

    python corpus_datatrove.py INPUT.jsonl WORK default|regex      ->  one JSON line on standard output

`default` is datatrove's own English tokenizer (spaCy); `regex` gives it a far cheaper one, so that
nobody has to believe that the tokenizer is the difference.
"""

import json
import re
import resource
import sys
import time
from importlib.metadata import version

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.filters import GopherQualityFilter
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils import word_tokenizers

source, work, tokenizer = sys.argv[1:]
if tokenizer == "regex":
    words = re.compile(r"\w+")
    word_tokenizers.load_word_tokenizer("en").__class__.word_tokenize = lambda _, text: words.findall(text)
# As ours.
config = MinhashConfig(n_grams=5, num_buckets=25, hashes_per_bucket=5)
folder, name = source.rsplit("/", 1)
# Prose rules would drop most programs; the measures are taken all the same.
gopher = GopherQualityFilter(
    min_doc_words=1, max_doc_words=10**9, min_avg_word_length=0, max_avg_word_length=10**6,
    max_symbol_word_ratio=10**6,
    max_bullet_lines_ratio=1.1, max_ellipsis_lines_ratio=1.1, max_non_alpha_words_ratio=0.0, min_stop_words=0,
)  # fmt: skip
clean = f"{work}/clean"
pipelines = [
    [
        JsonlReader(folder, glob_pattern=name),
        gopher,
        PIIFormatter(),
        JsonlWriter(clean, compression=None),
        MinhashDedupSignature(output_folder=f"{work}/signatures", config=config),
    ],
    [MinhashDedupBuckets(input_folder=f"{work}/signatures", output_folder=f"{work}/buckets", config=config)],
    [MinhashDedupCluster(input_folder=f"{work}/buckets", output_folder=f"{work}/remove", config=config)],
    [
        JsonlReader(clean),
        MinhashDedupFilter(input_folder=f"{work}/remove"),
        JsonlWriter(f"{work}/out", compression=None),
    ],
]
before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
for number, pipeline in enumerate(pipelines):
    tasks = config.num_buckets if number == 1 else 1
    LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{work}/logs{number}").run()
wall = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_SELF)
cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps({"wall": wall, "cpu": cpu, "rss": used.ru_maxrss * 1024, "version": version("datatrove")}))
