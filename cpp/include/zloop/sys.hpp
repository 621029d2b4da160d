// The system calls the engine makes, one thin function each: a call interrupted by a signal is repeated, and an error
// comes back as -errno, so no caller ever reads errno. src/sys/ has a file for what the systems share, and one for
// each. Nothing here owns a descriptor; any thread may call any of it.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>

namespace zloop::sys {

// Bytes read, 0 at the end of the stream, or -errno.
ssize_t recv(int fd, void* data, std::size_t size) noexcept;

// Bytes the kernel took, or -errno. A peer that is gone answers -EPIPE, never SIGPIPE: of a prepared socket, that is.
ssize_t send(int fd, const void* data, std::size_t size) noexcept;
ssize_t sendv(int fd, const iovec* vectors, int count) noexcept;

// Of a datagram: the bytes it brought, as many as fit, and its sender; `sender_size` is zero for one without an
// address.
ssize_t recv_from(int fd, void* data, std::size_t size, sockaddr_storage* sender, socklen_t* sender_size) noexcept;
ssize_t send_to(int fd, const void* data, std::size_t size, const sockaddr* peer, socklen_t peer_size) noexcept;

// To be called once for a socket before anything is sent: macOS has a socket's option where other systems have a flag
// of send(2). What open_socket() and accept() bring is prepared.
void prepare_socket(int fd) noexcept;

// The same for descriptors that need not be sockets. Writing to a pipe that nobody reads raises SIGPIPE, unless that is
// ignored (as the interpreter has it), and answers -EPIPE.
ssize_t read(int fd, void* data, std::size_t size) noexcept;
ssize_t write(int fd, const void* data, std::size_t size) noexcept;
ssize_t writev(int fd, const iovec* vectors, int count) noexcept;

// The same from memory that need not be there (-EFAULT then) and that no sanitizer is asked about.
ssize_t write_unchecked(int fd, const void* data, std::size_t size) noexcept;

// One of the datagrams that a single call receives or sends.
struct Packet {
  iovec memory;         // what to send; or where to, and how much may be received
  sockaddr* peer;       // whom to send to, null for the connected peer; or a sockaddr_storage, for the sender's address
  socklen_t peer_size;  // receiving sets it, to zero for a sender without an address
};
constexpr int packets_max = 16;  // that one call takes; more gained little and costs stack

// The next `count` datagrams, or as many as there are, none left to wait for; each sets its memory.iov_len to what it
// brought. How many came, or -errno if the first did not. An error in the middle is reported by the next call.
int receive_packets(int fd, Packet* packets, int count) noexcept;

// How many of `count` datagrams the kernel took; or -errno if it did not take the first. What is wrong with one in the
// middle shows when it is the first of another call - but for an error that is reported once, such as an ICMP message
// to a connected socket.
int send_packets(int fd, const Packet* packets, int count) noexcept;

// A socket's descriptor, non-blocking and close-on-exec, or -errno. The caller owns the descriptor.
int open_socket(int family, int type, int protocol) noexcept;

// Connects a socket that does not block. 0 when it is connected, as unix sockets are at once; or -errno. -EINPROGRESS,
// also after a signal: it goes on, and the socket becomes writable when that is over.
int connect(int fd, const sockaddr* peer, socklen_t peer_size) noexcept;

// How a connect() that goes on came out: 0, -errno, or -EINPROGRESS as long as it does.
int finish_connect(int fd) noexcept;

// Switches Nagle's algorithm off, for a TCP socket: small writes leave at once. 0 or -errno.
int set_nodelay(int fd) noexcept;

// The address of this end. 0 or -errno.
int local_address(int fd, sockaddr_storage* address, socklen_t* size) noexcept;

// The address of the other end, of a connected socket. 0 or -errno.
int peer_address(int fd, sockaddr_storage* address, socklen_t* size) noexcept;

// A new connection's descriptor, non-blocking and close-on-exec, or -errno. The caller owns the descriptor.
int accept(int listener, sockaddr_storage* peer, socklen_t* peer_size) noexcept;

// Whether an error of accept() is of the one connection that it would have brought: the next may be sound.
bool failed_before_accept(int error) noexcept;

int shutdown_write(int fd) noexcept;

// Two ends of a pipe, close-on-exec, which may block. They are the caller's. 0 or -errno.
int open_pipe(int* read_end, int* write_end) noexcept;

// Two ends of something small: what is written to one makes the other readable. Neither blocks nor outlives an exec.
// They may be the same descriptor, and are the caller's. 0 or -errno.
int open_wakeup(int* read_end, int* write_end) noexcept;

// 0 if the number stands for an open file, else -EBADF.
int check_open(int fd) noexcept;

// A byte that is zero in the child of every fork(2), whatever was written there before, and zero at first. nullptr
// where the system has no such thing, or no memory. The caller frees it, which nullptr may be passed to.
volatile unsigned char* make_fork_flag() noexcept;
void free_fork_flag(volatile unsigned char* flag) noexcept;

int process_id() noexcept;

// Never repeated on EINTR: the kernels release the number before, and a second close could hit a stranger.
int close(int fd) noexcept;

// Whether a unix socket's name may begin with a zero, and is none of the file system's then.
extern const bool has_abstract_names;

// Prepares the C library's allocator for large blocks that come and go, such as the bytes of full reads: without it
// their pages may be given back to the kernel, and fetched anew, with each of them.
void expect_large_blocks() noexcept;

}  // namespace zloop::sys
