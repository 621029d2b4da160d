"""Tasks and what surrounds them: factories, the exception handler, asynchronous generators, the default executor."""

import asyncio
import concurrent.futures
import contextvars
import gc
import sys
import threading
import weakref

import pytest
from support import alike, assert_silent, outcome_of, resource_warnings, until

MARK = contextvars.ContextVar("MARK", default="unset")


async def value(result="value"):
    return result


def context_with(mark):
    context = contextvars.copy_context()
    context.run(MARK.set, mark)
    return context


# -- create_task and create_future ---------------------------------------------------------------------------------


@pytest.mark.zloop_only  # 3.13.2 was the first asyncio to do so
@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks run at once since 3.12")
def test_exception_of_a_task_that_ran_at_once_does_not_hold_the_task(loop, run):
    async def fail():
        raise ValueError

    async def scenario():
        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(fail())
        error, reference = task.exception(), weakref.ref(task)
        del task
        return type(error), reference()

    gc.disable()
    try:
        assert run(scenario()) == (ValueError, None)
    finally:
        gc.enable()


def test_tasks_and_futures_are_asyncios_own(loop, run):
    async def scenario():
        task = loop.create_task(value())
        return type(task), type(loop.create_future()), await task, task.get_loop()

    assert run(scenario()) == (asyncio.Task, asyncio.Future, "value", loop)


def test_create_task_keywords(loop, run):
    async def scenario():
        async def mark():
            return MARK.get()

        named = loop.create_task(mark(), name="named")
        placed = loop.create_task(mark(), context=context_with("given"))
        both = loop.create_task(mark(), name=7, context=context_with("both"))
        results = await asyncio.gather(named, placed, both)
        return results, named.get_name(), both.get_name()

    assert run(scenario()) == (["unset", "given", "both"], "named", "7")


@pytest.mark.parametrize(("module", "name"), [(asyncio.tasks, "Task"), (asyncio.futures, "Future")])
def test_classes_put_in_place_of_asyncios(loop, run, monkeypatch, module, name):
    """What they do to the keywords that they get is forgotten at the next call."""
    seen = []

    class Replaced(getattr(module, name)):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, **keywords)
            seen.append((keywords.pop("loop"), "more" in keywords))
            keywords["more"] = True

    async def scenario():
        monkeypatch.setattr(module, name, Replaced)
        for _ in range(2):
            future = loop.create_future() if name == "Future" else loop.create_task(value())
            assert type(future) is Replaced
            future.cancel()
        monkeypatch.undo()

    run(scenario())
    assert seen == [(loop, False)] * 2


@pytest.mark.parametrize("running", ["another", "none"])
def test_loop_that_is_asked_is_the_one(loop, run, running):
    """Whatever loop runs, or is said to."""
    other = asyncio.SelectorEventLoop()

    async def scenario():
        asyncio._set_running_loop(other if running == "another" else None)
        try:
            return loop.create_future(), loop.create_task(value())
        finally:
            asyncio._set_running_loop(loop)

    try:
        future, task = run(scenario())
        assert (future.get_loop(), task.get_loop()) == (loop, loop)
        assert run(asyncio.wait_for(task, 10)) == "value"
    finally:
        other.close()


def test_task_for_a_loop_that_is_yet_to_run(loop, run):
    task, future = loop.create_task(value()), loop.create_future()
    assert (future.get_loop(), task.get_loop()) == (loop, loop)
    assert run(asyncio.wait_for(task, 10)) == "value"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="eager_start is new in 3.14")
def test_eager_start(loop, run):
    async def scenario():
        ran = []

        async def note(what):
            ran.append(what)
            return what

        eager = loop.create_task(note("eager"), eager_start=True)
        lazy = loop.create_task(note("lazy"), eager_start=False)
        before_a_turn = list(ran)
        return before_a_turn, eager.done(), lazy.done(), await eager, await lazy

    assert run(scenario()) == (["eager"], True, False, "eager", "lazy")


def test_create_task_of_what_is_no_coroutine(same_as_asyncio):
    def scenario(loop):
        return [outcome_of(loop.create_task, thing) for thing in (None, 42, print, loop.create_future())]

    assert {outcome[1] for outcome in same_as_asyncio(scenario).returned} == {TypeError}


def test_create_task_with_unknown_keyword(same_as_asyncio):
    def scenario(loop):
        coroutine = value()
        outcome = outcome_of(loop.create_task, coroutine, no_such_keyword=1)
        coroutine.close()
        return outcome[:2]

    assert same_as_asyncio(scenario).returned == ("raised", TypeError)


def test_tasks_are_known_to_asyncio(loop, run):
    async def scenario():
        other = loop.create_task(asyncio.sleep(3600))
        known = asyncio.all_tasks(), asyncio.current_task()
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        return other in known[0], known[1] in known[0], known[1] is asyncio.current_task()

    assert run(scenario()) == (True, True, True)


def test_exception_of_a_task_that_nobody_awaits_is_reported(same_as_asyncio):
    async def fail():
        raise LookupError("nobody listens")

    def scenario(loop):
        loop.create_task(fail(), name="failing")
        loop.call_later(0.001, loop.stop)
        loop.run_forever()

    ((_level, message, exception),) = same_as_asyncio(scenario).logged
    assert message.startswith("Task exception was never retrieved")
    assert exception == (LookupError, "nobody listens")


def test_pending_task_of_a_closed_loop_is_reported(same_as_asyncio):
    def scenario(loop):
        loop.create_task(asyncio.sleep(3600), name="sleeper")
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        loop.close()

    ((_level, message, _exception),) = same_as_asyncio(scenario).logged
    assert message.startswith("Task was destroyed but it is pending!")


# -- task factories ------------------------------------------------------------------------------------------------


def test_task_factory_is_set_asked_and_reset(loop, run):
    made = []

    def factory(loop, coro, **kwargs):
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **kwargs)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    coroutine = value()
    assert loop.run_until_complete(coroutine) == "value"
    assert made == [coroutine]
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    assert loop.run_until_complete(value()) == "value"
    assert len(made) == 1


def test_task_factory_must_be_callable(same_as_asyncio):
    assert same_as_asyncio(lambda loop: loop.set_task_factory(42)).raised is TypeError


def test_task_factory_gets_what_the_caller_gave_and_nothing_else(same_as_asyncio):
    """Which keywords reach a factory differs from version to version; some factories take (loop, coro) only."""

    def scenario(loop):
        calls = []
        context = contextvars.copy_context()

        def factory(*args, **kwargs):
            calls.append((len(args), args[0] is loop, sorted(kwargs.items(), key=str)))
            kwargs.pop("name", None)
            kwargs.pop("eager_start", None)
            kwargs.pop("context", None)
            return asyncio.Task(args[1], loop=loop)

        loop.set_task_factory(factory)
        variants = [{}, {"name": "named"}, {"context": context}, {"name": "both", "context": context}]
        variants += [{"name": None}, {"context": None}]
        if sys.version_info >= (3, 14):
            variants += [{"eager_start": True}, {"eager_start": None}]
        names = []
        for keywords in variants:
            task = loop.create_task(value(), **keywords)
            loop.run_until_complete(task)
            if keywords.get("name"):  # without one, some versions of asyncio name the task "None"
                names.append(task.get_name())
            calls[-1] = (*calls[-1], [item is context for _key, item in calls[-1][2]])
        return [alike(repr(call)) for call in calls], names

    outcome = same_as_asyncio(scenario)
    assert outcome.raised is None


def test_factory_of_two_parameters_works(loop):
    loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
    assert loop.run_until_complete(value()) == "value"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_task_factory(loop, run):
    async def scenario():
        async def chain(depth):
            return depth if depth == 0 else await loop.create_task(chain(depth - 1)) + depth

        loop.set_task_factory(asyncio.eager_task_factory)
        task = loop.create_task(chain(10))
        return task.done(), task.result()

    assert run(scenario()) == (True, 55)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_task_that_has_to_wait(loop, run):
    async def scenario():
        loop.set_task_factory(asyncio.eager_task_factory)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(0.001, "slept"))
            waited = not task.done()
        return waited, task.result()

    assert run(scenario()) == (True, "slept")


# -- asyncio on top ------------------------------------------------------------------------------------------------


def test_primitives_of_asyncio_work_together(loop, run):
    async def scenario():
        queue = asyncio.Queue(2)
        lock = asyncio.Lock()
        taken = []

        async def produce():
            for number in range(20):
                await queue.put(number)

        async def consume():
            while True:
                number = await queue.get()
                async with lock:
                    taken.append(number)
                queue.task_done()

        async with asyncio.TaskGroup() as group:
            consumers = [group.create_task(consume()) for _ in range(3)]
            await group.create_task(produce())
            await queue.join()
            for consumer in consumers:
                consumer.cancel()
        return taken

    assert run(scenario()) == list(range(20))


def test_timeouts_and_cancellation(loop, run):
    async def scenario():
        cleaned_up = []

        async def sleeper():
            try:
                await asyncio.sleep(3600)
            finally:
                cleaned_up.append(True)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await sleeper()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sleeper(), 0.001)
        done, pending = await asyncio.wait([loop.create_task(sleeper())], timeout=0.001)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return cleaned_up, done

    assert run(scenario()) == ([True] * 3, set())


# -- the exception handler -----------------------------------------------------------------------------------------


def test_exception_handler_is_set_asked_and_reset(loop):
    def handler(loop, context):
        pass

    assert loop.get_exception_handler() is None
    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


def test_exception_handler_must_be_callable(same_as_asyncio):
    assert same_as_asyncio(lambda loop: loop.set_exception_handler("text")).raised is TypeError


def test_exception_handler_gets_loop_and_context(loop):
    calls = []
    loop.set_exception_handler(lambda *args: calls.append(args))
    context = {"message": "hello", "anything": 1}
    assert loop.call_exception_handler(context) is None
    assert calls == [(loop, context)]


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"message": "told"},
        {"message": "", "exception": ValueError("broken")},
        {"message": "told", "exception": ValueError("broken"), "future": "F", "transport": [1], "a": None},
    ],
    ids=["empty", "message", "exception", "everything"],
)
def test_default_handler_logs_what_asyncio_logs(same_as_asyncio, context):
    outcome = same_as_asyncio(lambda loop: loop.call_exception_handler(context))
    assert len(outcome.logged) == 1
    assert same_as_asyncio(lambda loop: loop.default_exception_handler(context)) == outcome


def test_exception_in_the_exception_handler(same_as_asyncio):
    def handler(loop, context):
        raise ArithmeticError("the handler is broken, too")

    def scenario(loop):
        loop.set_exception_handler(handler)
        loop.call_exception_handler({"message": "told", "exception": ValueError("broken")})

    ((_level, message, _exception),) = same_as_asyncio(scenario).logged
    assert message.startswith("Unhandled error in exception handler")


def test_exception_in_an_overridden_default_handler(same_as_asyncio):
    def scenario(loop):
        class Broken(type(loop)):
            def default_exception_handler(self, context):
                raise ArithmeticError("broken")

        broken = Broken()
        try:
            broken.call_exception_handler({"message": "told"})
        finally:
            broken.close()

    ((_level, message, _exception),) = same_as_asyncio(scenario).logged
    assert message == "Exception in default exception handler"


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
def test_exit_leaves_through_the_exception_handler(loop, exception):
    def handler(loop, context):
        raise exception("leaving")

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    with pytest.raises(exception, match="leaving"):
        loop.run_forever()
    with pytest.raises(exception, match="leaving"):
        loop.call_exception_handler({"message": "told"})


def test_context_that_the_handler_runs_in(same_as_asyncio):
    """Since 3.12 it is that of the task, future or handle at fault."""

    def scenario(loop):
        marks = []
        loop.set_exception_handler(lambda loop, context: marks.append(MARK.get()))
        task = loop.create_task(value(), context=context_with("task"))
        loop.run_until_complete(task)
        loop.call_exception_handler({"message": "told", "task": task})
        loop.call_exception_handler({"message": "told", "future": task})
        loop.call_exception_handler({"message": "told", "future": loop.create_future()})
        loop.call_soon(lambda: 1 / 0, context=context_with("handle"))
        loop.call_later(0, lambda: 1 / 0, context=context_with("timer"))
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        return marks

    assert len(same_as_asyncio(scenario).returned) == 5


# -- asynchronous generators ---------------------------------------------------------------------------------------


def test_asynchronous_generators_are_shut_down(loop, run):
    ended = []

    async def count(name):
        try:
            while True:
                yield name
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    async def start():
        generators = [count("one"), count("two"), count("not started")]
        for generator in generators[:2]:
            await anext(generator)
        return generators

    generators = run(start())
    assert ended == []
    run(loop.shutdown_asyncgens())
    assert sorted(ended) == ["one", "two"]
    assert generators[0].ag_frame is None


def test_generator_that_is_forgotten_is_closed_by_its_loop(loop, run):
    ended = []

    async def count():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def scenario():
        async for _ in count():
            break
        await until(lambda: ended)

    run(scenario())
    assert ended == [True]


def test_generator_that_fails_to_close_is_reported(same_as_asyncio):
    kept = []

    async def stubborn():
        try:
            yield 1
        finally:
            raise LookupError("will not close")

    async def scenario(loop):
        kept.append(stubborn())
        await anext(kept[-1])
        await loop.shutdown_asyncgens()

    ((_level, message, exception),) = same_as_asyncio(scenario).logged
    assert message.startswith("an error occurred during closing of asynchronous generator <async_generator object")
    assert exception == (LookupError, "will not close")


def test_generator_started_after_the_shutdown_is_warned_of(loop, run):
    async def numbers():
        yield 1

    async def scenario():
        await loop.shutdown_asyncgens()
        generator = numbers()
        with resource_warnings() as texts:
            await anext(generator)
        await generator.aclose()
        return texts

    (text,) = run(scenario())
    assert text.startswith("asynchronous generator <async_generator object ")
    assert text.endswith("was scheduled after loop.shutdown_asyncgens() call")


def test_generator_hooks_are_there_while_the_loop_runs(loop, forever):
    def outer_finalizer(generator):
        pass

    hooks = []
    before = sys.get_asyncgen_hooks()
    try:
        sys.set_asyncgen_hooks(finalizer=outer_finalizer)
        loop.call_soon(lambda: hooks.append(sys.get_asyncgen_hooks()))
        loop.call_soon(loop.stop)
        forever()
        assert sys.get_asyncgen_hooks().finalizer is outer_finalizer
    finally:
        sys.set_asyncgen_hooks(*before)
    assert hooks[0].finalizer is not outer_finalizer
    assert callable(hooks[0].firstiter)


# -- executors -----------------------------------------------------------------------------------------------------


def test_default_executor_runs_functions_in_threads(loop, run):
    async def scenario():
        return await loop.run_in_executor(None, lambda *args: (args, threading.current_thread().name), 1, "two")

    arguments, thread_name = run(scenario())
    assert arguments == (1, "two")
    assert thread_name.startswith("asyncio_")


def test_exceptions_come_back_from_the_executor(loop, run):
    def fail():
        raise LookupError("in the thread")

    with pytest.raises(LookupError, match="in the thread"):
        run(loop.run_in_executor(None, fail))


def test_many_calls_into_the_executor(loop, run):
    async def scenario():
        return await asyncio.gather(*(asyncio.to_thread(pow, number, 2) for number in range(200)))

    assert run(scenario()) == [number**2 for number in range(200)]


def test_given_executor_is_used(loop, run):
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="given") as executor:
        name = run(loop.run_in_executor(executor, lambda: threading.current_thread().name))
    assert name.startswith("given_")


def test_default_executor_can_be_replaced(loop, run):
    executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="replaced")
    loop.set_default_executor(executor)
    assert run(loop.run_in_executor(None, lambda: threading.current_thread().name)).startswith("replaced_")
    run(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError):  # it was shut down with the loop's
        executor.submit(print)


def test_default_executor_must_be_of_threads(same_as_asyncio):
    assert same_as_asyncio(lambda loop: loop.set_default_executor(print)).raised is TypeError


def test_executor_after_its_shutdown(same_as_asyncio):
    async def scenario(loop):
        await loop.run_in_executor(None, int)
        await loop.shutdown_default_executor()
        await loop.shutdown_default_executor()
        return outcome_of(loop.run_in_executor, None, int)

    assert same_as_asyncio(scenario).returned == ("raised", RuntimeError, "Executor shutdown has been called")


def test_closing_the_loop_lets_the_threads_end(loop, run):
    with assert_silent(loop):
        assert run(loop.run_in_executor(None, int)) == 0
        loop.close()


def test_shutdown_waits_for_running_functions(loop, run):
    release, ended = threading.Event(), []

    def work():
        release.wait()
        ended.append(True)

    async def scenario():
        future = loop.run_in_executor(None, work)
        loop.call_later(0.01, release.set)
        await loop.shutdown_default_executor()
        assert ended == [True]
        await future

    run(scenario())


@pytest.mark.zloop_only  # asyncio's timeout, new in 3.12, had no effect at first
def test_shutdown_gives_up_after_its_timeout(loop, run):
    release = threading.Event()

    async def scenario():
        future = loop.run_in_executor(None, release.wait)
        with pytest.warns(RuntimeWarning, match=r"did not finishing joining its threads within 0\.01 seconds"):
            await loop.shutdown_default_executor(0.01)
        release.set()
        await future

    try:
        run(scenario())
    finally:
        release.set()


def test_cancelled_executor_future(loop, run):
    release = threading.Event()

    async def scenario():
        future = loop.run_in_executor(None, release.wait)
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future

    try:
        run(scenario())
    finally:
        release.set()


def test_coroutine_by_its_keyword(same_as_asyncio):
    async def answer():
        return 42

    def scenario(loop):
        return loop.run_until_complete(loop.create_task(coro=answer()))

    assert same_as_asyncio(scenario).returned == 42


def test_executor_that_cannot_be_shut_down(same_as_asyncio):
    class Failing(concurrent.futures.ThreadPoolExecutor):
        refuses = True

        def shutdown(self, *args, **options):
            if self.refuses:
                self.refuses = False
                raise LookupError("of the executor")
            super().shutdown(*args, **options)

    def scenario(loop):
        loop.set_default_executor(Failing())
        loop.run_until_complete(loop.shutdown_default_executor())

    outcome = same_as_asyncio(scenario)
    assert (outcome.raised, outcome.message) == (LookupError, "of the executor")
