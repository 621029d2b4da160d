// A thread that ends inside of foreign code, by pthread_exit(): what has called that lets the unwinding pass, which
// ends the process at a noexcept function and at a catch (...) that does not rethrow. See WatcherOps.
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

#include "support/catch.hpp"
#include "support/connection.hpp"
#include "support/interposer.hpp"
#include "support/piece.hpp"
#include "support/platform.hpp"
#include "support/sockets.hpp"
#include "support/tls.hpp"
#include "zloop/datagram.hpp"
#include "zloop/listener.hpp"
#include "zloop/reactor.hpp"
#include "zloop/stream.hpp"
#include "zloop/timer_heap.hpp"
#include "zloop/tls_session.hpp"
#include "zloop/write_queue.hpp"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

namespace {

using zloop::DatagramOps;
using zloop::DatagramSocket;
using zloop::Listener;
using zloop::ListenerOps;
using zloop::Reactor;
using zloop::Route;
using zloop::Stream;
using zloop::StreamOps;
using zloop::TimerHeap;
using zloop::TimerNode;
using zloop::TlsSession;
using zloop::Watcher;
using zloop::WatcherOps;
using zloop::WriteQueue;
using zloop::test::Connection;
using zloop::test::Fd;
using zloop::test::Interposer;
using zloop::test::Library;
using zloop::test::Piece;
using zloop::test::TlsContext;
using zloop::test::TlsEnd;
using zloop::test::TlsPair;

// ---- what the compiler knows

template <auto Function, typename... Arguments>
constexpr bool lets_pass = std::is_invocable_v<decltype(Function), Arguments...> &&
                           !std::is_nothrow_invocable_v<decltype(Function), Arguments...>;

static_assert(lets_pass<&Reactor::dispatch, Reactor&>);

static_assert(lets_pass<&Stream::flush, Stream&>);
static_assert(lets_pass<&Stream::close, Stream&>);
static_assert(lets_pass<&Stream::discard_pending, Stream&>);

static_assert(lets_pass<&DatagramSocket::flush, DatagramSocket&>);
static_assert(lets_pass<&DatagramSocket::close, DatagramSocket&>);
static_assert(lets_pass<&DatagramSocket::drop_first, DatagramSocket&>);
static_assert(lets_pass<&DatagramSocket::discard_pending, DatagramSocket&>);

static_assert(lets_pass<&WriteQueue::consume, WriteQueue&, std::size_t, WriteQueue::ReleaseFn>);
static_assert(lets_pass<&WriteQueue::clear, WriteQueue&, WriteQueue::ReleaseFn>);

static_assert(lets_pass<&TimerHeap::clear, TimerHeap&, void (*)(void*)>);

static_assert(lets_pass<&TlsSession::do_handshake, TlsSession&>);
static_assert(lets_pass<&TlsSession::read, TlsSession&, char*, std::size_t>);
static_assert(lets_pass<&TlsSession::write, TlsSession&, const char*, std::size_t>);

// By a pointer to what is noexcept, a call has no way out for the unwinding either.
template <typename Pointer, typename... Arguments>
constexpr bool may_end = !std::is_nothrow_invocable_v<Pointer, Arguments...>;

static_assert(may_end<decltype(WatcherOps::on_ready), Watcher&, unsigned>);
static_assert(may_end<decltype(StreamOps::let_go), void*>);
static_assert(may_end<decltype(StreamOps::on_data), void*, const char*, std::size_t>);
static_assert(may_end<decltype(StreamOps::get_buffer), void*, char**, std::size_t*>);
static_assert(may_end<decltype(StreamOps::on_buffer_filled), void*, ssize_t>);
static_assert(may_end<decltype(StreamOps::on_end), void*>);
static_assert(may_end<decltype(StreamOps::on_read_error), void*, int>);
static_assert(may_end<decltype(StreamOps::on_flushed), void*>);
static_assert(may_end<decltype(StreamOps::on_write_error), void*, int>);
static_assert(may_end<decltype(StreamOps::on_writable), void*>);
static_assert(may_end<decltype(DatagramOps::on_readable), void*>);
static_assert(may_end<decltype(DatagramOps::on_writable), void*>);
static_assert(may_end<decltype(ListenerOps::on_accept), void*, int, const sockaddr_storage&, socklen_t>);
static_assert(may_end<decltype(ListenerOps::on_error), void*, int>);
static_assert(may_end<WriteQueue::ReleaseFn, void*>);

// ---- threads that end

// This thread is one that a leave() ends.
thread_local bool may_leave = false;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): each thread's own

// Foreign code, of every kind: ends the thread that calls it, if that is ends_in()'s.
template <typename Result, typename... Arguments>
Result leave(Arguments... /*arguments*/) {
  if (may_leave) pthread_exit(nullptr);
  return Result();
}

struct Ending {
  const std::function<void()>& call;
  bool returned = false;
  bool unwound = false;
};

struct Mark {
  explicit Mark(bool& flag) : passed(flag) {}
  ~Mark() { passed = true; }
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;

  bool& passed;
};

void* run(void* argument) {
  auto& ending = *static_cast<Ending*>(argument);
  may_leave = true;
  const Mark mark(ending.unwound);
  ending.call();
  ending.returned = true;
  return nullptr;
}

// Whether the call, made in a thread of its own, met a leave(), and the thread unwound all that the call had called.
bool ends_thread(const std::function<void()>& call) {
  Ending ending{.call = call};
  pthread_t thread{};
  // Nothing is asserted while the thread runs, which may assert something, too.
  const int created = pthread_create(&thread, nullptr, run, &ending);
  const int joined = created == 0 ? pthread_join(thread, nullptr) : -1;
  REQUIRE(created == 0);
  REQUIRE(joined == 0);
  return !ending.returned && (ending.unwound || !zloop::test::exit_unwinds);
}

bool ends_in_dispatch(Reactor& reactor) {
  return ends_thread([&] {
    if (reactor.wait(zloop::test::patience_ns) > 0) reactor.dispatch();
  });
}

void release(void* reference) { leave<void>(reference); }

TEST_CASE("a thread that ends in a watcher's function unwinds its dispatch") {
  constexpr WatcherOps ops{.on_ready = leave<void, Watcher&, unsigned>};
  Reactor reactor;
  REQUIRE(reactor.open() == 0);
  const zloop::test::Pair pair = zloop::test::make_pair();
  zloop::test::put(pair.theirs.get(), "x");
  Watcher watcher;
  REQUIRE(reactor.attach(watcher, pair.ours.get(), ops) == 0);
  const bool once = GENERATE(true, false);
  REQUIRE((once ? reactor.arm(watcher, zloop::interest_read) : watcher.set_interest(zloop::interest_read)) == 0);
  CHECK(ends_in_dispatch(reactor));
}

// ---- streams

TEST_CASE("a thread that ends in a stream's on_data unwinds") {
  Connection connection;
  connection.ops.on_data = leave<void, void*, const char*, std::size_t>;
  REQUIRE(connection.stream->start_reading() == 0);
  zloop::test::put(connection.pair.theirs.get(), "x");
  CHECK(ends_in_dispatch(connection.reactor));
}

TEST_CASE("a thread that ends in a stream's get_buffer or on_buffer_filled unwinds") {
  Connection connection;
  if (GENERATE(true, false)) {
    connection.ops.get_buffer = leave<bool, void*, char**, std::size_t*>;
  } else {
    connection.ops.on_buffer_filled = leave<void, void*, ssize_t>;
  }
  connection.stream->set_buffered(true);
  REQUIRE(connection.stream->start_reading() == 0);
  zloop::test::put(connection.pair.theirs.get(), "x");
  CHECK(ends_in_dispatch(connection.reactor));
}

TEST_CASE("a thread that ends in a stream's on_end unwinds") {
  Connection connection;
  connection.ops.on_end = leave<void, void*>;
  REQUIRE(connection.stream->start_reading() == 0);
  connection.pair.theirs.reset();
  CHECK(ends_in_dispatch(connection.reactor));
}

TEST_CASE("a thread that ends in a stream's on_read_error unwinds") {
  Connection connection;
  Interposer interposer;
  connection.ops.on_read_error = leave<void, void*, int>;
  REQUIRE(connection.stream->start_reading() == 0);
  zloop::test::put(connection.pair.theirs.get(), "x");
  interposer.receive.errors = {ECONNRESET};
  CHECK(ends_in_dispatch(connection.reactor));
}

TEST_CASE("a thread that ends in a stream's on_flushed, on_write_error, release or let_go unwinds") {
  Connection connection;
  Interposer interposer;
  const int which = GENERATE(0, 1, 2, 3);
  connection.stream->close();
  if (which == 0) connection.ops.on_flushed = leave<void, void*>;
  if (which == 1) connection.ops.on_write_error = leave<void, void*, int>;
  if (which == 2) connection.ops.release = release;
  if (which == 3) connection.ops.let_go = leave<void, void*>;
  REQUIRE(connection.open_stream() == 0);
  connection.fill();
  connection.queue("waits");
  REQUIRE(connection.stream->wait_writable() == 0);
  if (which == 1) interposer.send.errors = {EPIPE};
  zloop::test::take(connection.pair.theirs.get());
  CHECK(ends_in_dispatch(connection.reactor));
}

TEST_CASE("a thread that ends in a stream's on_writable unwinds") {
  Connection connection;
  connection.ops.on_writable = leave<void, void*>;
  connection.fill();
  REQUIRE(connection.stream->wait_writable() == 0);
  zloop::test::take(connection.pair.theirs.get());
  CHECK(ends_in_dispatch(connection.reactor));
}

TEST_CASE("a thread that ends where a stream releases what it had queued unwinds") {
  Connection connection;
  Stream& stream = *connection.stream;
  stream.close();
  connection.ops.release = release;
  REQUIRE(connection.open_stream() == 0);
  connection.fill();
  for (const char* bytes : {"one", "two", "three"}) connection.queue(bytes);
  CHECK(ends_thread([&] { stream.discard_pending(); }));
  CHECK(ends_thread([&] { stream.close(); }));
}

TEST_CASE("a thread that ends where a stream flushes unwinds") {
  Connection connection;
  connection.stream->close();
  connection.ops.release = release;
  REQUIRE(connection.open_stream() == 0);
  connection.queue("sent");
  CHECK(ends_thread([&] { static_cast<void>(connection.stream->flush()); }));
}

// ---- datagrams

constexpr DatagramOps datagram_ops{.on_readable = leave<void, void*>, .on_writable = leave<void, void*>};

struct DatagramEnd {
  DatagramEnd() {
    REQUIRE(reactor.open() == 0);
    REQUIRE(datagram.open(reactor, pair.ours.get(), 100) == 0);
  }

  void queue(Piece& piece) {
    REQUIRE(datagram.queue({.segment = piece.segment(), .route = Route::peer, .address = {}}) == 0);
  }

  zloop::test::Pair pair = zloop::test::make_pair(SOCK_DGRAM);
  Reactor reactor;
  Piece one{"one"};
  Piece two{"two"};
  Piece three{"three"};
  DatagramSocket datagram{datagram_ops, release, nullptr};
};

TEST_CASE("a thread that ends in a datagram socket's on_readable or on_writable unwinds") {
  DatagramEnd end;
  if (GENERATE(true, false)) {
    REQUIRE(end.datagram.start_reading() == 0);
    zloop::test::put(end.pair.theirs.get(), "x");
  } else {
    end.queue(end.one);
  }
  CHECK(ends_in_dispatch(end.reactor));
}

TEST_CASE("a thread that ends where a datagram socket releases what it had queued unwinds") {
  DatagramEnd end;
  for (Piece* piece : {&end.one, &end.two, &end.three}) end.queue(*piece);
  CHECK(ends_thread([&] { end.datagram.drop_first(); }));
  CHECK(ends_thread([&] { end.datagram.discard_pending(); }));
  CHECK(ends_thread([&] { end.datagram.close(); }));
}

TEST_CASE("a thread that ends where a datagram socket flushes unwinds") {
  DatagramEnd end;
  end.queue(end.one);
  CHECK(ends_thread([&] { static_cast<void>(end.datagram.flush()); }));
}

// ---- listeners

void on_accept(void* /*owner*/, int fd, const sockaddr_storage& /*peer*/, socklen_t /*peer_size*/) {
  ::close(fd);
  leave<void>();
}

TEST_CASE("a thread that ends in a listener's on_accept or on_error unwinds") {
  constexpr ListenerOps ops{
      .on_accept = on_accept,
      .on_error = leave<void, void*, int>,
  };
  Interposer interposer;
  if (GENERATE(true, false)) interposer.accept.errors = {EMFILE};
  const Fd socket = zloop::test::make_socket(AF_INET, SOCK_STREAM);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(socket.get(), 1) == 0);
  REQUIRE(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  Reactor reactor;
  REQUIRE(reactor.open() == 0);
  Listener listener(ops, nullptr);
  REQUIRE(listener.open(reactor, socket.get(), 1) == 0);
  REQUIRE(listener.start() == 0);
  const Fd client(::socket(AF_INET, SOCK_STREAM, 0));
  REQUIRE(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0);
  CHECK(ends_in_dispatch(reactor));
}

// ---- containers

TEST_CASE("a thread that ends where a queue releases unwinds") {
  Piece one("one");
  Piece two("two");
  WriteQueue queue;
  queue.push(one.segment());
  queue.push(two.segment());
  CHECK(ends_thread([&] { queue.consume(3, release); }));
  CHECK(ends_thread([&] { queue.clear(release); }));
  CHECK(queue.empty());
}

TEST_CASE("a thread that ends where timers are released unwinds") {
  TimerHeap heap;
  TimerNode node;
  heap.push(node, &node, 1);
  CHECK(ends_thread([&] { heap.clear(release); }));
  CHECK(heap.size() == 0);
}

// ---- TLS

void on_message(int /*sent*/, int /*version*/, int /*type*/, const void* /*data*/, std::size_t /*size*/,
                ssl_st* /*ssl*/, void* /*own*/) {
  leave<void>();
}

// For the thread that calls it: what OpenSSL, whose frames are C, has made for a call that is not finished stays for
// good.
void allow_leaks() noexcept {
#ifdef __SANITIZE_ADDRESS__
  __lsan_disable();
#endif
}

TEST_CASE("a thread that ends in a callback of OpenSSL's unwinds") {
  if (Library::get() == nullptr) {
    SUCCEED("no OpenSSL here");
    return;
  }
  TlsContext context;
  TlsEnd client(context, false);
  client.library.SSL_set_msg_callback(client.ssl, on_message);
  CHECK(ends_thread([&] {
    allow_leaks();
    client.session.do_handshake();
  }));
  TlsPair pair;
  pair.client.library.SSL_set_msg_callback(pair.client.ssl, on_message);
  CHECK(ends_thread([&] {
    allow_leaks();
    pair.client.session.write("x", 1);
  }));
  TlsPair other;
  other.client.library.SSL_set_msg_callback(other.client.ssl, on_message);
  CHECK(ends_thread([&] {
    allow_leaks();
    other.client.receive(other.server.write("x"));
  }));
}

}  // namespace
