// A datagram socket: several datagrams are received by one call, and those that had to wait leave by one.
//
// Borrows its descriptor and its reactor (which, when it closes, closes the datagram socket); owns its send queue. It
// tells its owner when there is something to do, and the owner does it, by receive() and flush(): between two datagrams
// an owner may do anything, and nothing here is in the middle of something then. Loop thread only.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "zloop/address.hpp"
#include "zloop/reactor.hpp"
#include "zloop/ring_buffer.hpp"
#include "zloop/shared_buffer.hpp"
#include "zloop/sys.hpp"
#include "zloop/watcher.hpp"
#include "zloop/write_queue.hpp"

namespace zloop {

// As WatcherOps. Neither throws. The owner keeps itself alive during each call; nothing looks at it or the
// DatagramSocket afterwards.
struct DatagramOps {
  void (*on_readable)(void* owner) = [](void*) {};  // a datagram or an error waits: receive()
  void (*on_writable)(void* owner) = [](void*) {};  // the kernel has room: flush()
};

// How a queued datagram gets to its receiver.
enum class Route : std::uint8_t {
  peer,     // the one that the socket is connected to
  address,  // the one that the datagram names
  owner,    // only the owner knows: its family's addresses are not the engine's business
};

struct OutgoingDatagram {
  Segment segment{};  // may be empty; the reference is never null
  Route route = Route::peer;
  Address address;  // for Route::address
};

// NOLINTNEXTLINE(*-member-init): see peer
struct ReceivedDatagram {
  const char* data = nullptr;  // there for as long as the loan of receive()
  std::size_t size = 0;
  sockaddr_storage peer;    // not set beforehand: the kernel fills in as much as it has
  socklen_t peer_size = 0;  // zero: the sender has no address
};

class DatagramSocket final : private Watcher {
 public:
  // `release` gives up a queued segment's reference and must not call back; `owner` embeds the DatagramSocket.
  DatagramSocket(const DatagramOps& ops, WriteQueue::ReleaseFn release, void* owner) noexcept;
  ~DatagramSocket() { close(); }  // close() it before, for the sake of what is queued: a destructor is noexcept
  DatagramSocket(const DatagramSocket&) = delete;
  DatagramSocket& operator=(const DatagramSocket&) = delete;

  // 0 or -errno, as Reactor::attach. Of a datagram longer than `longest` bytes, the kernel drops the end.
  [[nodiscard]] int open(Reactor& reactor, int fd, std::size_t longest) noexcept;

  // Unties everything and drops what was queued. The descriptor stays open: it is its owner's. Harmless when closed.
  void close();
  // False too when the reactor was closed, and when the descriptor was closed under us and its number went to another.
  [[nodiscard]] bool is_open() const noexcept { return attached(); }
  // As Watcher::lost(), also after close(): the owner neither uses nor closes the descriptor.
  using Watcher::lost;

  // 0 or -errno.
  [[nodiscard]] int start_reading() noexcept;
  void stop_reading() noexcept;
  [[nodiscard]] bool reading() const noexcept { return (interest() & interest_read) != 0; }

  static constexpr int batch_max = sys::packets_max;
  // Stores up to batch_max datagrams, in order; how many came, or -errno: -EAGAIN when there was none. It asks for more
  // the more came lately, because asking in vain costs, too. Begins `loan`, whose memory they are in.
  [[nodiscard]] int receive(ReceivedDatagram* received, Loan& loan) noexcept;
  // How many the next receive() asks for.
  [[nodiscard]] int expected() const noexcept { return expected_; }
  // Makes the next receive() ask for one.
  void expect_one() noexcept { expected_ = 1; }

  // Sends to an address, or to the connected peer (nullptr), at once. 0 or -errno; -EAGAIN when the kernel is full, or
  // others are queued before it.
  [[nodiscard]] int send_now(const char* data, std::size_t size, const Address* to) noexcept;

  // Queues a datagram, and takes over its reference, until the kernel has room: on_writable comes then. 0; or -errno (a
  // closed socket: -EBADF), having taken nothing, as when it throws std::bad_alloc. With the reactor closed, it waits
  // for ever behind those that did then.
  [[nodiscard]] int queue(const OutgoingDatagram& datagram);

  // Offers the kernel what is queued. One of
  //   0: everything has left, or the kernel is full;
  //   -errno: the datagram that was first in the queue failed and is gone;
  //   routed_by_owner: it is the owner's to send, see first() and drop_first().
  // on_writable comes as long as anything is left. After the latter two, the owner may call again without it.
  [[nodiscard]] int flush();
  static constexpr int routed_by_owner = 1;

  // The first in the queue, which must not be empty.
  [[nodiscard]] const OutgoingDatagram& first() const noexcept { return queue_[0]; }
  void drop_first();

  // What is queued: datagrams, and bytes in them.
  [[nodiscard]] std::size_t pending() const noexcept { return queue_.size(); }
  [[nodiscard]] std::size_t pending_bytes() const noexcept { return bytes_; }
  // on_writable is waited for.
  [[nodiscard]] bool blocked() const noexcept { return (interest() & interest_write) != 0; }

  // Drops what is queued.
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
  std::size_t longest_ = 0;  // bytes
  int capacity_ = 1;         // datagrams of that length that the shared buffer has room for, batch_max at most
  int expected_ = 1;         // that the next receive() asks for
};

}  // namespace zloop
