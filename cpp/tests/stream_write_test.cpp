// Stream: writing.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "support/allocation.hpp"
#include "support/catch.hpp"
#include "support/connection.hpp"
#include "support/interposer.hpp"
#include "support/sockets.hpp"

namespace {

using zloop::test::at_end;
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
    REQUIRE(stream->flush() == 0);
    REQUIRE(stream->blocked());
  }

  std::string sent;
};

TEST_CASE("what is written is sent when the loop is about to block") {
  Connection connection;
  const Piece& piece = connection.write("hello");
  CHECK(connection.stream->pending() == 5);
  CHECK(take(connection.pair.theirs.get()).empty());
  CHECK(piece.releases == 0);
  connection.reactor.deferred().run();
  CHECK(take(connection.pair.theirs.get()) == "hello");
  CHECK(connection.stream->pending() == 0);
  CHECK(piece.releases == 1);
  CHECK(connection.log == "flushed ");
  connection.turn();
  CHECK(connection.log == "flushed ");
}

TEST_CASE("the writes of a turn go to the kernel together") {
  Connection connection(SOCK_SEQPACKET);  // keeps the boundaries of what is sent
  connection.write("one ");
  connection.write("two ");
  connection.write("three");
  connection.turn();
  connection.write("four");
  connection.turn();
  CHECK(take(connection.pair.theirs.get()) == "one two three");
  CHECK(take(connection.pair.theirs.get()) == "four");
  CHECK(connection.all_released_once());
}

TEST_CASE("more writes than one call takes go in as few as possible, in order") {
  Connection connection;
  Interposer kernel;
  std::string whole;
  for (int i = 0; i < 150; ++i) {
    const std::string bytes = std::to_string(i) + ' ';
    whole += bytes;
    connection.write(bytes);
  }
  connection.turn();
  CHECK(kernel.send.count == 3);  // 64 + 64 + 22
  CHECK(take(connection.pair.theirs.get()) == whole);
  CHECK(connection.all_released_once());
}

TEST_CASE("an empty write is released, and nothing is sent or told") {
  Connection connection;
  connection.write("");
  CHECK(connection.all_released_once());
  const Interposer kernel;
  connection.turn();
  CHECK(kernel.send.count == 0);
  CHECK(connection.log.empty());
}

TEST_CASE("flush sends at once, and the loop has nothing left to do") {
  Connection connection;
  connection.write("one");
  connection.write("two");
  CHECK(connection.stream->flush() == 0);
  CHECK(take(connection.pair.theirs.get()) == "onetwo");
  CHECK(connection.all_released_once());
  CHECK(connection.reactor.deferred().empty());
  CHECK(connection.log.empty());  // its caller knows
  CHECK(connection.stream->flush() == 0);
}

TEST_CASE("a write that finds no memory takes nothing") {
  Connection connection;
  connection.write("first");
  Piece piece("hello");
  int status = 0;
  zloop::test::with_allocations(0, [&] { status = connection.stream->write(piece.segment()); });
  REQUIRE(status == -ENOMEM);
  CHECK(connection.stream->pending() == 5);
  CHECK(piece.releases == 0);
  connection.turn();
  CHECK(connection.log == "flushed ");
  CHECK(take(connection.pair.theirs.get()) == "first");
}

TEST_CASE("when the kernel is full the rest waits until it has room") {
  BlockedConnection connection;
  CHECK(connection.stream->pending() == 6);
  CHECK(connection.reactor.deferred().empty());
  connection.turn();
  CHECK(connection.log.empty());
  const Interposer kernel;
  connection.write(" more");  // behind it, without another try
  CHECK(connection.stream->flush() == 0);
  CHECK(kernel.send.count == 0);
  CHECK(connection.reactor.deferred().empty());
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

TEST_CASE("an owner that sends by itself is told once when the kernel has room") {
  Connection connection;
  const std::string sent = connection.fill();
  REQUIRE(connection.stream->wait_for_room() == 0);
  CHECK(connection.stream->blocked());
  connection.turn();
  CHECK(connection.log.empty());
  CHECK(take(connection.pair.theirs.get()) == sent);
  connection.turn();
  CHECK(connection.log == "room ");
  CHECK_FALSE(connection.stream->blocked());
  connection.turn();
  CHECK(connection.log == "room ");
}

TEST_CASE("an owner told of room may wait for it again, or close the stream") {
  Connection connection;
  int rooms = 0;
  connection.react = [&](const std::string&) {
    if (++rooms == 1) {
      REQUIRE(connection.stream->wait_for_room() == 0);
    } else {
      connection.stream->close();
    }
  };
  REQUIRE(connection.stream->wait_for_room() == 0);
  for (int i = 0; i < 3; ++i) connection.turn();
  CHECK(connection.log == "room room ");
}

TEST_CASE("a write takes the room that its owner waited for") {
  Connection connection;
  REQUIRE(connection.stream->wait_for_room() == 0);
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
  CHECK(connection.stream->wait_for_room() == -EBADF);
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
      connection.write(whole.substr(at, size));
      at += size;
    }
    REQUIRE(at == whole.size());
    for (std::size_t sent = 0; sent < whole.size();) {
      connection.turn();
      // A turn may send twice: what was deferred, or what is writable, but not one after the other.
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
  connection.turn();
  CHECK(take(connection.pair.theirs.get()) == "hello");
}

TEST_CASE("a flush that fails is reported to its caller, keeps the queue, and is not tried again by itself") {
  Connection connection;
  connection.pair.theirs.reset();
  connection.write("hello");
  CHECK(connection.stream->flush() == -EPIPE);
  CHECK(connection.stream->pending() == 5);
  CHECK_FALSE(connection.stream->blocked());
  connection.turn();
  CHECK(connection.log.empty());
  connection.write(" again");
  connection.turn();
  CHECK(connection.log == "write_error ");
  CHECK(connection.errors == std::vector<int>{EPIPE});
  CHECK(connection.stream->pending() == 11);
}

TEST_CASE("a deferred write that fails is told, once") {
  Connection connection;
  connection.pair.theirs.reset();
  connection.write("hello");
  connection.turn();
  connection.turn();
  CHECK(connection.log == "write_error ");
  CHECK(connection.errors == std::vector<int>{EPIPE});
}

TEST_CASE("a connection that breaks while the kernel is full is told once, and keeps nobody busy") {
  BlockedConnection connection;
  const int error = GENERATE(EPIPE, ECONNRESET);
  Interposer kernel;
  if (error == ECONNRESET) kernel.send.errors = {ECONNRESET};
  connection.pair.theirs.reset();
  connection.turn();
  CHECK(connection.log == "write_error ");
  CHECK(connection.errors == std::vector<int>{error});
  CHECK_FALSE(connection.stream->blocked());
  CHECK(connection.reactor.wait(0) == 0);
}

TEST_CASE("bytes that cannot be waited for are an error, and stay queued") {
  Connection connection;
  connection.fill();
  connection.write("hello");
  Interposer kernel;
  kernel.poller_control.errors = {ENOSPC};
  CHECK(connection.stream->flush() == -ENOSPC);
  CHECK(connection.stream->pending() == 5);
  CHECK_FALSE(connection.stream->blocked());
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
    connection.write("hello");
    connection.stream->discard_pending();
    CHECK(connection.reactor.deferred().empty());
    CHECK(connection.stream->pending() == 0);
    CHECK(connection.all_released_once());
    connection.turn();
    CHECK(take(connection.pair.theirs.get()).empty());
    CHECK(connection.log.empty());
    connection.write("after");
    connection.turn();
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

TEST_CASE("a stream that closes with a write deferred is not called about it") {
  Connection connection;
  connection.write("hello");
  connection.stream->close();
  CHECK(connection.reactor.deferred().empty());
  connection.turn();
  CHECK(connection.log.empty());
  connection.pair.ours.reset();
  CHECK(at_end(connection.pair.theirs.get()));
}

TEST_CASE("a stream may be closed from inside any call about writing") {
  const bool deferred = GENERATE(true, false);  // or told that the kernel has room
  const bool fails = GENERATE(false, true);
  const bool destroyed = GENERATE(false, true);
  Connection connection;
  if (!deferred) connection.fill();
  connection.write("queued");
  if (!deferred) {
    REQUIRE(connection.stream->flush() == 0);
    REQUIRE(connection.stream->blocked());
    take(connection.pair.theirs.get());
  }
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

TEST_CASE("what a call about writing writes is sent in the next turn") {
  Connection connection;
  int rounds = 0;
  connection.react = [&](const std::string&) {
    if (++rounds < 3) connection.write("again ");
  };
  connection.write("first ");
  connection.turn();
  CHECK(take(connection.pair.theirs.get()) == "first ");
  CHECK_FALSE(connection.reactor.deferred().empty());
  connection.turn();
  connection.turn();
  CHECK(take(connection.pair.theirs.get()) == "again again ");
  CHECK(connection.reactor.deferred().empty());
  CHECK(connection.all_released_once());
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
