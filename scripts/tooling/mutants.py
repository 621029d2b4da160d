"""Mutants of a C++ file: copies of its text with one small change each, which the tests of that file should notice.

The changes are made to the text, as clang-format leaves it: what is between spaces is a binary operator. Some mutants
do not compile, which costs little. Comments, strings, what the preprocessor reads, assertions and declarations stay as
they are.
"""

from __future__ import annotations

import bisect
import pathlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Mutant:
    """One change. `old` and `new` are the lines that it is in, as one line: they name it wherever it moves to."""

    line: int
    old: str
    new: str
    text: str = field(repr=False, compare=False)
    """The whole file, changed."""
    ordinal: int = 1
    """The how manyth it is of those in its file that have the same lines."""

    @property
    def name(self) -> tuple[str, str, int]:
        return self.old, self.new, self.ordinal


SWAPPED = {
    "==": "!=",
    "!=": "==",
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "&&": "||",
    "||": "&&",
    "&": "|",
    "|": "&",
    "+": "-",
    "-": "+",
    "+=": "-=",
    "-=": "+=",
}
BINARY = re.compile(r"(?<= )(?:[=!<>+-]=|&&|\|\||[<>&|+-])(?=\s)")
STEP = re.compile(r"\+\+|--")
TRUTH = re.compile(r"\b(?:true|false)\b")
NUMBER = re.compile(r"(?<![\w.'])(?<! < )(?<! >= )\d+(?=[uUlLzZ]*\b(?!['.]))")
CONDITION = re.compile(r"\b(?:if|while) \(")
CHOICE = re.compile(r"(?<= )\?(?=\s)")
RETURN = re.compile(r"\breturn ([^;{}]+);")
COMPARED = re.compile(r"(?:(?!&& |\|\| | [=!]= ).)+ [=!]= (?:(?!&& |\|\| | [=!]= ).)+")
LITERAL = re.compile(r"true|false|nullptr|0")
QUIET = re.compile(
    r"""//[^\n]*|/\*.*?\*/|R"\((?:.*?)\)"|"(?:\\.|[^"\\\n])*"|(?<![\w'])'(?:\\.|[^'\\\n])+'"""
    r"""|\[\[.*?\]\]|^[ ]*\#(?:[^\n]*\\\n)*[^\n]*""",
    re.DOTALL | re.MULTILINE,
)
OTHERWISE = re.compile(r"^[ ]*#else.*?(?=^[ ]*#endif)", re.DOTALL | re.MULTILINE)
ASSERTION = re.compile(r"\b(?:static_)?assert\(")
DECLARATION = re.compile(
    r"^[^\n]*(?:= (?:delete|default);|\boperator\b|^\s*(?:using|namespace|friend|template) )[^\n]*", re.MULTILINE
)
# What begins a statement that is neither an expression nor a jump.
OTHER_STATEMENT = re.compile(
    r"(?:return|if|for|while|do|switch|case|default|throw|else|using|try|catch|goto|const|constexpr|static|auto|struct)\b"
)
# A type, and a name behind it.
NAMED = re.compile(r"(?:unsigned |struct )?[\w:]+(?:<.*>)?(?: |[&*]+ )[*&]*\w+(?: =|\{|\(|;|\[)")
JUMP = re.compile(r"(?:break|continue|return);")
NO_BODY = re.compile(r"\b(?:for|while) \([^{}]*\)\s*continue;$")
HEAD = re.compile(r"\s*(?:else\s+)?(?:if|for|while|switch)\b")
BEFORE = re.compile(r"\s*(?:else\s+|(?:case [\w:]+|default):\s+)?")
SCOPE = re.compile(r"\b(?:class|struct|enum|union|namespace|extern)\b")
BODY = re.compile(
    r"(?:\)|\] |\bconst|\bnoexcept|\boverride|\belse|\bdo|\btry|-> [\w:*& ]+|\bfinal)\s*$|\) : .*$", re.DOTALL
)


def mutants(text: str) -> list[Mutant]:
    """The mutants of a file with that text, in its order."""
    code = blank(text)
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for begin, end, change in sorted({*changes(code)}):
        if text[begin:end] == change:
            continue
        first = bisect.bisect_right(starts, begin) - 1
        last = text.find("\n", max(begin, end - 1))
        old = " ".join(text[starts[first] : last].split())
        new = " ".join((text[starts[first] : begin] + change + text[end:last]).split())
        seen[old, new] += 1
        found.append(Mutant(first + 1, old, new, text[:begin] + change + text[end:], seen[old, new]))
    return found


def blank(text: str) -> str:
    """The text with spaces in place of all that is not to be changed."""

    def spaces(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    # No alternative is compiled where the tests are.
    code = OTHERWISE.sub(spaces, text)
    code = QUIET.sub(spaces, code)
    code = DECLARATION.sub(spaces, code)
    for match in reversed([*ASSERTION.finditer(code)]):
        end = closing(code, match.end() - 1) + 1
        code = code[: match.start()] + re.sub(r"[^\n]", " ", code[match.start() : end]) + code[end:]
    return code


def closing(code: str, position: int) -> int:
    """Where the bracket is closed that is opened at that position."""
    depth = 0
    for i in range(position, len(code)):
        depth += (code[i] in "([{") - (code[i] in ")]}")
        if depth == 0:
            return i
    raise ValueError(f"a bracket is not closed: {code[position : position + 40]}")


def changes(code: str) -> Iterator[tuple[int, int, str]]:
    """Where each change begins and ends, and what stands there then."""
    for match in BINARY.finditer(code):
        yield *match.span(), SWAPPED[match[0]]
    for match in STEP.finditer(code):
        yield *match.span(), {"++": "--", "--": "++"}[match[0]]
    for match in TRUTH.finditer(code):
        yield *match.span(), {"true": "false", "false": "true"}[match[0]]
    for match in NUMBER.finditer(code):
        yield *match.span(), str(int(match[0]) + 1)
    for match in CONDITION.finditer(code):
        end = closing(code, match.end() - 1)
        begin = max(match.end(), code.rfind(";", match.end(), end) + 1)
        begin += len(code[begin:end]) - len(code[begin:end].lstrip())
        if not COMPARED.fullmatch(code[begin:end]):  # that one becomes its contrary anyway
            yield begin, end, f"!({code[begin:end]})"
    for match in CHOICE.finditer(code):
        # Binds less than what is compared, and more than what is chosen from.
        if not COMPARED.fullmatch(re.split(r"[{=;]\s|return ", code[: match.start() - 1])[-1].strip()):
            yield match.start(), match.end(), "== false ?"
    for match in RETURN.finditer(code):
        if not LITERAL.fullmatch(match[1]):
            yield *match.span(1), "{}"
    for begin, end in statements(code):
        yield begin, end, ";"


def statements(code: str) -> Iterator[tuple[int, int]]:
    """Where the statements in bodies of functions are that can be left out: expressions and jumps."""
    scopes: list[tuple[str, int]] = []  # what each open bracket is for, and where the statement begins that it is in
    begin = 0  # of the present statement
    for i, character in enumerate(code):
        if character == "{":
            before = code[begin:i]
            is_body = bool(BODY.search(before) or not before.strip()) and not SCOPE.match(before.strip())
            scopes.append(("body" if is_body else "scope" if SCOPE.search(before) else "value", begin))
        elif character in "([":
            scopes.append((character, begin))
        closed = scopes.pop() if character in ")]}" and scopes else ("", 0)
        inmost = scopes[-1][0] if scopes else "scope"
        if character == "}" and inmost not in {"body", "scope"}:
            begin = closed[1]  # a lambda's end, in a statement
        elif ends_before(code[begin:i], character, inmost, closed[0]):
            begin = i + 1
        elif character == ";" and inmost in {"body", "scope"}:
            start = BEFORE.match(code, begin).end()  # type: ignore[union-attr]  # it matches nothing, too
            statement = code[start : i + 1]
            has_effect = not NO_BODY.search(code, code.rfind("\n", 0, i) + 1, i + 1)
            if inmost == "body" and has_effect and (JUMP.fullmatch(statement) or is_expression(statement)):
                yield start, i + 1
            begin = i + 1


def ends_before(text: str, character: str, inmost: str, closed: str) -> bool:
    """Whether something else begins behind that bracket: of a head, or of a body."""
    if character == ")":
        return inmost == "body" and bool(HEAD.match(text))
    return character in "{}" and "value" not in {inmost, closed}


def is_expression(statement: str) -> bool:
    return (
        bool(re.match(r"[\w(*+:-]", statement)) and not OTHER_STATEMENT.match(statement) and not NAMED.match(statement)
    )


# -- those that no test can notice -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survivor:
    """What scripts/mutants.survivors says of a mutant."""

    file: str
    name: tuple[str, str, int]
    reason: str


def survivors(text: str) -> list[Survivor]:
    """The entries of the file: what they say is at its top."""
    found = []
    for paragraph in re.split(r"\n\s*\n", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)):
        if not paragraph.strip():
            continue
        file, *lines = paragraph.strip().splitlines()
        names = []
        while len(lines) > 1 and lines[0].startswith("- "):
            new = re.fullmatch(r"\+(?P<ordinal>\d*)(?: (?P<text>.*))?", lines[1])
            if not new:
                raise ValueError(f"{file}: what becomes of {lines[0]}?")
            names.append((lines[0][2:], new["text"] or "", int(new["ordinal"] or 1)))
            del lines[:2]
        reason = " ".join(" ".join(lines).split())
        if not names or not reason:
            raise ValueError(f"an entry has a file, - and + lines, and a reason: {paragraph}")
        found += [Survivor(file, name, reason) for name in names]
    return found


def read_survivors(path: pathlib.Path) -> list[Survivor]:
    return survivors(path.read_text())
