from libcpp cimport bool as cpp_bool

from zloop.engine.reactor cimport Reactor
from zloop.engine.write_queue cimport Segment, WriteQueue

cdef extern from "zloop/stream.hpp" namespace "zloop":
    cdef cppclass StreamIo:
        pass

    const StreamIo pipe_io
    const StreamIo write_end_io

    cdef cppclass StreamOps:
        const StreamIo* io
        WriteQueue.ReleaseFn release
        void (*hold)(void* owner) noexcept
        void (*let_go)(void* owner) noexcept
        void (*on_data)(void* owner, const char* data, size_t size) noexcept
        cpp_bool (*get_buffer)(void* owner, char** data, size_t* size) noexcept
        void (*on_buffer_filled)(void* owner, ssize_t result) noexcept
        void (*on_end)(void* owner) noexcept
        void (*on_read_error)(void* owner, int error) noexcept
        void (*on_flushed)(void* owner) noexcept
        void (*on_write_error)(void* owner, int error) noexcept
        void (*on_writable)(void* owner) noexcept

    cdef cppclass Stream:
        Stream() except +
        int open(Reactor& reactor, int fd, const StreamOps& ops, void* owner) noexcept
        void close() noexcept
        bint is_open() noexcept
        bint lost() noexcept
        int start_reading() noexcept
        void stop_reading() noexcept
        bint reading() noexcept
        void set_buffered(bint buffered) noexcept
        int write(const Segment& segment) except +
        ssize_t send_now(const char* data, size_t size) noexcept
        int wait_writable() noexcept
        void queue(const Segment& segment) except +
        int flush() noexcept
        size_t pending() noexcept
        bint blocked() noexcept
        void discard_pending() noexcept

cdef extern from "zloop/stream.hpp" namespace "zloop::Stream":
    const int write_queued "zloop::Stream::queued"
