"""What is run of CPython's `test.test_asyncio`, and how the loop under test gets into it.

A test reaches its loop in one of three ways, and `child.py` puts the loop under test behind each:

* `asyncio.new_event_loop()`, and with it `asyncio.run`, `asyncio.Runner`, `IsolatedAsyncioTestCase` and any policy that
  a test makes or resets: the default policy class gets the factory as its `_loop_factory`.
* `asyncio.SelectorEventLoop` and `asyncio.EventLoop`: the two names are bound to the class of the factory's loops.
* A method that makes a loop with a selector or with mocks inside: it is replaced (`MODULES` below).

Loops that tests build for themselves stay what they are: `TestLoop`, whose clock is fake, `BaseEventLoop` with mocks in
it, subclasses of it. Their tests say nothing about the loop under test, and the report counts them apart.
"""

import re
from collections.abc import Callable
from fnmatch import fnmatchcase

PACKAGE = "test.test_asyncio"


# Each module, and the "Class.method" in it that is replaced by the factory.
MODULES: dict[str, str | None] = {
    "test_events": "EPollEventLoopTests.create_event_loop",
    "test_sock_lowlevel": "EPollEventLoopTests.create_event_loop",
    "test_sendfile": "EPollEventLoopTests.create_event_loop",
    "test_server": None,
    "test_server_context": None,
    "test_streams": None,
    "test_buffered_proto": None,
    "test_locks": None,
    "test_queues": None,
    "test_tasks": None,
    "test_taskgroups": None,
    "test_timeouts": None,
    "test_runners": "BaseTest.new_loop",
    "test_context": None,
    "test_eager_task_factory": None,
    "test_futures": None,
    "test_futures2": None,
    "test_staggered": None,
    "test_graph": None,
    "test_threads": None,
    "test_waitfor": None,
    "test_free_threading": None,
    "test_ssl": None,
    "test_sslproto": None,
    "test_subprocess": None,
    "test_unix_events": None,
    "test_base_events": None,
}

# The same mixins as EPollEventLoopTests over other selectors: a loop that brings its own poller runs them once.
VARIANTS = {"PollEventLoopTests", "SelectEventLoopTests"}

# Tests that can pass only on the standard library's own classes: their names, what in their source makes them so, and
# the reason that is printed. Not for what is merely hard, nor for a private name that another loop may well have too.
STDLIB_ONLY = (
    (
        "test_events.*.test_create_server_multiple_hosts_*",
        r"create_server_multiple_hosts",
        "replaces the socket module inside asyncio.base_events",
    ),
    ("test_events.*.test_timeout_rounding", r"_selector", "tells the selector beside the number of turns"),
    ("test_base_events.*.test_create_*", r"@patch_socket", "replaces the socket module inside asyncio.base_events"),
    (
        "test_base_events.BaseEventLoopWithSelectorTests.*",
        r"asyncio\.base_events\.logger",
        "replaces the logger inside asyncio.base_events",
    ),
    (
        "test_base_events.BaseEventLoopWithSelectorTests.*",
        r"loop\._(accept_connection|make_ssl_transport)\b",
        "calls or replaces private methods of BaseSelectorEventLoop",
    ),
    (
        "test_unix_events.SelectorEventLoopSignalTests.*",
        r"_signal_handlers|_handle_signal|m_signal\.(signal|set_wakeup_fd)\b",
        "reads the Unix loop's private table, or makes the signal module fail inside asyncio.unix_events",
    ),
    (
        "test_unix_events.SelectorEventLoopUnixSocketTests.*",
        r"asyncio\.unix_events\.socket",
        "replaces the socket module inside asyncio.unix_events",
    ),
    (
        "test_unix_events.SelectorEventLoopUnixSockSendfileTests.*",
        r"_sock_sendfile_native",
        "calls the Unix loop's private _sock_sendfile_native and reads its _selector",
    ),
    (
        "test_unix_events.PidfdChildWatcherTests.*",
        r"os, 'waitpid'",
        "makes os.waitpid fail under asyncio's own child watcher",
    ),
    (
        "test_sslproto.*.test_connection_lost_when_busy",
        r"sock = mock\.Mock",
        "gives asyncio's own transport a mock in place of a socket",
    ),
    (
        "test_sslproto.*.test_create_connection_ssl_failed_certificate_no_cycles",
        r"mock\.patch\.object\(sslproto\.SSLProtocol",
        "looks for the transport inside asyncio's own SSLProtocol",
    ),
    (
        "test_ssl.*.test_remote_shutdown_receives_trailing_data_on_slow_socket",
        r"_read_ready_cb",
        "replaces the socket inside asyncio's own transport",
    ),
    ("test_subprocess.*", r"loop\._watcher", "reads the Unix loop's own child watcher"),
)


def stdlib_only(test: str, source: Callable[[], str]) -> str | None:
    """Return why a test is on the list, or None if it is not; its source is read only where it decides."""
    for pattern, needle, reason in STDLIB_ONLY:
        if fnmatchcase(test, pattern) and re.search(needle, source()):
            return reason
    return None
