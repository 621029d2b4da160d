"""scripts/tooling/mutants.py: what is changed in a C++ file, and what is said of the mutants that survive."""

import pathlib
import textwrap

import pytest
from support import modules_of

SCRIPTS = pathlib.Path(__file__).parents[1] / "scripts"


@pytest.fixture
def mutants():
    """The module; it is gone after the test."""
    if not (SCRIPTS / "tooling").is_dir():
        pytest.skip("the sources are not all there")
    with modules_of(SCRIPTS) as import_module:
        yield import_module("tooling.mutants")


@pytest.fixture
def mutate():
    """scripts/mutate.py, as a module."""
    if not (SCRIPTS / "mutate.py").is_file():
        pytest.skip("the sources are not all there")
    with modules_of(SCRIPTS) as import_module:
        yield import_module("mutate")


@pytest.fixture
def changed(mutants):
    """What becomes of the body of a function."""
    return lambda body: [mutant.new for mutant in mutants.mutants(f"void f() {{\n{body}\n}}\n")]


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("x = a == b;", ["x = a != b;", ";"]),
        ("x = a != b;", ["x = a == b;", ";"]),
        ("x = a < b;", ["x = a <= b;", ";"]),
        ("x = a <= b;", ["x = a < b;", ";"]),
        ("x = a > b;", ["x = a >= b;", ";"]),
        ("x = a >= b;", ["x = a > b;", ";"]),
        ("x = a && b;", ["x = a || b;", ";"]),
        ("x = a || b;", ["x = a && b;", ";"]),
        ("x = a & b;", ["x = a | b;", ";"]),
        ("x = a | b;", ["x = a & b;", ";"]),
        ("x = a + b;", ["x = a - b;", ";"]),
        ("x = a - b;", ["x = a + b;", ";"]),
        ("x += a;", ["x -= a;", ";"]),
        ("x -= a;", ["x += a;", ";"]),
        ("++x;", ["--x;", ";"]),
        ("x[i--] = a;", ["x[i++] = a;", ";"]),
        ("x = true;", ["x = false;", ";"]),
        ("x = false;", ["x = true;", ";"]),
        ("x = 9U;", ["x = 10U;", ";"]),
        ("return a;", ["return {};"]),
        ("return 0;", ["return 1;"]),
        ("return true;", ["return false;"]),
        ("return;", [";"]),
        ("call(a, b);", [";"]),
        ("a->b.call();", [";"]),
        ("if (a) call();", ["if (!(a)) call();", "if (a) ;"]),
        (
            "if (const int a = g(); a.b()) call();",
            ["if (const int a = g(); !(a.b())) call();", "if (const int a = g(); a.b()) ;"],
        ),
        ("while (a || b) continue;", ["while (!(a || b)) continue;", "while (a && b) continue;"]),
        ("for (;;) break;", ["for (;;) ;"]),
        ("const int x = a ? b : c;", ["const int x = a == false ? b : c;"]),
        ("x({.a = b, .c = [] { call(); }});", [";", "x({.a = b, .c = [] { ; }});"]),
    ],
)
def test_a_line_is_changed_in_one_place_at_a_time(changed, line, becomes):
    assert sorted(changed(line)) == sorted(becomes)


@pytest.mark.parametrize("line", ["if (a == b) {}", "if (a != b) {}"])
def test_a_comparison_that_becomes_its_contrary_is_not_negated_besides(changed, line):
    assert len(changed(line)) == 1


@pytest.mark.parametrize("line", ["if (a < 0) {}", "if (a >= 0) {}"])
def test_a_bound_that_is_moved_by_its_operator_is_not_moved_by_its_number(changed, line):
    assert [new for new in changed(line) if "1" in new] == []


@pytest.mark.parametrize(
    "text",
    [
        "// a == b; return true;",
        "/* a == b;\n call(); */",
        '#include "a + b.hpp"',
        "#if A == 1",
        "#define A \\\n  call(1 + 1)",
        'const char* text = "a == b // + 1";',
        "const char letter = '+';",
        "assert(a == b && c(1));",
        "static_assert(sizeof(a) == 8);",
        "int value;",
        "std::vector<Entry> entries;",
        "const std::uint64_t bits = mask;",
        "Watcher& watcher = other;",
        "auto&& x = a->b;",
        "template <typename T>",
        "using Name = Other<true>;",
        "std::unique_ptr<T> made{};",
        "const auto x = 0xFFFF'FFFF;",
    ],
)
def test_what_is_no_code_or_declares_stays_as_it_is(changed, text):
    assert changed(text) == []


def test_a_class_is_no_body(mutants):
    text = textwrap.dedent(
        """\
        namespace zloop {
        class A final : private B {
         public:
          A();
          A(const A&) = delete;
          bool operator==(const A&) const { return a_ == 1; }
          void f() noexcept { call(); }
          int a_ = 1;
        #ifdef B
          int b_ = 1;
        #else
          int c_ = 1;
        #endif
        };
        }  // namespace zloop
        """
    )
    assert [(mutant.line, mutant.new) for mutant in mutants.mutants(text)] == [
        (7, "void f() noexcept { ; }"),
        (8, "int a_ = 2;"),
        (10, "int b_ = 2;"),
    ]


def test_a_mutant_is_the_whole_file_with_one_change(mutants):
    text = "int f() {\n  g(a,\n    b);\n  return c;\n}\n"
    first, second = mutants.mutants(text)
    assert (first.line, first.old, first.new) == (2, "g(a, b);", ";")
    assert first.text == "int f() {\n  ;\n  return c;\n}\n"
    assert second.text == "int f() {\n  g(a,\n    b);\n  return {};\n}\n"


def test_mutants_with_the_same_lines_are_told_apart(mutants):
    names = [mutant.name for mutant in mutants.mutants("void f() {\n  g();\n  h(a);\n  g();\n}\n")]
    assert names == [("g();", ";", 1), ("h(a);", ";", 1), ("g();", ";", 2)]


def test_an_entry_says_why_its_mutants_survive(mutants):
    text = "# A comment.\n\na.cpp\n- g();\n+ ;\n- g();\n+2 ;\nNobody\nsees it.\n\nb.cpp\n- h(- 1);\n+ h(+ 1);\nWhy.\n"
    assert mutants.survivors(text) == [
        mutants.Survivor("a.cpp", ("g();", ";", 1), "Nobody sees it."),
        mutants.Survivor("a.cpp", ("g();", ";", 2), "Nobody sees it."),
        mutants.Survivor("b.cpp", ("h(- 1);", "h(+ 1);", 1), "Why."),
    ]


@pytest.mark.parametrize("text", ["a.cpp\n- g();\n+ ;\n", "a.cpp\nWhy.\n", "a.cpp\n- g();\nWhy.\n"])
def test_an_entry_is_refused_that_lacks_something(mutants, text):
    with pytest.raises(ValueError, match=r"a\.cpp"):
        mutants.survivors(text)


def test_every_listed_survivor_is_a_mutant_of_a_file_that_is_tried(mutate):
    listed = mutate.read_survivors(mutate.SURVIVORS)
    assert {entry.file for entry in listed} <= set(mutate.TESTS)
    names = {
        file: {mutant.name for mutant in mutate.mutants((mutate.ROOT / file).read_text())} for file in mutate.TESTS
    }
    assert [entry for entry in listed if entry.name not in names[entry.file]] == []
    assert len({(entry.file, entry.name) for entry in listed}) == len(listed)


def test_every_file_that_is_tried_has_tests(mutate):
    assert all(mutate.files_of_tests(file, mutate.ROOT) for file in mutate.TESTS)


def test_a_run_is_judged_by_what_is_listed(mutate, monkeypatch, tmp_path):
    monkeypatch.setattr(mutate, "SURVIVORS", tmp_path / "survivors")
    mutate.SURVIVORS.write_text("a.cpp\n- g();\n+ ;\nWhy.\n\na.cpp\n- h();\n+ ;\nWhy.\n\nb.cpp\n- i();\n+ ;\nWhy.\n")
    seen = {("g();", ";", 1): "survived", ("h();", ";", 1): "killed", ("g();", ";", 2): "survived"}
    assert mutate.judge({"a.cpp": seen}) == [
        "not listed, and survives:\na.cpp\n- g();\n+2 ;",
        "listed, and no survivor:\na.cpp\n- h();\n+ ;",
    ]
    assert mutate.judge({"b.cpp": {("i();", ";", 1): "survived"}}) == []


def test_what_survived_is_tried_again_when_its_tests_have_changed(mutate, monkeypatch, tmp_path):
    monkeypatch.setattr(mutate, "OUTCOMES", tmp_path / "outcomes.json")
    outcomes = mutate.Outcomes()
    outcomes.add("one", "tests", "survived")
    outcomes.add("two", "tests", "killed")
    outcomes = mutate.Outcomes()
    assert [outcomes.of(key, "tests") for key in ("one", "two", "three")] == ["survived", "killed", None]
    assert [outcomes.of(key, "others") for key in ("one", "two")] == [None, "killed"]
