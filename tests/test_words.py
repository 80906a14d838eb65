"""Plain words in names, comments, messages and pages; short docstring summaries."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = ("nbtasks", "tests", "benchmarks")
PROSE = (*CODE, "docs", "notebooks", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml")
SUFFIXES = frozenset({".py", ".ipy", ".md", ".css", ".js", ".html", ".ipynb", ".toml", ""})

EXCEPTIONS = {
    "tests/test_words.py": "has the words that it looks for",
}
"""Files in which the words are not looked for, and why."""

PLAIN = {
    r"anew": "again",
    r"thrice": "three times",
    r"who(?:m)?ever": "a name for the role, such as caller or user",
    r"(?:some|no)body": "a name for the role, such as caller or user",
    r"so many": "the number",
    r"(?:goes|went) on": "continues, is still running",
    r"strik(?:e|es|ing)|struck": "interrupt, raise",
    r"doz(?:e|es|ed|ing)": "wait, sleep",
    r"rous(?:e|es|ed|ing)": "wake",
    r"bur(?:y|ies|ied)": "release, remove",
    r"beds?": "lock, condition",
    r"(?:take[sn]?|took|taking) up again|(?:take[sn]?|took|taking) up the \w+ \w+ .{,40}again": "restore, resume",
    r"(?:giv(?:e|es|en|ing)|gave) notice": "notify",
    r"must not know|know(?:s|n)? nothing of": "a contract of the import linter",
    r"houses?|rooms?": "package, module, memory, place",
}
"""Words that are not understood at first reading, and what says it plainly."""

NOUNS = frozenset({"told", "said", "asked", "met"})
"""Participles that are no names: of whom, and what?"""

_WORDS = re.compile("|".join(rf"\b(?P<w{n}>{words})\b" for n, words in enumerate(PLAIN)), re.IGNORECASE)
_INSTEAD = list(PLAIN.values())


def files(*roots: str) -> list[str]:
    """The text files below these folders, or at these paths."""
    paths = [path for root in roots for path in (ROOT / root, *(ROOT / root).rglob("*"))]
    names = [path.relative_to(ROOT).as_posix() for path in paths if path.is_file() and path.suffix in SUFFIXES]
    return sorted(name for name in names if "__pycache__" not in name and "/." not in name)


def text_of(name: str) -> str:
    """The text of a file; of a notebook its cells, which its outputs follow."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if not name.endswith(".ipynb"):
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


def unplain(text: str) -> Iterator[tuple[int, str, str]]:
    """The words that are to be replaced, each with its line and with what says it plainly."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", text)  # of names
    words = re.sub(r"\n[ \t]*#:?", "\n", words)  # a comment runs over several lines
    words = re.sub(r"[ \t]*\n[ \t]*", "\n", words)
    spaced = words.replace("\n", " ")
    for match in _WORDS.finditer(spaced):
        number = next(n for n in range(len(PLAIN)) if match[f"w{n}"])
        yield words.count("\n", 0, match.start()) + 1, match[0], _INSTEAD[number]


def nouns(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The participles that are names in this code."""
    for node in ast.walk(tree):
        for field in ("id", "attr", "name", "arg", "asname"):
            name = getattr(node, field, None)
            if isinstance(name, str) and name.strip("_").lower() in NOUNS:
                yield getattr(node, "lineno", 1), name


def summaries(tree: ast.Module) -> Iterator[tuple[int, str, int, bool]]:
    """Of each docstring the line, its first line, the limit of that, and whether the summary ends there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (ast.get_docstring(node) or "").split("\n")
            limit = 80 if isinstance(node, ast.Module | ast.ClassDef) else 100
            yield getattr(node, "lineno", 1), lines[0], limit, lines[1:2] in ([], [""])


def trees() -> Iterator[tuple[str, ast.Module]]:
    """The Python files and their code."""
    for name in files(*CODE):
        if name.endswith(".py"):
            yield name, ast.parse(text_of(name))


def test_words_are_plain() -> None:
    names = [name for name in files(*PROSE) if name not in EXCEPTIONS]
    assert len(names) > 500
    found = [
        f"{name}:{line}: {word!r}; instead: {plain}" for name in names for line, word, plain in unplain(text_of(name))
    ]
    assert found == []


def test_names_are_no_participles() -> None:
    assert [f"{name}:{line}: {noun}" for name, tree in trees() for line, noun in nouns(tree)] == []


def test_docstrings_have_a_short_first_line() -> None:
    found = [(name, *summary) for name, tree in trees() for summary in summaries(tree)]
    assert len(found) > 1_000
    too_long = [(name, line, len(first), limit) for name, line, first, limit, _ in found if len(first) > limit]
    assert too_long == []
    assert [f"{name}:{line}: {first}" for name, line, first, _, ends in found if not ends] == []


def test_exceptions_exist_and_are_needed() -> None:
    assert [name for name in EXCEPTIONS if not list(unplain(text_of(name)))] == []


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("# It disturbs nobody.", 1, "nobody"),
        ("def test_it_harms_nobody(): ...", 1, "nobody"),
        ("class RouseHandler: ...", 1, "Rouse"),
        ("x = 1\n    # There are so\n    # many of them.", 2, "so many"),
        ('"""A task that goes\n    on."""', 1, "goes on"),
        ("raise ValueError('Somebody else has it')", 1, "Somebody"),
        ("It takes up again", 1, "takes up again"),
        ("_BED = threading.Lock()", 1, "BED"),
    ],
)
def test_a_word_is_found(text: str, line: int, word: str) -> None:
    assert [(at, found) for at, found, _ in unplain(text)] == [(line, word)]


@pytest.mark.parametrize("text", ["embedded = 1", "a strikethrough", "go_on = True", "# It is built again.", "heroes"])
def test_plain_words_are_not_found(text: str) -> None:
    assert list(unplain(text)) == []


def test_participles_and_long_first_lines_are_found() -> None:
    tree = ast.parse('class C:\n    """A summary\n    over two lines."""\n    def f(self, told): self._said = told\n')
    assert sorted(nouns(tree)) == [(4, "_said"), (4, "told"), (4, "told")]
    assert ("A summary", 80, False) in [found[1:] for found in summaries(tree)]
