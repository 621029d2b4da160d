#include "zloop/stream.hpp"

#include <array>
#include <cassert>
#include <cerrno>

#include "zloop/sys.hpp"

namespace zloop {

namespace {

bool would_block(ssize_t result) noexcept { return result == -EAGAIN || result == -EWOULDBLOCK; }

ssize_t report_end(int /*fd*/, void* /*data*/, std::size_t /*size*/) noexcept { return 0; }

}  // namespace

const StreamIo socket_io = {.receive = sys::recv, .send = sys::send, .sendv = sys::sendv};
const StreamIo pipe_io = {.receive = sys::read, .send = sys::write, .sendv = sys::writev};
const StreamIo write_end_io = {.receive = report_end, .send = sys::write, .sendv = sys::writev};

const WatcherOps Stream::socket_ops = {
    .on_ready = &Stream::on_ready,
    .user = &Stream::socket_owner,
    .always_pollable = true,
};
// Without a user, because other code may use the descriptor of a pipe, too; and it may be a device as /dev/null, which
// no poller watches.
const WatcherOps Stream::pipe_ops = {.on_ready = &Stream::on_ready};

int Stream::open(Reactor& reactor, int fd, const StreamOps& ops, void* owner) noexcept {
  assert(!is_open());
  assert(queue_.empty());
  ops_ = &ops;
  owner_ = owner;
  const bool is_socket = ops.io == &socket_io;
  if (is_socket) sys::prepare_socket(fd);
  return reactor.attach(*this, fd, is_socket ? socket_ops : pipe_ops);
}

void Stream::close() {
  reading_ = false;
  detach();
  if (!queue_.empty()) queue_.clear(ops_->release);
}

int Stream::start_reading() noexcept {
  if (reading()) return 0;
  if (const int status = set_interest(interest() | interest_read); status < 0) return status;
  reading_ = true;
  started_reading_in_ = reactor().waits();
  return 0;
}

void Stream::on_ready(Watcher& watcher, unsigned ready) {
  auto& stream = static_cast<Stream&>(watcher);  // NOLINT(*-static-cast-downcast): open() attaches no other
  if (ready == interest_write) {
    stream.queue_.empty() ? stream.report_writable() : stream.send_and_report();
  } else if (!stream.reading_) {
    stream.drop_interest(interest_read);
  } else if (stream.started_reading_in_ == stream.reactor().waits()) {
    // The event was fetched before start_reading(). The next wait() reports it again.
  } else if (stream.buffered_) {
    stream.read_buffered();
  } else {
    stream.read_shared();
  }
}

void* Stream::socket_owner(Watcher& watcher) noexcept {
  return static_cast<Stream&>(watcher).owner_;  // NOLINT(*-static-cast-downcast): open() attaches no other
}

// One read for each event: draining until EAGAIN costs one more system call per message, and lets one busy connection
// starve the others.
void Stream::read_shared() {
  const Loan loan(reactor().read_buffer());
  char* buffer = loan.data();
  const ssize_t result = buffer == nullptr ? -ENOMEM : ops_->io->receive(fd(), buffer, Reactor::read_buffer_size);
  if (result > 0) {
    ops_->on_data(owner_, buffer, static_cast<std::size_t>(result));
  } else if (result == 0) {
    ops_->on_end(owner_);
  } else if (!would_block(result)) {
    ops_->on_read_error(owner_, static_cast<int>(-result));
  }
}

void Stream::read_buffered() {
  char* buffer = nullptr;
  std::size_t size = 0;
  if (!ops_->get_buffer(owner_, &buffer, &size)) return;
  // get_buffer() ran foreign code: the stream may be closed, and the number of its descriptor may refer to another
  // file. A stream that only stopped reading still gets this last read, because its owner has provided the buffer.
  const ssize_t result = is_open() ? ops_->io->receive(fd(), buffer, size) : -EAGAIN;
  ops_->on_buffer_filled(owner_, result);
}

int Stream::write(const Segment& segment) {
  const ssize_t sent = send_now(segment.data, segment.size);
  if (sent < 0) return static_cast<int>(sent);
  const auto taken = static_cast<std::size_t>(sent);
  if (taken == segment.size) return 0;
  if (const int status = wait_writable(); status < 0) return status;
  queue({.data = segment.data + taken, .size = segment.size - taken, .reference = segment.reference});
  return queued;
}

ssize_t Stream::send_now(const char* data, std::size_t size) noexcept {
  if (!is_open()) return -EBADF;
  if (!queue_.empty() || blocked()) return 0;
  const ssize_t sent = ops_->io->send(fd(), data, size);
  return would_block(sent) ? 0 : sent;
}

int Stream::wait_writable() noexcept { return set_interest(interest() | interest_write); }

void Stream::queue(const Segment& segment) { queue_.push(segment); }

void Stream::send_and_report() {
  const StreamOps& ops = *ops_;
  void* owner = owner_;
  ops.hold(owner);
  const int status = send_queued();
  if (status < 0) {
    ops.on_write_error(owner, -status);
  } else {
    ops.on_flushed(owner);
  }
  ops.let_go(owner);  // not in a destructor, through which a thread that ends in there could not unwind
}

int Stream::flush() {
  if (!is_open() || queue_.empty() || blocked()) return 0;
  return send_queued();
}

// Keeps the interest in writing from one partial send to the next. Drops it when the queue is empty, or after an error:
// a connection in error is always writable.
int Stream::send_queued() {
  std::array<iovec, WriteQueue::vectors_max> vectors;  // NOLINT(*-member-init): peek() fills what is used
  while (!queue_.empty()) {
    const int count = queue_.peek(vectors.data(), WriteQueue::vectors_max);
    const ssize_t sent = count == 1 ? ops_->io->send(fd(), vectors[0].iov_base, vectors[0].iov_len)
                                    : ops_->io->sendv(fd(), vectors.data(), count);
    if (would_block(sent)) return wait_writable();
    if (sent < 0) {
      drop_interest(interest_write);
      return static_cast<int>(sent);
    }
    std::size_t offered = 0;
    for (int i = 0; i < count; ++i) offered += vectors[static_cast<std::size_t>(i)].iov_len;
    const auto taken = static_cast<std::size_t>(sent);
    if (taken < offered) {
      const int status = wait_writable();  // first, as what is released may write more, or close the stream
      queue_.consume(taken, ops_->release);
      return status;
    }
    queue_.consume(taken, ops_->release);
  }
  drop_interest(interest_write);
  return 0;
}

// If the queue is empty, wait_writable() has requested this event.
void Stream::report_writable() {
  drop_interest(interest_write);
  ops_->on_writable(owner_);
}

void Stream::discard_pending() {
  drop_interest(interest_write);
  if (!queue_.empty()) queue_.clear(ops_->release);
}

}  // namespace zloop
