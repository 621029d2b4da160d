// A connected stream socket or an end of a pipe: when to read, where to, and how queued bytes reach the kernel.
//
// Borrows its descriptor and its reactor (which, when it closes, closes the stream); owns its write queue. Everything
// it learns goes to its owner through one static table. Errors are reported, never acted on: what an error means to the
// connection is the owner's decision. Loop thread only.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "zloop/reactor.hpp"
#include "zloop/watcher.hpp"
#include "zloop/write_queue.hpp"

namespace zloop {

// How bytes pass between a stream and its descriptor; each function answers as zloop::sys's do.
struct StreamIo {
  ssize_t (*receive)(int fd, void* data, std::size_t size) noexcept;
  ssize_t (*send)(int fd, const void* data, std::size_t size) noexcept;
  ssize_t (*sendv)(int fd, const iovec* vectors, int count) noexcept;
};
extern const StreamIo socket_io;
// Anything that read(2) and write(2) take.
extern const StreamIo pipe_io;
// A pipe's writing end: readiness to read means that the reader is gone, and is told as the end of the stream. If it is
// a socket, and bytes have come, they are left alone.
extern const StreamIo write_end_io;

// One static table per kind of owner, as WatcherOps. None of the functions throws. The owner keeps itself, and the
// stream in it, alive during each call; it may close the stream from inside any. When the call returns nothing looks at
// either any more, get_buffer() with its on_buffer_filled() counting as one call.
struct StreamOps {
  const StreamIo* io = &socket_io;

  // Gives up a queued segment's reference. Must not call back.
  WriteQueue::ReleaseFn release = [](void*) {};

  // Reads into the reactor's shared buffer: `data` is there until the call ends, whatever is read meanwhile.
  void (*on_data)(void* owner, const char* data, std::size_t size) = [](void*, const char*, std::size_t) {};

  // Reads into the owner's memory (Stream::set_buffered): names at least one byte, or returns false to skip this read.
  // After a true exactly one on_buffer_filled follows: bytes read, 0 at the end of the stream, or -errno.
  bool (*get_buffer)(void* owner, char** data, std::size_t* size) = [](void*, char**, std::size_t*) { return false; };
  void (*on_buffer_filled)(void* owner, ssize_t result) = [](void*, ssize_t) {};

  // The peer has finished, which is reported anew each turn until reading stops; not for buffered reads.
  void (*on_end)(void* owner) = [](void*) {};
  void (*on_read_error)(void* owner, int error) = [](void*, int) {};  // errno; not for buffered reads

  // What was queued has been offered to the kernel, as it has room: pending() says what it left; or that failed, errno.
  void (*on_flushed)(void* owner) = [](void*) {};
  void (*on_write_error)(void* owner, int error) = [](void*, int) {};

  // Once after Stream::wait_writable(): the kernel takes bytes again.
  void (*on_writable)(void* owner) = [](void*) {};
};

class Stream final : private Watcher {
 public:
  Stream() = default;
  ~Stream() { close(); }  // close() it before, for the sake of what is queued: a destructor is noexcept
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // `owner` embeds the stream. 0 or -errno, as Reactor::attach.
  [[nodiscard]] int open(Reactor& reactor, int fd, const StreamOps& ops, void* owner) noexcept;

  // Unties everything and drops what was queued. The descriptor stays open: it is its owner's. Harmless when closed.
  void close();
  // False too when the reactor was closed, and when the descriptor was closed under us and its number went to another.
  [[nodiscard]] bool is_open() const noexcept { return attached(); }
  // As Watcher::lost(), also after close(): the owner neither uses nor closes the descriptor.
  using Watcher::lost;

  // 0 or -errno.
  [[nodiscard]] int start_reading() noexcept;
  // The poller is told only if it has something to read meanwhile: most who stop go on before that.
  void stop_reading() noexcept { reading_ = false; }
  // False too when the reactor was closed.
  [[nodiscard]] bool reading() const noexcept { return reading_ && is_open(); }
  // True: ask the owner for memory before each read. False: use the shared buffer.
  void set_buffered(bool buffered) noexcept { buffered_ = buffered; }

  // Offers the kernel the bytes of a segment at once, unless others are queued before them, and queues what it does not
  // take. One of
  //   0: the kernel has them all, and the reference is still the caller's;
  //   queued: the reference is the stream's now;
  //   -errno (a closed stream: -EBADF): the rest cannot be sent, nor waited with, and nothing is queued.
  // Throws std::bad_alloc, having sent and taken nothing.
  [[nodiscard]] int write(const Segment& segment);
  static constexpr int queued = 1;

  // The same in steps, for bytes that nobody holds a reference to. Bytes taken; 0 when the kernel is full, or others
  // are queued; or -errno (a closed stream: -EBADF).
  [[nodiscard]] ssize_t send_now(const char* data, std::size_t size) noexcept;
  // What is queued leaves when the kernel has room; if nothing is, on_writable follows then. 0 or -errno.
  [[nodiscard]] int wait_writable() noexcept;

  // Queues a segment, not an empty one, and takes over its reference. Unless blocked(), flush() or wait_writable() has
  // to follow. Throws std::bad_alloc, having taken nothing.
  void queue(const Segment& segment);
  // Offers the kernel all that is queued, in as few calls as it takes. 0, also when the kernel is full and the rest
  // waits for it; or -errno, and what was not taken stays queued, to be offered never again.
  [[nodiscard]] int flush();

  // Bytes queued.
  [[nodiscard]] std::size_t pending() const noexcept { return queue_.bytes(); }
  // The kernel was full when it was last offered something, and has not said since that it has room.
  [[nodiscard]] bool blocked() const noexcept { return (interest() & interest_write) != 0; }

  // Drops what is queued.
  void discard_pending();

 private:
  static const WatcherOps watcher_ops;
  static constexpr int vectors_max = 64;  // per system call; more gained nothing and costs stack

  static void on_ready(Watcher& watcher, unsigned ready);
  static void* socket_owner(Watcher& watcher) noexcept;

  void read_shared();
  void read_buffered();
  void send_and_report();
  void report_writable();
  [[nodiscard]] int send_queued();

  const StreamOps* ops_ = nullptr;  // static; from the first open() on
  void* owner_ = nullptr;           // borrowed: the embedder
  WriteQueue queue_;
  std::uint32_t started_reading_in_ = 0;  // Reactor::waits() when it last did
  bool reading_ = false;
  bool buffered_ = false;
};

}  // namespace zloop
