// A stream over one end of a socket pair or of a pipe, and an owner that records everything that is reported to it.
#pragma once

#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/piece.hpp"
#include "support/sockets.hpp"
#include "zloop/stream.hpp"

namespace zloop::test {

class Connection {
 public:
  explicit Connection(int type = SOCK_STREAM) : Connection(make_pair(type), socket_io) {}

  Connection(Pair ends, const StreamIo& io) : pair(std::move(ends)) {
    ops.io = &io;
    REQUIRE(reactor.open() == 0);
    REQUIRE(open_stream() == 0);
  }

  // 0 or -errno.
  int open_stream() { return stream->open(reactor, pair.ours.get(), ops, this); }

  // Polls without blocking, and dispatches.
  void turn() {
    REQUIRE(reactor.wait(0) >= 0);
    reactor.dispatch();
  }

  // Writes bytes, and releases the reference to them unless the stream has taken it over.
  Piece& write(std::string bytes) {
    Piece& piece = pieces.emplace_back(std::move(bytes));
    const int status = stream->write(piece.segment());
    REQUIRE(status >= 0);
    if (status != Stream::queued) Piece::release(&piece);
    return piece;
  }

  // Queues bytes; the stream takes over their reference.
  Piece& queue(std::string bytes) {
    Piece& piece = pieces.emplace_back(std::move(bytes));
    stream->queue(piece.segment());
    return piece;
  }

  // Sends bytes until the kernel's send buffer is full, and returns them.
  std::string fill() const {
    const std::string chunk = pattern(4096);
    std::string sent;
    for (;;) {
      const ssize_t count = stream->send_now(chunk.data(), chunk.size());
      REQUIRE(count >= 0);
      if (count == 0) return sent;
      sent.append(chunk, 0, static_cast<std::size_t>(count));
    }
  }

  [[nodiscard]] bool all_released_once() const {
    return std::ranges::all_of(pieces, [](const Piece& piece) { return piece.releases == 1; });
  }

  Reactor reactor;
  Pair pair;
  std::deque<Piece> pieces;
  std::unique_ptr<Stream> stream = std::make_unique<Stream>();

  StreamOps ops{
      .release = &Piece::release,
      .on_data = &Connection::on_data,
      .get_buffer = &Connection::get_buffer,
      .on_buffer_filled = &Connection::on_buffer_filled,
      .on_end = &Connection::on_end,
      .on_read_error = &Connection::on_read_error,
      .on_flushed = &Connection::on_flushed,
      .on_write_error = &Connection::on_write_error,
      .on_writable = &Connection::on_writable,
  };

  std::string log;  // the names of the calls, each with a space after it
  std::string received;
  std::vector<ssize_t> filled;
  std::vector<int> errors;
  std::array<char, 16> buffer{};
  bool offers_buffer = true;
  std::function<void(const std::string& call)> react;  // called after each call is logged
  std::function<void()> before_data;                   // called before received bytes are stored

 private:
  static Connection& note(void* owner, const char* call) noexcept {
    auto& self = *static_cast<Connection*>(owner);
    self.log += call;
    self.log += ' ';
    return self;
  }

  void then(const char* call) const {
    if (react) react(call);
  }

  static void on_data(void* owner, const char* data, std::size_t size) noexcept {
    Connection& self = note(owner, "data");
    if (self.before_data) self.before_data();
    self.received.append(data, size);
    self.then("data");
  }

  static bool get_buffer(void* owner, char** data, std::size_t* size) noexcept {
    Connection& self = note(owner, "get_buffer");
    *data = self.buffer.data();
    *size = self.buffer.size();
    self.then("get_buffer");
    return self.offers_buffer;
  }

  static void on_buffer_filled(void* owner, ssize_t result) noexcept {
    Connection& self = note(owner, "filled");
    self.filled.push_back(result);
    if (result > 0) self.received.append(self.buffer.data(), static_cast<std::size_t>(result));
    self.then("filled");
  }

  static void on_end(void* owner) noexcept { note(owner, "end").then("end"); }

  static void on_read_error(void* owner, int error) noexcept {
    Connection& self = note(owner, "read_error");
    self.errors.push_back(error);
    self.then("read_error");
  }

  static void on_flushed(void* owner) noexcept { note(owner, "flushed").then("flushed"); }

  static void on_write_error(void* owner, int error) noexcept {
    Connection& self = note(owner, "write_error");
    self.errors.push_back(error);
    self.then("write_error");
  }

  static void on_writable(void* owner) noexcept { note(owner, "writable").then("writable"); }
};

}  // namespace zloop::test
