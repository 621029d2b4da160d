from zloop.engine.address cimport Address
from zloop.engine.reactor cimport Reactor
from zloop.engine.shared_buffer cimport Loan
from zloop.engine.socket cimport sockaddr_storage, socklen_t
from zloop.engine.write_queue cimport Segment, WriteQueue

cdef extern from "zloop/datagram.hpp" namespace "zloop":
    cdef cppclass DatagramOps:
        void (*on_readable)(void* owner) noexcept
        void (*on_writable)(void* owner) noexcept

    cdef enum class Route:
        peer
        address
        owner

    cdef cppclass OutgoingDatagram:
        Segment segment
        Route route
        Address address

    cdef cppclass ReceivedDatagram:
        const char* data
        size_t size
        sockaddr_storage peer
        socklen_t peer_size

    cdef cppclass DatagramSocket:
        DatagramSocket(const DatagramOps& ops, WriteQueue.ReleaseFn release, void* owner) noexcept
        int open(Reactor& reactor, int fd, size_t longest) noexcept
        void close() noexcept
        bint is_open() noexcept
        bint lost() noexcept
        int start_reading() noexcept
        void stop_reading() noexcept
        bint reading() noexcept
        int receive(ReceivedDatagram* received, Loan& loan) noexcept
        int expected() noexcept
        void expect_one() noexcept
        int send_now(const char* data, size_t size, const Address* to) noexcept
        int queue(const OutgoingDatagram& datagram) except +
        int flush() noexcept
        const OutgoingDatagram& first() noexcept
        void drop_first() noexcept
        size_t pending() noexcept
        size_t pending_bytes() noexcept
        bint blocked() noexcept
        void discard_pending() noexcept

cdef extern from "zloop/datagram.hpp" namespace "zloop::DatagramSocket":
    const int batch_max
    const int routed_by_owner
