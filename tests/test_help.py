"""What help() shows of the loop, and what a traceback shows of it."""

import asyncio
import inspect
import pydoc
import re
from traceback import walk_tb

import pytest

import zloop

METHODS = [name for name in dir(asyncio.AbstractEventLoop) if not name.startswith("_")]


@pytest.fixture(scope="module")
def help_text():
    return pydoc.plaintext.document(zloop.Loop)


def test_help_shows_each_method_once(help_text):
    lines = help_text.splitlines()
    for name in METHODS:
        shown = [line for line in lines if line.startswith((f" |  {name}(", f" |  async {name}("))]
        assert len(shown) == 1, (name, shown)


def test_help_shows_the_methods_as_the_loops_own(help_text):
    _, _, inherited = help_text.partition(" inherited from ")
    assert re.findall(r"^ \|  (?:async )?([a-z]\w*)\(", inherited, re.MULTILINE) == []


def test_help_shows_nothing_of_cython(help_text):
    assert "__pyx_" not in help_text


@pytest.mark.parametrize("name", METHODS)
def test_each_public_method_is_documented(name):
    method = getattr(zloop.Loop, name)
    text = inspect.getdoc(method)
    assert text
    assert text != inspect.getdoc(getattr(asyncio.AbstractEventLoop, name))


@pytest.mark.parametrize(
    "name", ["create_connection", "create_server", "create_unix_connection", "create_unix_server", "sendfile"]
)
def test_a_method_with_many_parameters_says_what_each_of_them_is(name):
    method = getattr(zloop.Loop, name)
    parameters = list(inspect.signature(method).parameters)[1:]
    text = inspect.getdoc(method)
    assert [parameter for parameter in parameters if parameter not in text] == []


def functions_in(traceback):
    return [frame.f_code.co_name for frame, _ in walk_tb(traceback)]


def test_the_traceback_of_a_failed_callback_has_one_frame_of_the_loop_which_says_that_it_runs_it(loop):
    def fail():
        raise ValueError("the callback's own")

    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    loop.call_soon(fail)
    loop.call_later(0, fail)
    loop.call_soon_threadsafe(fail)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert len(contexts) == 3
    for context in contexts:
        first, *rest = functions_in(context["exception"].__traceback__)
        assert first.rpartition(".")[2] in ("run", "_run")
        assert rest == ["fail"]
