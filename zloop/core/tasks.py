"""Tasks made by a task factory."""

import sys
from typing import Any


def task_from_factory(loop: Any, factory: Any, coro: Any, keywords: dict[str, Any]) -> Any:
    """Call the task factory as the running Python's create_task() does.

    CPython 3.14 passes every keyword. Before 3.14 a context is passed only if there is one, for factories that take two
    arguments, and the name is set afterwards.
    """
    if sys.version_info >= (3, 14):
        return factory(loop, coro, **keywords)
    name = keywords.pop("name", None)
    if keywords.get("context", ...) is None:
        del keywords["context"]
    task = factory(loop, coro, **keywords)
    try:
        if name is not None:
            task.set_name(name)
        return task
    finally:
        del task  # a task that ran at once may have failed: the traceback of its exception holds this frame
