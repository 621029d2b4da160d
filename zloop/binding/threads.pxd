from zloop.engine.ring_buffer cimport ReadyQueue

cdef extern from "binding/threads.hpp" namespace "zloop::binding":
    const bint free_threaded

    bint needs_gil(object module) noexcept

    cdef cppclass LoopInbox:
        LoopInbox() except +
        bint pending() noexcept
        size_t take_into(ReadyQueue& queue) except +

    cdef cppclass ObjectLock:
        void lock(object thing) noexcept
        void unlock() noexcept

    bint push_owned(LoopInbox& inbox, object thing) noexcept

    bint load_shared(bint& attribute) noexcept
    unsigned long load_shared(unsigned long& attribute) noexcept
    void store_shared(bint& attribute, bint value) noexcept
    void store_shared(unsigned long& attribute, unsigned long value) noexcept
    bint set_once(bint& attribute) noexcept
    bint claim_shared(unsigned long& attribute, unsigned long value) noexcept
