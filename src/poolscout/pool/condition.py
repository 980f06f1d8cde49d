"""What a short-list's condition may say: one true-or-false expression over columns, and nothing that reads elsewhere.

DuckDB parses the text; the tree it gives is checked against lists of what is allowed, so that what is not known here,
or comes with a later DuckDB, is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb

from poolscout.errors import ConfigError, nearest

MOST_CHARACTERS = 20_000

_EXPRESSIONS = frozenset({
    "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "OPERATOR",
    "TYPE",
})  # fmt: skip
_REFUSED = {
    "SUBQUERY": "a query inside", "WINDOW": "a window function", "STAR": "a *", "PARAMETER": "a parameter",
    "LAMBDA": "a lambda", "POSITIONAL_REFERENCE": "a column by its position",
}  # fmt: skip

# Of one row to one value, the same on every machine and day. What makes large values (repeat, range) is left out.
_FUNCTIONS = {
    "operators": "+ - * / // % ** ^ & | ~ << >> || @ ! ~~ !~~ ~~* !~~* ~~~ ^@ ->> xor "
    "like_escape not_like_escape ilike_escape not_ilike_escape",
    "numbers": "abs ceil ceiling floor round trunc even sign sqrt cbrt exp ln log log2 log10 pow power mod pi degrees "
    "radians sin cos tan asin acos atan atan2 greatest least isnan isinf isfinite",
    "text": "lower lcase upper ucase length len strlen trim ltrim rtrim left right substr substring replace reverse "
    "concat concat_ws contains starts_with ends_with prefix suffix instr strpos position split_part split str_split "
    "string_split strip_accents levenshtein regexp_matches regexp_full_match regexp_extract parse_filename "
    "parse_dirname parse_dirpath parse_path md5 sha256",
    "choices": "nullif if",
    "times": "year month day hour minute second millisecond microsecond quarter week weekday dayofweek isodow "
    "dayofmonth dayofyear dayname monthname last_day date_part datepart date_trunc datetrunc date_diff datediff "
    "date_sub datesub date_add epoch epoch_ms epoch_us epoch_ns strftime strptime try_strptime make_date make_time "
    "make_timestamp to_timestamp to_years to_months to_weeks to_days to_hours to_minutes to_seconds to_milliseconds "
    "timezone",
    "lists, structs and JSON": "list_value list_contains list_has list_has_any list_has_all list_position list_extract "
    "list_element array_extract array_contains array_length cardinality list_min list_max list_sum list_avg "
    "list_median list_count list_first list_last list_distinct list_unique list_sort struct_extract json_extract "
    "json_extract_string json_value",
}
FUNCTIONS = frozenset(name for names in _FUNCTIONS.values() for name in names.split())


@dataclass(frozen=True)
class Condition:
    """A checked condition.

    Attributes:
        text: as it was written.
        columns: the columns it names, each as its parts: `("scores", "mi_max")`.
        parts: as SQL, what its AND joins; the whole condition where there is no AND.
    """

    text: str
    columns: tuple[tuple[str, ...], ...]
    parts: tuple[str, ...]


def parse_condition(connection: duckdb.DuckDBPyConnection, text: str) -> Condition:
    """Check a condition's text; nothing of it is carried out, and whether its columns exist is not looked at.

    Raises:
        ConfigError: not one expression, or something in it that a condition may not say.
    """
    if re.search("[\ud800-\udfff]", text):
        raise _refused(text, "not text that UTF-8 can hold")
    if len(text) > MOST_CHARACTERS or "\0" in text:
        raise _refused(text, f"{len(text):,} characters, at most {MOST_CHARACTERS:,} allowed, and no NUL among them")
    try:
        # Alone first: brackets that open in the text must close in it.
        alone, wrapped = (_select(connection, text, sql) for sql in (f"SELECT\n{text}\n", f"SELECT (\n{text}\n)"))
        if alone["select_list"] != wrapped["select_list"]:
            raise _refused(text, "not one expression")
        (expression,) = alone["select_list"]
        columns = tuple(_checked(text, expression))
        parts = tuple(_sql(connection, alone, part) for part in _joined_by_and(expression))
    except RecursionError as error:
        raise _refused(text, "the condition is nested too deeply") from error
    return Condition(text, columns, parts)


def duckdb_words(error: Exception) -> str:
    """DuckDB's message with the line it is about and its marks below, without `LINE 2:`."""
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if line.startswith("LINE ") and ": " in line:
            shift = line.index(": ") + 2
            return "\n".join([*lines[:number], *("    " + shown[shift:] for shown in lines[number : number + 2])])
    return "\n".join(lines[:3])


def _select(connection: duckdb.DuckDBPyConnection, text: str, sql: str) -> dict[str, Any]:
    """The tree of a SELECT that has nothing but one expression; without places in the text."""
    answer = _tree(connection, sql)
    if answer.get("error"):
        try:
            statements = connection.extract_statements(sql)  # only parses: for the message with its marks
        except duckdb.Error as error:
            raise _refused(text, duckdb_words(error)) from error
        is_one = [statement.type for statement in statements] == [duckdb.StatementType.SELECT]
        raise _refused(text, str(answer.get("error_message")) if is_one else "more than one statement")
    empty = _tree(connection, "SELECT 1")["statements"][0]
    if len(answer["statements"]) != 1:
        raise _refused(text, "more than one statement")
    (statement,) = answer["statements"]
    node, nothing = statement["node"], empty["node"]
    if node | {"select_list": None} != nothing | {"select_list": None}:
        raise _refused(text, "clauses such as FROM, ORDER BY or UNION are not allowed in a condition")
    if len(node["select_list"]) != 1 or node["select_list"][0]["alias"]:
        raise _refused(text, "more than one expression, or one with a name (AS)")
    return node


def _tree(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    ((found,),) = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    return _without_places(json.loads(found))


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(inner) for key, inner in value.items() if not key.startswith("query_location")}
    return [_without_places(inner) for inner in value] if isinstance(value, list) else value


def _checked(text: str, expression: Any) -> Iterator[tuple[str, ...]]:
    """The columns named in a tree of which everything is allowed."""
    todo = [expression]
    while todo:
        item = todo.pop()
        todo += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        kind = item.get("class") if isinstance(item, dict) else None
        if kind is not None and kind not in _EXPRESSIONS:
            raise _refused(
                text, f"{_REFUSED.get(kind, kind.lower())} is not allowed in a condition",
                expected="columns, constants, operators and functions of one row",
            )  # fmt: skip
        if kind == "FUNCTION":
            _check_function(text, item)
        if kind == "COLUMN_REF":
            yield tuple(item["column_names"])


def _check_function(text: str, item: dict[str, Any]) -> None:
    name = item["function_name"].lower()
    if name not in FUNCTIONS or item.get("schema") or item.get("catalog") or item.get("filter") or item.get("distinct"):
        raise _refused(
            text, f"the function {item['function_name']} is not allowed in a condition",
            expected="operators, and the functions of one row that docs/shortlist.md lists",
            fix=nearest(name, FUNCTIONS) or None,
        )  # fmt: skip


def _joined_by_and(expression: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if expression["type"] == "CONJUNCTION_AND":
        for child in expression["children"]:
            yield from _joined_by_and(child)
    else:
        yield expression


def _sql(connection: duckdb.DuckDBPyConnection, select: dict[str, Any], expression: dict[str, Any]) -> str:
    statement = {"node": select | {"select_list": [expression]}, "named_param_map": []}
    tree = json.dumps({"error": False, "statements": [statement]})
    ((sql,),) = connection.execute("SELECT json_deserialize_sql(?)", [tree]).fetchall()
    return sql.removeprefix("SELECT ")


def _refused(text: str, problem: str, *, expected: str | None = None, fix: str | None = None) -> ConfigError:
    shown = text if len(text) <= 200 else text[:200] + " …"
    return ConfigError(
        f"shortlist.where: {problem}", got=shown.encode("utf-8", "backslashreplace").decode(),
        expected=expected or "one condition in SQL, such as time_of_day = 'night' AND speed_kmh > 5", fix=fix,
    )  # fmt: skip
