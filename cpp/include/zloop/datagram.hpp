// A datagram socket: one system call receives several datagrams, and one sends several queued datagrams.
//
// Borrows its descriptor and its reactor; Reactor::close() also closes the datagram socket. Owns its send queue. It
// notifies its owner when the socket is readable or writable, and the owner then calls receive() or flush(). Between
// two datagrams the owner may do anything, because no function of this class is active then. Loop thread only.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "zloop/address.hpp"
#include "zloop/invariants.hpp"
#include "zloop/reactor.hpp"
#include "zloop/ring_buffer.hpp"
#include "zloop/shared_buffer.hpp"
#include "zloop/sys.hpp"
#include "zloop/watcher.hpp"
#include "zloop/write_queue.hpp"

namespace zloop {

// As WatcherOps. Neither function throws. The owner keeps itself alive during each call; neither the owner nor the
// DatagramSocket is accessed afterwards.
struct DatagramOps {
  void (*on_readable)(void* owner) = [](void*) {};  // a datagram or an error is pending: call receive()
  void (*on_writable)(void* owner) = [](void*) {};  // the socket is writable: call flush()
};

// How the receiver of a queued datagram is given.
enum class Route : std::uint8_t {
  peer,     // it is the peer that the socket is connected to
  address,  // it is OutgoingDatagram::address
  owner,    // only the owner knows it: the engine does not represent every family's addresses
};

struct OutgoingDatagram {
  Segment segment{};  // may be empty; the reference is never null
  Route route = Route::peer;
  Address address;  // for Route::address
};

// NOLINTNEXTLINE(*-member-init): see peer
struct ReceivedDatagram {
  const char* data = nullptr;  // valid until the loan of receive() ends
  std::size_t size = 0;
  sockaddr_storage peer;    // not initialized: the kernel writes as many bytes as the address has
  socklen_t peer_size = 0;  // zero: the sender has no address
};

class DatagramSocket final : private Watcher {
 public:
  // `release` releases the reference of a queued segment and must not call into this object; `owner` embeds the
  // DatagramSocket.
  DatagramSocket(const DatagramOps& ops, WriteQueue::ReleaseFn release, void* owner) noexcept;
  // Call close() before if datagrams are queued: `release` must not run in a noexcept function.
  ~DatagramSocket() { close(); }
  DatagramSocket(const DatagramSocket&) = delete;
  DatagramSocket& operator=(const DatagramSocket&) = delete;

  // 0 or -errno, as Reactor::attach. The kernel truncates a datagram that is longer than `longest` bytes.
  [[nodiscard]] int open(Reactor& reactor, int fd, std::size_t longest) noexcept;

  // Detaches from the reactor and drops the queue. The descriptor stays open: it belongs to its owner. Harmless when
  // closed.
  void close();
  // Also false after Reactor::close(), and if other code closed the descriptor and the reactor detached this watcher
  // from its number.
  [[nodiscard]] bool is_open() const noexcept { return attached(); }
  // As Watcher::lost(), also after close(): if true, the owner must neither use nor close the descriptor.
  using Watcher::lost;

  // 0 or -errno.
  [[nodiscard]] int start_reading() noexcept;
  void stop_reading() noexcept;
  [[nodiscard]] bool reading() const noexcept { return (interest() & interest_read) != 0; }

  static constexpr int batch_max = sys::packets_max;
  // Receives up to batch_max datagrams, in order. Returns their number, or -errno: -EAGAIN if there is none. The number
  // asked for follows the numbers that arrived lately, because asking for more than arrive costs time, too. Begins
  // `loan`, whose memory holds the datagrams.
  [[nodiscard]] int receive(ReceivedDatagram* received, Loan& loan) noexcept;
  // The number of datagrams that the next receive() asks for.
  [[nodiscard]] int expected() const noexcept { return expected_; }
  // Makes the next receive() ask for one datagram.
  void expect_one() noexcept { expected_ = 1; }

  // Sends a datagram at once, to an address or to the connected peer (nullptr). 0 or -errno; -EAGAIN if the kernel's
  // send buffer is full, or if other datagrams are queued.
  [[nodiscard]] int send_now(const char* data, std::size_t size, const Address* to) noexcept;

  // Queues a datagram and takes over its reference; on_writable is called when the socket is writable. 0 or -errno (a
  // closed socket: -EBADF). After an error, and after std::bad_alloc, the reference is still the caller's. If
  // Reactor::close() has closed the socket while datagrams were queued, the datagram is queued behind these and never
  // sent.
  [[nodiscard]] int queue(const OutgoingDatagram& datagram);

  // Sends queued datagrams. Returns one of
  //   0: the queue is empty, or the kernel's send buffer is full;
  //   -errno: the first datagram of the queue failed, and was dropped;
  //   routed_by_owner: the owner has to send the first datagram, see first() and drop_first().
  // on_writable is called as long as datagrams are queued. After the last two results, the owner may call flush() again
  // without waiting for it.
  [[nodiscard]] int flush();
  static constexpr int routed_by_owner = 1;

  // The first queued datagram; the queue must not be empty.
  [[nodiscard]] const OutgoingDatagram& first() const noexcept { return queue_[0]; }
  void drop_first();

  // The number of queued datagrams, and the number of bytes in them.
  [[nodiscard]] std::size_t pending() const noexcept { return queue_.size(); }
  [[nodiscard]] std::size_t pending_bytes() const noexcept { return bytes_; }
  // True while the poller watches for writability; on_writable is called then.
  [[nodiscard]] bool blocked() const noexcept { return (interest() & interest_write) != 0; }

  // Drops the queue.
  void discard_pending();

 private:
  static const WatcherOps watcher_ops;

  static void on_ready(Watcher& watcher, unsigned ready);
  static void* owner_of(Watcher& watcher) noexcept;

  [[nodiscard]] int gather(sys::Packet* packets) const noexcept;

  const DatagramOps& ops_;  // static
  void* owner_;             // borrowed: the embedder
  WriteQueue::ReleaseFn release_;
  RingBuffer<OutgoingDatagram> queue_;
  std::size_t bytes_ = 0;    // in queue_
  std::size_t longest_ = 0;  // bytes of the longest datagram
  int capacity_ = 1;         // datagrams of that size that fit into the shared buffer, at most batch_max
  int expected_ = 1;         // datagrams that the next receive() asks for
  [[no_unique_address, maybe_unused]] LiveCount<LiveClass::datagram_socket> live_;
};

}  // namespace zloop
