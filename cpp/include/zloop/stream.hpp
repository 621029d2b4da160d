// A connected stream socket or an end of a pipe: decides when to read and into which memory, and sends queued bytes
// when the descriptor is writable.
//
// Borrows its descriptor and its reactor; Reactor::close() also closes the stream. Owns its write queue. It reports
// every event to its owner through one static table. It reports errors but does not act on them: the owner decides what
// an error means for the connection. Loop thread only.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "zloop/invariants.hpp"
#include "zloop/reactor.hpp"
#include "zloop/watcher.hpp"
#include "zloop/write_queue.hpp"

namespace zloop {

// The system calls of a stream. Each function returns what its namesake in zloop::sys returns.
struct StreamIo {
  ssize_t (*receive)(int fd, void* data, std::size_t size) noexcept;
  ssize_t (*send)(int fd, const void* data, std::size_t size) noexcept;
  ssize_t (*sendv)(int fd, const iovec* vectors, int count) noexcept;
};
extern const StreamIo socket_io;
// For every descriptor that read(2) and write(2) accept.
extern const StreamIo pipe_io;
// For the write end of a pipe: readable means that the reader has closed its end, which is reported as the end of the
// stream. If the descriptor is a socket and bytes have arrived, they are not read.
extern const StreamIo write_end_io;

// One static table per kind of owner, as WatcherOps. None of the functions throws. The owner keeps itself, and the
// stream in it, alive during each call, and may close the stream in it. Neither is accessed after the call;
// get_buffer() and its on_buffer_filled() count as one call.
struct StreamOps {
  const StreamIo* io = &socket_io;

  // Releases the reference of a queued segment. What that runs may write, close the stream, or dispatch further events.
  WriteQueue::ReleaseFn release = [](void*) {};
  // The owner keeps itself, and the stream in it, alive from hold() to let_go(): queued bytes are sent in between, and
  // their `release` may give up every other reference to the owner.
  void (*hold)(void* owner) = [](void*) {};
  void (*let_go)(void* owner) = [](void*) {};

  // Received bytes, in the reactor's shared buffer: `data` is valid until the call returns, whatever is read meanwhile.
  void (*on_data)(void* owner, const char* data, std::size_t size) = [](void*, const char*, std::size_t) {};

  // Reads into the owner's memory (Stream::set_buffered). get_buffer() provides a buffer of at least one byte, or
  // returns false to skip this read. After true, exactly one on_buffer_filled() follows, with the number of bytes read,
  // 0 at the end of the stream, or -errno.
  bool (*get_buffer)(void* owner, char** data, std::size_t* size) = [](void*, char**, std::size_t*) { return false; };
  void (*on_buffer_filled)(void* owner, ssize_t result) = [](void*, ssize_t) {};

  // The end of the stream. Reported in each turn until reading stops; not for buffered reads.
  void (*on_end)(void* owner) = [](void*) {};
  void (*on_read_error)(void* owner, int error) = [](void*, int) {};  // errno; not for buffered reads

  // Queued bytes were sent after the descriptor had become writable; pending() is what is left. Or sending failed, with
  // this errno value.
  void (*on_flushed)(void* owner) = [](void*) {};
  void (*on_write_error)(void* owner, int error) = [](void*, int) {};

  // Called once after Stream::wait_writable(): the descriptor is writable, and no bytes are queued.
  void (*on_writable)(void* owner) = [](void*) {};
};

class Stream final : private Watcher {
 public:
  Stream() = default;
  // Call close() before if bytes are queued: `release` must not run in a noexcept function.
  ~Stream() { close(); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // `owner` embeds the stream. 0 or -errno, as Reactor::attach.
  [[nodiscard]] int open(Reactor& reactor, int fd, const StreamOps& ops, void* owner) noexcept;

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
  // The poller's interest changes only if the descriptor becomes readable meanwhile: most users start reading again
  // before that.
  void stop_reading() noexcept { reading_ = false; }
  // Also false after Reactor::close().
  [[nodiscard]] bool reading() const noexcept { return reading_ && is_open(); }
  // True: reads use memory that get_buffer() provides. False: reads use the shared buffer.
  void set_buffered(bool buffered) noexcept { buffered_ = buffered; }

  // Sends the bytes of a segment at once, unless other bytes are queued, and queues the rest. Returns one of
  //   0: the kernel took all bytes, and the reference is still the caller's;
  //   queued: the stream owns the reference now;
  //   -errno (a closed stream: -EBADF): sending failed, or waiting for writability did; nothing is queued.
  // Throws std::bad_alloc; nothing was sent then, and the reference is still the caller's.
  [[nodiscard]] int write(const Segment& segment);
  static constexpr int queued = 1;

  // The same in steps, for bytes without a reference. Returns the number of bytes that the kernel took; 0 if its send
  // buffer is full, or if other bytes are queued; or -errno (a closed stream: -EBADF).
  [[nodiscard]] ssize_t send_now(const char* data, std::size_t size) noexcept;
  // Watches for writability: queued bytes are sent then; if none are queued, on_writable is called. 0 or -errno.
  [[nodiscard]] int wait_writable() noexcept;

  // Queues a non-empty segment and takes over its reference. Unless blocked(), the caller must call flush() or
  // wait_writable() afterwards. Throws std::bad_alloc; the reference is still the caller's then.
  void queue(const Segment& segment);
  // Sends all queued bytes, in as few system calls as possible. 0, also if the kernel's send buffer is full and the
  // rest waits for writability; or -errno: the rest stays queued, and no event sends it any more.
  [[nodiscard]] int flush();

  // Bytes queued.
  [[nodiscard]] std::size_t pending() const noexcept { return queue_.bytes(); }
  // True if the kernel's send buffer was full at the last attempt, and the descriptor has not become writable since.
  [[nodiscard]] bool blocked() const noexcept { return (interest() & interest_write) != 0; }

  // Drops the queue.
  void discard_pending();

 private:
  static const WatcherOps socket_ops;
  static const WatcherOps pipe_ops;

  static void on_ready(Watcher& watcher, unsigned ready);
  static void* socket_owner(Watcher& watcher) noexcept;

  void read_shared();
  void read_buffered();
  void send_and_report();
  void report_writable();
  [[nodiscard]] int send_queued();

  const StreamOps* ops_ = nullptr;  // static; set by the first open()
  void* owner_ = nullptr;           // borrowed: the embedder
  WriteQueue queue_;
  std::uint32_t started_reading_in_ = 0;  // Reactor::waits() at the last start_reading()
  bool reading_ = false;
  bool buffered_ = false;
  [[no_unique_address, maybe_unused]] LiveCount<LiveClass::stream> live_;
};

}  // namespace zloop
