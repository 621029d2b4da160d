// Stream: writing.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "support/allocation.hpp"
#include "support/catch.hpp"
#include "support/connection.hpp"
#include "support/interposer.hpp"
#include "support/sockets.hpp"

namespace {

using zloop::Stream;
using zloop::test::Connection;
using zloop::test::Interposer;
using zloop::test::pattern;
using zloop::test::Piece;
using zloop::test::put;
using zloop::test::take;

// A connection whose peer has stopped reading, with bytes waiting; its kernel holds `sent`.
struct BlockedConnection : Connection {
  BlockedConnection() {
    sent = fill();
    write("queued");
    REQUIRE(stream->blocked());
  }

  std::string sent;
};

TEST_CASE("what is written is sent in the call, and its reference is not touched") {
  Connection connection;
  Interposer kernel;
  Piece piece("hello");
  CHECK(connection.stream->write(piece.segment()) == 0);
  CHECK(take(connection.pair.theirs.get()) == "hello");
  CHECK(kernel.send.count == 1);
  CHECK(kernel.poller_control.count == 0);
  CHECK(connection.stream->pending() == 0);
  CHECK(piece.releases == 0);
  connection.turn();
  CHECK(connection.log.empty());
}

TEST_CASE("every write is a send of its own") {
  Connection connection(SOCK_SEQPACKET);  // keeps the boundaries of what is sent
  connection.write("one");
  connection.write("two");
  CHECK(take(connection.pair.theirs.get()) == "one");
  CHECK(take(connection.pair.theirs.get()) == "two");
}

TEST_CASE("what the kernel does not take is queued, and the reference with it") {
  Connection connection;
  Interposer kernel;
  kernel.send_limit = 3;
  Piece piece("hello");
  CHECK(connection.stream->write(piece.segment()) == Stream::queued);
  CHECK(connection.stream->pending() == 2);
  CHECK(connection.stream->blocked());
  CHECK(kernel.send.count == 1);
  connection.turn();
  CHECK(take(connection.pair.theirs.get()) == "hello");
  CHECK(piece.releases == 1);
  CHECK(connection.log == "flushed ");
}

TEST_CASE("what is queued goes to the kernel together, when flush offers it") {
  Connection connection(SOCK_SEQPACKET);
  connection.queue("one ");
  connection.queue("two ");
  connection.queue("three");
  CHECK(connection.stream->pending() == 13);
  connection.turn();
  CHECK(take(connection.pair.theirs.get()).empty());
  CHECK(connection.stream->flush() == 0);
  CHECK(take(connection.pair.theirs.get()) == "one two three");
  CHECK(connection.stream->pending() == 0);
  CHECK(connection.all_released_once());
  CHECK(connection.log.empty());  // its caller knows
  CHECK(connection.stream->flush() == 0);
}

TEST_CASE("more segments than one call takes go in as few as possible, in order") {
  Connection connection;
  Interposer kernel;
  std::string whole;
  for (int i = 0; i < 129; ++i) {
    const std::string bytes = std::to_string(i) + ' ';
    whole += bytes;
    connection.queue(bytes);
  }
  CHECK(connection.stream->flush() == 0);
  CHECK(kernel.send.count == 3);  // 64 + 64 + 1
  CHECK(take(connection.pair.theirs.get()) == whole);
  CHECK(connection.all_released_once());
}

TEST_CASE("a write that finds no memory sends and takes nothing") {
  BlockedConnection connection;
  Piece piece("hello");
  const auto write = [&] { return connection.stream->write(piece.segment()); };
  CHECK_THROWS_AS(zloop::test::with_allocations(0, write), std::bad_alloc);
  CHECK(connection.stream->pending() == 6);
  CHECK(piece.releases == 0);
  CHECK(take(connection.pair.theirs.get()) == connection.sent);
  connection.turn();
  CHECK(connection.log == "flushed ");
  CHECK(take(connection.pair.theirs.get()) == "queued");
}

TEST_CASE("when the kernel is full the rest waits until it has room") {
  BlockedConnection connection;
  CHECK(connection.stream->pending() == 6);
  connection.turn();
  CHECK(connection.log.empty());
  const Interposer kernel;
  connection.write(" more");  // behind it, without another try
  CHECK(connection.stream->flush() == 0);
  CHECK(connection.stream->send_now("x", 1) == 0);
  CHECK(kernel.send.count == 0);
  CHECK(connection.stream->pending() == 11);
  CHECK(take(connection.pair.theirs.get()) == connection.sent);
  connection.turn();
  CHECK(connection.log == "flushed ");
  CHECK(take(connection.pair.theirs.get()) == "queued more");
  CHECK_FALSE(connection.stream->blocked());
  CHECK(connection.stream->pending() == 0);
  CHECK(connection.all_released_once());
  connection.turn();
  CHECK(connection.log == "flushed ");
}

TEST_CASE("an owner that sends by itself is notified once when the kernel has room") {
  Connection connection;
  const std::string sent = connection.fill();
  REQUIRE(connection.stream->wait_writable() == 0);
  CHECK(connection.stream->blocked());
  connection.turn();
  CHECK(connection.log.empty());
  CHECK(take(connection.pair.theirs.get()) == sent);
  connection.turn();
  CHECK(connection.log == "writable ");
  CHECK_FALSE(connection.stream->blocked());
  connection.turn();
  CHECK(connection.log == "writable ");
}

TEST_CASE("an owner notified of room may wait for it again, or close the stream") {
  Connection connection;
  int rooms = 0;
  connection.react = [&](const std::string&) {
    if (++rooms == 1) {
      REQUIRE(connection.stream->wait_writable() == 0);
    } else {
      connection.stream->close();
    }
  };
  REQUIRE(connection.stream->wait_writable() == 0);
  for (int i = 0; i < 3; ++i) connection.turn();
  CHECK(connection.log == "writable writable ");
}

TEST_CASE("a write takes the room that its owner waited for") {
  Connection connection;
  REQUIRE(connection.stream->wait_writable() == 0);
  connection.write("hello");
  connection.turn();
  CHECK(take(connection.pair.theirs.get()) == "hello");
  CHECK(connection.log == "flushed ");
  connection.turn();
  CHECK(connection.log == "flushed ");
  CHECK(connection.all_released_once());
}

TEST_CASE("a closed stream has no room to wait for") {
  Connection connection;
  connection.stream->close();
  CHECK(connection.stream->wait_writable() == -EBADF);
}

TEST_CASE("a slow reader of a small socket gets every byte, in order, and every reference is given up once") {
  Connection connection;
  const int small = 4608;  // about the least that the kernel grants
  REQUIRE(::setsockopt(connection.pair.ours.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0);
  const std::string whole = pattern(200'000);
  for (std::size_t at = 0, size = 1; at < whole.size(); at += size, size = (size * 3 % 5003) + 1) {
    connection.write(whole.substr(at, size));
  }
  REQUIRE(connection.pieces.size() > 50);
  std::string received;
  std::size_t blocked_turns = 0;
  while (received.size() < whole.size()) {
    connection.turn();
    if (connection.stream->blocked()) ++blocked_turns;
    const std::string bytes = take(connection.pair.theirs.get(), 777);
    REQUIRE_FALSE(bytes.empty());  // or the stream does not go on
    received += bytes;
  }
  CHECK(blocked_turns > 10);
  CHECK((received == whole));
  CHECK(connection.stream->pending() == 0);
  CHECK(connection.all_released_once());
}

TEST_CASE("a kernel that stops at any byte is given the rest from there") {
  const std::string whole = pattern(23);
  for (std::size_t limit = 1; limit <= whole.size() + 1; ++limit) {
    Connection connection;
    Interposer kernel;
    kernel.send_limit = limit;
    std::size_t at = 0;
    for (const std::size_t size : {1U, 7U, 2U, 13U}) {
      connection.queue(whole.substr(at, size));
      at += size;
    }
    REQUIRE(at == whole.size());
    REQUIRE(connection.stream->wait_writable() == 0);
    for (std::size_t sent = 0; sent < whole.size();) {
      connection.turn();
      sent = std::min(sent + limit, whole.size());
      REQUIRE(connection.stream->pending() == whole.size() - sent);
      REQUIRE(connection.stream->blocked() == (sent < whole.size()));
      std::size_t end = 0;
      for (const Piece& piece : connection.pieces) {
        end += piece.bytes.size();
        REQUIRE(piece.releases == (end <= sent ? 1 : 0));
      }
    }
    REQUIRE(take(connection.pair.theirs.get()) == whole);
  }
}

TEST_CASE("a send that takes no byte leaves all of them to the next event") {
  Connection connection;
  connection.queue("hello");
  {
    Interposer kernel;
    kernel.send_limit = 0;
    CHECK(connection.stream->flush() == 0);
    CHECK(kernel.send.count == 1);
  }
  CHECK(connection.stream->pending() == 5);
  CHECK(connection.stream->blocked());
  connection.turn();
  CHECK(take(connection.pair.theirs.get()) == "hello");
  CHECK(connection.log == "flushed ");
}

TEST_CASE("the interest in writing is asked for once, however many sends a backlog takes") {
  Connection connection;
  Interposer kernel;
  kernel.send_limit = 1;
  connection.write("0123456789");
  for (int i = 0; i < 10; ++i) connection.turn();
  CHECK(kernel.send.count == 10);
  CHECK(kernel.poller_control.count == 2);  // on, off
  CHECK(take(connection.pair.theirs.get()) == "0123456789");
}

TEST_CASE("a send that a signal interrupts is repeated") {
  Connection connection;
  Interposer kernel;
  kernel.send.errors = {EINTR, EINTR};
  connection.write("hello");
  CHECK(take(connection.pair.theirs.get()) == "hello");
}

TEST_CASE("a write that fails is reported to its caller, and takes nothing") {
  Connection connection;
  connection.pair.theirs.reset();
  Piece piece("hello");
  CHECK(connection.stream->write(piece.segment()) == -EPIPE);
  CHECK(piece.releases == 0);
  CHECK(connection.stream->pending() == 0);
  CHECK_FALSE(connection.stream->blocked());
  connection.turn();
  CHECK(connection.log.empty());
}

TEST_CASE("a flush that fails is reported to its caller, keeps the queue, and is not tried again") {
  Connection connection;
  connection.pair.theirs.reset();
  connection.queue("hello");
  CHECK(connection.stream->flush() == -EPIPE);
  CHECK(connection.stream->pending() == 5);
  CHECK_FALSE(connection.stream->blocked());
  connection.turn();
  CHECK(connection.log.empty());
}

TEST_CASE("a connection that breaks while the kernel is full is reported once, and keeps nobody busy") {
  BlockedConnection connection;
  const int error = GENERATE(EPIPE, ECONNRESET);
  Interposer kernel;
  if (error == ECONNRESET) kernel.send.errors = {ECONNRESET};
  connection.pair.theirs.reset();
  connection.turn();
  CHECK(connection.log == "write_error ");
  CHECK(connection.errors == std::vector<int>{error});
  CHECK_FALSE(connection.stream->blocked());
  connection.turn();  // the last word
  CHECK(connection.reactor.wait(0) == 0);
  CHECK(connection.log == "write_error ");
}

TEST_CASE("bytes that cannot be waited with are an error, and the caller's") {
  Connection connection;
  connection.fill();
  Interposer kernel;
  kernel.poller_control.errors = {ENOSPC};
  Piece piece("hello");
  CHECK(connection.stream->write(piece.segment()) == -ENOSPC);
  CHECK(connection.stream->pending() == 0);
  CHECK_FALSE(connection.stream->blocked());
  CHECK(piece.releases == 0);
}

TEST_CASE("send_now says what the kernel took, and leaves waiting to its caller") {
  Connection connection;
  CHECK(connection.stream->send_now("hello", 5) == 5);
  CHECK(take(connection.pair.theirs.get()) == "hello");
  connection.fill();
  CHECK(connection.stream->send_now("x", 1) == 0);
  CHECK_FALSE(connection.stream->blocked());
  connection.pair.theirs.reset();
  CHECK(connection.stream->send_now("x", 1) == -EPIPE);
}

TEST_CASE("what is discarded is released and never sent") {
  SECTION("before it was offered") {
    Connection connection;
    connection.queue("hello");
    connection.stream->discard_pending();
    CHECK(connection.stream->pending() == 0);
    CHECK(connection.all_released_once());
    connection.turn();
    CHECK(take(connection.pair.theirs.get()).empty());
    CHECK(connection.log.empty());
    connection.write("after");
    CHECK(take(connection.pair.theirs.get()) == "after");
  }
  SECTION("while the kernel is full") {
    BlockedConnection connection;
    connection.stream->discard_pending();
    CHECK_FALSE(connection.stream->blocked());
    CHECK(connection.all_released_once());
    CHECK(take(connection.pair.theirs.get()) == connection.sent);
    connection.turn();
    CHECK(connection.log.empty());
    CHECK(take(connection.pair.theirs.get()).empty());
  }
}

TEST_CASE("a stream that closes, or goes, releases what it had queued") {
  BlockedConnection connection;
  connection.write("more");
  const bool destroyed = GENERATE(false, true);
  if (destroyed) {
    connection.stream.reset();
  } else {
    connection.stream->close();
    CHECK(connection.stream->pending() == 0);
  }
  CHECK(connection.all_released_once());
  take(connection.pair.theirs.get());
  connection.turn();
  CHECK(connection.log.empty());
}

TEST_CASE("a stream may be closed from inside any call about writing") {
  const bool fails = GENERATE(false, true);
  const bool destroyed = GENERATE(false, true);
  BlockedConnection connection;
  take(connection.pair.theirs.get());
  if (fails) connection.pair.theirs.reset();
  connection.react = [&](const std::string&) {
    if (destroyed) {
      connection.stream.reset();
    } else {
      connection.stream->close();
    }
  };
  connection.turn();
  CHECK(connection.log == (fails ? "write_error " : "flushed "));
  CHECK(connection.all_released_once());
  connection.turn();
  CHECK(connection.log == (fails ? "write_error " : "flushed "));
}

// Goes when what is queued in its stream is released, unless it is held.
class SharedOwner : public std::enable_shared_from_this<SharedOwner> {
 public:
  struct Reference {
    std::shared_ptr<SharedOwner> owner;
    std::weak_ptr<SharedOwner> seen = owner;
    bool outlived = false;  // the owner did, its release
  };

  SharedOwner(zloop::Reactor& reactor, int fd) { REQUIRE(stream_.open(reactor, fd, ops, this) == 0); }
  ~SharedOwner() { stream_.close(); }
  SharedOwner(const SharedOwner&) = delete;
  SharedOwner& operator=(const SharedOwner&) = delete;

  Stream& stream() { return stream_; }

 private:
  static void release(void* queued) {
    auto& reference = *static_cast<Reference*>(queued);
    reference.owner.reset();
    reference.outlived = !reference.seen.expired();
  }
  static void hold(void* owner) {
    auto& self = *static_cast<SharedOwner*>(owner);
    self.held_ = self.shared_from_this();
  }
  static void let_go(void* owner) { const auto last = std::exchange(static_cast<SharedOwner*>(owner)->held_, nullptr); }
  static constexpr zloop::StreamOps ops{.release = &release, .hold = &hold, .let_go = &let_go};

  Stream stream_;
  std::shared_ptr<SharedOwner> held_;
};

TEST_CASE("an owner may go when what was queued is released, once it is let go") {
  Connection connection;
  connection.stream->close();
  SharedOwner::Reference reference{
      .owner = std::make_shared<SharedOwner>(connection.reactor, connection.pair.ours.get()),
  };
  Stream& stream = reference.owner->stream();
  stream.queue({.data = "queued", .size = 6, .reference = &reference});
  REQUIRE(stream.wait_writable() == 0);
  connection.turn();
  CHECK(reference.owner == nullptr);
  CHECK(reference.outlived);
  CHECK(reference.seen.expired());
  CHECK(take(connection.pair.theirs.get()) == "queued");
}

TEST_CASE("what a call about writing writes is sent at once") {
  BlockedConnection connection;
  connection.react = [&](const std::string&) { connection.write(" again"); };
  take(connection.pair.theirs.get());
  connection.turn();
  CHECK(take(connection.pair.theirs.get()) == "queued again");
  CHECK(connection.all_released_once());
  connection.turn();
  CHECK(connection.log == "flushed ");
}

TEST_CASE("reading and writing do not disturb each other's interest") {
  BlockedConnection connection;
  REQUIRE(connection.stream->start_reading() == 0);
  CHECK(connection.stream->blocked());
  connection.stream->stop_reading();
  CHECK(connection.stream->blocked());
  REQUIRE(connection.stream->start_reading() == 0);
  CHECK(take(connection.pair.theirs.get()) == connection.sent);
  put(connection.pair.theirs.get(), "hello");
  connection.turn();
  CHECK(connection.log == "data flushed ");
  CHECK(connection.stream->reading());
  CHECK_FALSE(connection.stream->blocked());
}

}  // namespace
