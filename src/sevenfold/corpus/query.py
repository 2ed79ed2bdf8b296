"""Answer questions to a ledger in SQL: DuckDB over the Parquet file, in memory, without access to
anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sevenfold.core.documents import read_rows
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json
from sevenfold.core.process.modules import require_module
from sevenfold.core.run_files import LEDGER
from sevenfold.corpus.ledger import LEDGER_COLUMNS

# `--by` -> the column to group by.
GROUPINGS: Mapping[str, str] = {
    "source": "source",
    "language": "language",
    "licence": "licence",
    "evidence": "licence_evidence",
    "reason": "reason",
    "domain": "domain",
}
_SUMMARY = """
SELECT {column}, count(*) AS seen, count(*) FILTER (status = 'kept') AS kept,
       coalesce(sum(n_bytes) FILTER (status = 'kept'), 0)::BIGINT AS kept_bytes,
       count(*) FILTER (status = 'dropped') AS dropped,
       coalesce(sum(n_bytes) FILTER (status = 'dropped'), 0)::BIGINT AS dropped_bytes
FROM ledger GROUP BY {column} ORDER BY kept_bytes DESC, dropped_bytes DESC, {column}
"""


def ledger_path(run: Path) -> Path:
    """Return the ledger of a run directory, of a corpus directory, or the file itself.

    Raises:
        StorageError: there is no ledger.
    """
    for path in (run, run / LEDGER, run / "corpus" / LEDGER):
        if path.is_file():
            return path
    raise StorageError("no ledger here", where=str(run), remedy="run `s7 corpus RECIPE --out RUN` first")


def summary_sql(by: str) -> str:
    """Return the SQL of a value of `--by`.

    Raises:
        UsageError: the grouping is unknown.
    """
    if by not in GROUPINGS:
        raise UsageError(f"cannot group by {by!r}", where="--by", remedy=f"one of {', '.join(GROUPINGS)}")
    return _SUMMARY.format(column=GROUPINGS[by])


def query(path: Path, sql: str) -> tuple[list[str], list[tuple[Json, ...]]]:
    """Return the column names and rows of a question about the table `ledger`.

    Raises:
        StorageError: the file is not a ledger.
        UsageError: DuckDB is not installed, or refuses the question.
    """
    duckdb = require_module("duckdb", "questions to the ledger need duckdb")
    # This refuses a file that is not a ledger with a message of our own.
    next(read_rows(path, LEDGER_COLUMNS), None)
    with duckdb.connect(":memory:") as connection:
        connection.read_parquet(str(path)).create("ledger")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            answer = connection.execute(sql)
            rows = answer.fetchall()
            columns = [column[0] for column in answer.description or ()]
        except duckdb.Error as error:
            raise UsageError(
                f"the question is refused: {str(error).splitlines()[0]}",
                where="--sql",
                remedy=f"the table is `ledger`, its columns {', '.join(LEDGER_COLUMNS)}",
            ) from error
    return columns, [tuple(map(_plain, row)) for row in rows]


def _plain(value: Any) -> Json:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
