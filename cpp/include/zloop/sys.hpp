// The system calls of the engine, one thin function each. A call that a signal interrupts is repeated. An error is
// returned as -errno, so no caller reads errno. src/sys/ has one file for what all systems share, and one per system.
// No function here owns a descriptor; any thread may call any of them.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>

namespace zloop::sys {

// Bytes read, 0 at the end of the stream, or -errno.
ssize_t recv(int fd, void* data, std::size_t size) noexcept;

// The number of bytes that the kernel took, or -errno. If the peer has closed the connection: -EPIPE, and no SIGPIPE if
// the socket is prepared (see prepare_socket()).
ssize_t send(int fd, const void* data, std::size_t size) noexcept;
ssize_t sendv(int fd, const iovec* vectors, int count) noexcept;

// One datagram. recv_from() returns the number of bytes received, at most `size`, and stores the sender; `sender_size`
// is zero if the sender has no address.
ssize_t recv_from(int fd, void* data, std::size_t size, sockaddr_storage* sender, socklen_t* sender_size) noexcept;
ssize_t send_to(int fd, const void* data, std::size_t size, const sockaddr* peer, socklen_t peer_size) noexcept;

// To be called once for a socket before the first send: macOS has a socket option (SO_NOSIGPIPE) where other systems
// have a flag of send(2) (MSG_NOSIGNAL). The sockets of open_socket() and accept() are prepared.
void prepare_socket(int fd) noexcept;

// As recv(), send() and sendv(), for any descriptor. Writing to a pipe without a reader returns -EPIPE; it also raises
// SIGPIPE, unless that signal is ignored (as it is in the interpreter).
ssize_t read(int fd, void* data, std::size_t size) noexcept;
ssize_t write(int fd, const void* data, std::size_t size) noexcept;
ssize_t writev(int fd, const iovec* vectors, int count) noexcept;

// As write(), but the memory may be inaccessible (-EFAULT), and no sanitizer checks it.
ssize_t write_unchecked(int fd, const void* data, std::size_t size) noexcept;

// One datagram of a call that receives or sends several.
struct Packet {
  iovec memory;         // the bytes to send; or the buffer to receive into
  sockaddr* peer;       // the receiver, null for the connected peer; or a sockaddr_storage for the sender's address
  socklen_t peer_size;  // set by receiving; zero if the sender has no address
};
constexpr int packets_max = 16;  // per call; a larger number is hardly faster and costs stack

// Receives up to `count` datagrams, without waiting, and stores the size of each in memory.iov_len. Returns their
// number, or -errno if the first one failed. An error after the first one is reported by the next call.
int receive_packets(int fd, Packet* packets, int count) noexcept;

// Sends `count` datagrams. Returns the number that the kernel took, or -errno if it did not take the first one. The
// error of a later one is returned when it is the first of another call, except for an error that the kernel reports
// once, such as an ICMP message to a connected socket.
int send_packets(int fd, const Packet* packets, int count) noexcept;

// The descriptor of a new socket, non-blocking and close-on-exec, or -errno. The caller owns it.
int open_socket(int family, int type, int protocol) noexcept;

// Connects a non-blocking socket. 0 if it is connected, as Unix sockets are at once; or -errno. After -EINPROGRESS,
// which a signal also causes, the attempt continues, and the socket becomes writable when it is over.
int connect(int fd, const sockaddr* peer, socklen_t peer_size) noexcept;

// The result of a connect() that returned -EINPROGRESS: 0, -errno, or -EINPROGRESS while the attempt continues.
int finish_connect(int fd) noexcept;

// Disables Nagle's algorithm of a TCP socket (TCP_NODELAY): small writes are sent at once. 0 or -errno.
int set_nodelay(int fd) noexcept;

// The socket's own address. 0 or -errno.
int local_address(int fd, sockaddr_storage* address, socklen_t* size) noexcept;

// The peer's address, of a connected socket. 0 or -errno.
int peer_address(int fd, sockaddr_storage* address, socklen_t* size) noexcept;

// The descriptor of a new connection, non-blocking and close-on-exec, or -errno. The caller owns it.
int accept(int listener, sockaddr_storage* peer, socklen_t* peer_size) noexcept;

// True if an error of accept() concerns only the connection that was to be accepted; the next accept() may succeed.
bool failed_before_accept(int error) noexcept;

int shutdown_write(int fd) noexcept;

// Opens a pipe whose ends are close-on-exec and blocking. The caller owns them. 0 or -errno.
int open_pipe(int* read_end, int* write_end) noexcept;

// Opens an eventfd or a pipe: a write to one end makes the other end readable. Both ends are non-blocking and
// close-on-exec, and may be the same descriptor. The caller owns them. 0 or -errno.
int open_wakeup(int* read_end, int* write_end) noexcept;

// 0 if the number refers to an open file, else -EBADF.
int check_open(int fd) noexcept;

// A byte that the kernel sets to zero in the child of every fork(2); it is zero at first, too. nullptr if the system
// has no such memory, or if allocation fails. The caller frees it with free_fork_flag(), which accepts nullptr.
volatile unsigned char* make_fork_flag() noexcept;
void free_fork_flag(volatile unsigned char* flag) noexcept;

int process_id() noexcept;

// Never repeated after EINTR: the kernel has released the number by then, and a second close could close a descriptor
// of other code.
int close(int fd) noexcept;

// True if Unix sockets can have abstract names: they begin with a zero byte and are not in the file system.
extern const bool has_abstract_names;

// Prepares the C library's allocator for large blocks that are often allocated and freed, such as the bytes of full
// reads. Otherwise it may return the pages of each block to the kernel, and request them again for the next one.
void expect_large_blocks() noexcept;

}  // namespace zloop::sys
