#include "zloop/datagram.hpp"

#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "support/allocation.hpp"
#include "support/catch.hpp"
#include "support/interposer.hpp"
#include "support/piece.hpp"
#include "support/platform.hpp"
#include "support/sockets.hpp"

namespace {

using zloop::Address;
using zloop::DatagramOps;
using zloop::DatagramSocket;
using zloop::Loan;
using zloop::OutgoingDatagram;
using zloop::Reactor;
using zloop::ReceivedDatagram;
using zloop::Route;
using zloop::test::Fd;
using zloop::test::Interposer;
using zloop::test::make_pair;
using zloop::test::pattern;
using zloop::test::Piece;
using zloop::test::put;
using zloop::test::take;

using Texts = std::vector<std::string>;

// A UDP socket on a port of its own, not in a loop.
struct UdpSocket {
  UdpSocket() {
    address.parse("127.0.0.1", 0, AF_INET);
    REQUIRE(::bind(socket.get(), address.data(), address.size()) == 0);
    sockaddr_storage bound{};
    socklen_t size = sizeof(bound);
    REQUIRE(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &size) == 0);
    address = Address(bound, size);
  }

  void send(const std::string& text, const Address& to) const {
    REQUIRE(::sendto(socket.get(), text.data(), text.size(), 0, to.data(), to.size()) ==
            static_cast<ssize_t>(text.size()));
  }

  // Everything that is there.
  [[nodiscard]] Texts take() const {
    Texts texts;
    std::string room(65536, '\0');
    for (;;) {
      const ssize_t size = ::recvfrom(socket.get(), room.data(), room.size(), 0, nullptr, nullptr);
      if (size < 0) return texts;
      texts.push_back(room.substr(0, static_cast<std::size_t>(size)));
    }
  }

  Fd socket = zloop::test::make_socket(AF_INET, SOCK_DGRAM);
  Address address;
};

// A socket in a loop, and an owner that receives and flushes when notified, and keeps a record.
class Endpoint {
 public:
  explicit Endpoint(int fd, std::size_t longest = 65536) {
    REQUIRE(reactor.open() == 0);
    REQUIRE(datagram->open(reactor, fd, longest) == 0);
    REQUIRE(datagram->start_reading() == 0);
  }

  // Deals with what is ready at once; true if there was anything.
  bool turn() {
    const std::size_t before = calls;
    REQUIRE(reactor.wait(0) >= 0);
    reactor.dispatch();
    return calls > before;
  }

  // Queues a datagram, whose reference the datagram socket takes over.
  Piece& queue(std::string text, Route route = Route::peer, const Address& address = {}) {
    Piece& piece = pieces.emplace_back(std::move(text));
    REQUIRE(datagram->queue({.segment = piece.segment(), .route = route, .address = address}) == 0);
    return piece;
  }

  [[nodiscard]] bool all_released_once() const {
    return std::ranges::all_of(pieces, [](const Piece& piece) { return piece.releases == 1; });
  }

  // Until there is nothing to do, or a call failed; the results that are not zero.
  [[nodiscard]] std::vector<int> flush() const {
    std::vector<int> outcomes;
    while (const int outcome = datagram->flush()) {
      outcomes.push_back(outcome);
      if (outcome == DatagramSocket::routed_by_owner) break;
    }
    return outcomes;
  }

  Reactor reactor;
  std::deque<Piece> pieces;
  std::unique_ptr<DatagramSocket> datagram = std::make_unique<DatagramSocket>(ops, &Piece::release, this);
  Texts received;
  std::vector<Address> peers;
  std::vector<int> results;  // of receive(), one for each on_readable
  std::vector<int> flushed;  // of flush(), from on_writable, that are not zero
  std::size_t calls = 0;
  std::function<void()> on_call;  // instead of receiving and flushing

 private:
  static void on_readable(void* owner) noexcept {
    auto& self = *static_cast<Endpoint*>(owner);
    ++self.calls;
    if (self.on_call) {
      self.on_call();
      return;
    }
    std::array<ReceivedDatagram, DatagramSocket::batch_max> batch;
    Loan loan;
    const int count = self.datagram->receive(batch.data(), loan);
    self.results.push_back(count);
    for (int i = 0; i < count; ++i) {
      const ReceivedDatagram& one = batch.at(static_cast<std::size_t>(i));
      self.received.emplace_back(one.data, one.size);
      self.peers.emplace_back(one.peer, one.peer_size);
    }
  }

  static void on_writable(void* owner) noexcept {
    auto& self = *static_cast<Endpoint*>(owner);
    ++self.calls;
    if (self.on_call) {
      self.on_call();
      return;
    }
    for (const int outcome : self.flush()) self.flushed.push_back(outcome);
  }

  static constexpr DatagramOps ops{.on_readable = &Endpoint::on_readable, .on_writable = &Endpoint::on_writable};
};

// An endpoint with a socket of its own, and another that is not in the loop.
struct UdpEndpoint : UdpSocket, Endpoint {  // NOLINT(misc-multiple-inheritance): the socket has to come first
  UdpEndpoint() : Endpoint(UdpSocket::socket.get()) {}

  [[nodiscard]] int send_to_other(const std::string& text) const {
    return datagram->send_now(text.data(), text.size(), &other.address);
  }

  Piece& queue_to_other(std::string text) { return queue(std::move(text), Route::address, other.address); }

  UdpSocket other;
};

// One end of a socket pair: connected, and with a kernel that is soon full.
struct PairEndpoint {
  // Datagrams to the peer until the kernel takes no more; how many.
  [[nodiscard]] int fill() const {
    int count = 0;
    while (endpoint.datagram->send_now("x", 1, nullptr) == 0) ++count;
    return count;
  }

  zloop::test::Pair pair = make_pair(SOCK_DGRAM);
  Endpoint endpoint{pair.ours.get()};
};

// ---- receiving

TEST_CASE("a datagram is received whole, with its sender", "[loopback]") {
  UdpEndpoint endpoint;
  const std::string text = GENERATE(std::string("hello"), std::string(), pattern(65507));
  endpoint.other.send(text, endpoint.address);
  REQUIRE(endpoint.turn());
  CHECK(endpoint.received == Texts{text});
  REQUIRE(endpoint.peers.size() == 1);
  CHECK(endpoint.peers[0].family() == AF_INET);
  CHECK(endpoint.peers[0].port() == endpoint.other.address.port());
  CHECK_FALSE(endpoint.turn());
}

TEST_CASE("a sender may have no address") {
  PairEndpoint one;
  put(one.pair.theirs.get(), "anonymous");
  REQUIRE(one.endpoint.turn());
  CHECK(one.endpoint.received == Texts{"anonymous"});
  CHECK(one.endpoint.peers[0].size() == 0);
}

TEST_CASE("a busy socket is asked for more at a time, up to a bound, and a quiet one for less again", "[loopback]") {
  UdpEndpoint endpoint;
  Texts sent;
  for (int i = 0; i < 60; ++i) {
    sent.push_back(std::to_string(i));
    endpoint.other.send(sent.back(), endpoint.address);
  }
  while (endpoint.turn()) {
  }
  CHECK(endpoint.received == sent);
  CHECK(endpoint.results == std::vector<int>{1, 2, 4, 8, 16, 16, 13});
  Interposer kernel;
  for (int i = 0; i < 5; ++i) {
    endpoint.other.send("quiet", endpoint.address);
    REQUIRE(endpoint.turn());
  }
  for (int i = 0; i < 3; ++i) endpoint.other.send("busy", endpoint.address);
  endpoint.results.clear();
  while (endpoint.turn()) {
  }
  CHECK(endpoint.results == std::vector<int>{2, 1});
}

TEST_CASE("an owner that can take but one at a time gets one at the next time", "[loopback]") {
  UdpEndpoint endpoint;
  for (int i = 0; i < 10; ++i) endpoint.other.send("x", endpoint.address);
  endpoint.turn();
  endpoint.turn();
  endpoint.datagram->expect_one();
  endpoint.turn();
  CHECK(endpoint.results == std::vector<int>{1, 2, 1});
}

TEST_CASE("as many are received together as there is room for at their longest") {
  const PairEndpoint one;
  Endpoint endpoint(one.pair.theirs.get(), Reactor::datagram_buffer_size / 2);
  for (int i = 0; i < 5; ++i) put(one.pair.ours.get(), "x");
  while (endpoint.turn()) {
  }
  CHECK(endpoint.results == std::vector<int>{1, 2, 2});
}

TEST_CASE("the end of a datagram that is too long is dropped") {
  const PairEndpoint one;
  Endpoint endpoint(one.pair.theirs.get(), 4);
  put(one.pair.ours.get(), "too long");
  put(one.pair.ours.get(), "next");
  while (endpoint.turn()) {
  }
  CHECK(endpoint.received == Texts{"too ", "next"});
}

TEST_CASE("nothing is received before reading starts, nor after it stops", "[loopback]") {
  UdpEndpoint endpoint;
  CHECK(endpoint.datagram->reading());
  endpoint.datagram->stop_reading();
  CHECK_FALSE(endpoint.datagram->reading());
  endpoint.other.send("early", endpoint.address);
  CHECK_FALSE(endpoint.turn());
  REQUIRE(endpoint.datagram->start_reading() == 0);
  CHECK(endpoint.turn());
  CHECK(endpoint.received == Texts{"early"});
}

TEST_CASE("a readiness that has gone is no error of anybody's", "[loopback]") {
  UdpEndpoint endpoint;
  endpoint.other.send("x", endpoint.address);
  REQUIRE(endpoint.reactor.wait(0) == 1);
  CHECK(endpoint.UdpSocket::take() == Texts{"x"});
  endpoint.reactor.dispatch();
  CHECK(endpoint.results == std::vector<int>{-EAGAIN});
}

TEST_CASE("what an earlier datagram met on its way is received as an error, and the socket goes on", "[loopback]") {
  const UdpSocket socket;
  UdpSocket peer;
  REQUIRE(::connect(socket.socket.get(), peer.address.data(), peer.address.size()) == 0);
  Endpoint endpoint(socket.socket.get());
  peer.socket.reset();
  REQUIRE(endpoint.datagram->send_now("to nobody", 9, nullptr) == 0);
  REQUIRE(endpoint.turn());
  CHECK(endpoint.results == std::vector<int>{-ECONNREFUSED});
  CHECK_FALSE(endpoint.turn());
  CHECK(endpoint.datagram->reading());
}

TEST_CASE("an error between two datagrams hides neither", "[loopback]") {
  UdpEndpoint endpoint;
  Interposer kernel;
  kernel.receive.errors = {EINTR, ENETDOWN};
  endpoint.other.send("x", endpoint.address);
  endpoint.turn();
  endpoint.turn();
  CHECK(endpoint.results == std::vector<int>{-ENETDOWN, 1});
}

TEST_CASE("receiving needs memory", "[loopback]") {
  UdpEndpoint endpoint;
  endpoint.other.send("x", endpoint.address);
  std::array<ReceivedDatagram, DatagramSocket::batch_max> batch;
  const auto receive = [&] {
    Loan loan;
    return endpoint.datagram->receive(batch.data(), loan);
  };
  CHECK(zloop::test::with_allocations(0, receive) == -ENOMEM);
  CHECK(receive() == 1);
}

TEST_CASE("what was received stays for as long as the loan, whatever is received meanwhile", "[loopback]") {
  UdpEndpoint endpoint;
  std::array<ReceivedDatagram, DatagramSocket::batch_max> first;
  std::array<ReceivedDatagram, DatagramSocket::batch_max> second;
  Loan outer;
  endpoint.other.send("the first", endpoint.address);
  REQUIRE(endpoint.datagram->receive(first.data(), outer) == 1);
  {
    Loan inner;
    endpoint.other.send("something else", endpoint.address);
    REQUIRE(endpoint.datagram->receive(second.data(), inner) == 1);
    CHECK(std::string(second[0].data, second[0].size) == "something else");
  }
  CHECK(std::string(first[0].data, first[0].size) == "the first");
}

// ---- sending

TEST_CASE("a datagram is sent in the call, to the address that it names", "[loopback]") {
  UdpEndpoint endpoint;
  Interposer kernel;
  CHECK(endpoint.send_to_other("one") == 0);
  CHECK(endpoint.other.take() == Texts{"one"});
  CHECK(endpoint.send_to_other("") == 0);
  CHECK(endpoint.other.take() == Texts{""});
  CHECK(kernel.send.count == 2);
  CHECK(kernel.poller_control.count == 0);
  CHECK_FALSE(endpoint.turn());
}

TEST_CASE("an error is reported by the call that meets it", "[loopback]") {
  const UdpEndpoint endpoint;
  CHECK(endpoint.send_to_other(pattern(70000)) == -EMSGSIZE);
  CHECK(endpoint.send_to_other("after") == 0);
  CHECK(endpoint.other.take() == Texts{"after"});
}

TEST_CASE("nothing overtakes what is queued", "[loopback]") {
  UdpEndpoint endpoint;
  endpoint.queue_to_other("first");
  CHECK(endpoint.datagram->pending() == 1);
  CHECK(endpoint.datagram->pending_bytes() == 5);
  CHECK(endpoint.datagram->blocked());
  CHECK(endpoint.send_to_other("second") == -EAGAIN);
  endpoint.queue_to_other("second");
  CHECK(endpoint.other.take().empty());
  REQUIRE(endpoint.turn());
  CHECK(endpoint.other.take() == Texts{"first", "second"});
  CHECK(endpoint.datagram->pending() == 0);
  CHECK(endpoint.datagram->pending_bytes() == 0);
  CHECK(endpoint.all_released_once());
  CHECK_FALSE(endpoint.turn());
}

TEST_CASE("many datagrams that wait take few calls, and keep their order", "[loopback]") {
  UdpEndpoint endpoint;
  Interposer kernel;
  Texts sent;
  for (int i = 0; i < 40; ++i) {
    sent.push_back(std::to_string(i));
    endpoint.queue_to_other(sent.back());
  }
  CHECK(endpoint.flush().empty());
  CHECK(kernel.send.count == (zloop::test::sends_batches ? 3 : 40));
  CHECK(endpoint.other.take() == sent);
}

TEST_CASE("each datagram that waits goes to the address it names", "[loopback]") {
  UdpEndpoint endpoint;
  const UdpSocket third;
  endpoint.queue_to_other("other");
  endpoint.queue("third", Route::address, third.address);
  CHECK(endpoint.flush().empty());
  CHECK(endpoint.other.take() == Texts{"other"});
  CHECK(third.take() == Texts{"third"});
}

TEST_CASE("a datagram that the kernel refuses is dropped, and those behind it are sent", "[loopback]") {
  UdpEndpoint endpoint;
  endpoint.queue_to_other("before");
  Piece& refused = endpoint.queue_to_other(pattern(70000));
  endpoint.queue_to_other("after");
  REQUIRE(endpoint.turn());
  CHECK(endpoint.flushed == std::vector<int>{-EMSGSIZE});
  CHECK(refused.releases == 1);
  CHECK(endpoint.other.take() == Texts{"before", "after"});
}

TEST_CASE("an owner that stops at an error is called again", "[loopback]") {
  UdpEndpoint endpoint;
  Interposer kernel;
  kernel.send.errors = {EACCES};
  endpoint.queue_to_other("refused");
  endpoint.queue_to_other("sent");
  CHECK(endpoint.datagram->flush() == -EACCES);
  CHECK(endpoint.datagram->pending() == 1);
  REQUIRE(endpoint.turn());
  CHECK(endpoint.other.take() == Texts{"sent"});
  CHECK_FALSE(endpoint.turn());
}

TEST_CASE("a connected socket's datagrams are sent one by one, because each can meet another's error", "[loopback]") {
  const UdpSocket socket;
  UdpSocket peer;
  REQUIRE(::connect(socket.socket.get(), peer.address.data(), peer.address.size()) == 0);
  Endpoint endpoint(socket.socket.get());
  peer.socket.reset();
  Interposer kernel;
  for (int i = 0; i < 4; ++i) endpoint.queue("x");
  CHECK(endpoint.flush() == std::vector<int>{-ECONNREFUSED, -ECONNREFUSED});
  CHECK(kernel.send.count == 4);
  CHECK(endpoint.all_released_once());
}

TEST_CASE("a connected socket sends at once", "[linux]") {
  PairEndpoint one;
  CHECK(one.endpoint.datagram->send_now("now", 3, nullptr) == 0);
  CHECK(one.endpoint.datagram->send_now(nullptr, 0, nullptr) == 0);
  CHECK(take(one.pair.theirs.get()) == "now");
  one.pair.theirs.reset();
  CHECK(one.endpoint.datagram->send_now("late", 4, nullptr) == -ECONNREFUSED);
}

TEST_CASE("a full kernel is waited for", "[linux]") {
  PairEndpoint one;
  DatagramSocket& datagram = *one.endpoint.datagram;
  REQUIRE(one.fill() > 0);
  CHECK(datagram.send_now("x", 1, nullptr) == -EAGAIN);
  CHECK_FALSE(datagram.blocked());
  one.endpoint.queue("waits");
  one.endpoint.queue("too");
  CHECK(datagram.blocked());
  CHECK(datagram.pending() == 2);
  const Interposer kernel;
  CHECK_FALSE(one.endpoint.turn());
  CHECK(kernel.send.count == 0);
  while (take(one.pair.theirs.get()) == "x") {
  }
  REQUIRE(one.endpoint.turn());
  CHECK_FALSE(datagram.blocked());
  CHECK(take(one.pair.theirs.get()) == "waits");
  CHECK(take(one.pair.theirs.get()) == "too");
  CHECK_FALSE(one.endpoint.turn());
}

TEST_CASE("the last datagram's error ends the waiting, too", "[linux]") {
  PairEndpoint one;
  REQUIRE(one.fill() > 0);
  one.endpoint.queue("lost");
  one.pair.theirs.reset();
  REQUIRE(one.endpoint.turn());
  CHECK(one.endpoint.flushed == std::vector<int>{-ECONNREFUSED});
  one.endpoint.datagram->stop_reading();  // the kernel reports the hang-up for ever
  CHECK_FALSE(one.endpoint.turn());
}

TEST_CASE("a datagram that the owner sends keeps its place", "[loopback]") {
  UdpEndpoint endpoint;
  endpoint.queue_to_other("before");
  Piece& owners = endpoint.queue("owner's", Route::owner);
  endpoint.queue_to_other("after");
  REQUIRE(endpoint.flush() == std::vector<int>{DatagramSocket::routed_by_owner});
  CHECK(endpoint.other.take() == Texts{"before"});
  CHECK(endpoint.datagram->first().segment.reference == &owners);
  CHECK(endpoint.flush() == std::vector<int>{DatagramSocket::routed_by_owner});
  endpoint.datagram->drop_first();
  CHECK(owners.releases == 1);
  REQUIRE(endpoint.turn());
  CHECK(endpoint.other.take() == Texts{"after"});
}

TEST_CASE("an owner that found the kernel full is notified when it has room", "[linux]") {
  PairEndpoint one;
  REQUIRE(one.fill() > 0);
  one.endpoint.queue("owner's", Route::owner);
  CHECK_FALSE(one.endpoint.turn());
  while (!take(one.pair.theirs.get()).empty()) {
  }
  REQUIRE(one.endpoint.turn());
  CHECK(one.endpoint.flushed == std::vector<int>{DatagramSocket::routed_by_owner});
}

TEST_CASE("a datagram that cannot be waited with stays the caller's", "[linux]") {
  PairEndpoint one;
  one.endpoint.datagram->stop_reading();
  Piece piece("refused");
  Interposer kernel;
  kernel.poller_control.errors = {ENOMEM};
  CHECK(one.endpoint.datagram->queue({.segment = piece.segment(), .address = {}}) == -ENOMEM);
  CHECK(piece.releases == 0);
  CHECK(one.endpoint.datagram->pending() == 0);
  CHECK(one.endpoint.datagram->pending_bytes() == 0);
  CHECK_FALSE(one.endpoint.datagram->blocked());
}

TEST_CASE("what was discarded is not sent", "[loopback]") {
  UdpEndpoint endpoint;
  endpoint.queue_to_other("lost");
  endpoint.datagram->discard_pending();
  CHECK(endpoint.datagram->pending() == 0);
  CHECK(endpoint.datagram->pending_bytes() == 0);
  CHECK(endpoint.all_released_once());
  CHECK_FALSE(endpoint.turn());
  CHECK(endpoint.other.take().empty());
}

TEST_CASE("discarding ends the waiting", "[linux]") {
  PairEndpoint one;
  REQUIRE(one.fill() > 0);
  one.endpoint.queue("lost");
  one.endpoint.datagram->discard_pending();
  CHECK_FALSE(one.endpoint.datagram->blocked());
  while (!take(one.pair.theirs.get()).empty()) {
  }
  CHECK_FALSE(one.endpoint.turn());
  CHECK(one.endpoint.datagram->send_now("next", 4, nullptr) == 0);
}

TEST_CASE("a datagram that there is no memory for stays the caller's", "[loopback]") {
  UdpEndpoint endpoint;
  Piece piece("refused");
  const OutgoingDatagram datagram{
      .segment = piece.segment(),
      .route = Route::address,
      .address = endpoint.other.address,
  };
  const auto queue = [&] { return endpoint.datagram->queue(datagram); };
  CHECK_THROWS_AS(zloop::test::with_allocations(0, queue), std::bad_alloc);
  CHECK(piece.releases == 0);
  CHECK(endpoint.datagram->pending() == 0);
  CHECK(endpoint.datagram->pending_bytes() == 0);
}

// ---- the end

TEST_CASE("a closed datagram socket does nothing, and its descriptor stays open", "[loopback]") {
  UdpEndpoint endpoint;
  DatagramSocket& datagram = *endpoint.datagram;
  endpoint.queue_to_other("lost");
  const bool with_the_reactor = GENERATE(true, false);
  if (with_the_reactor) {
    endpoint.reactor.close();
    Piece behind("behind those that wait");
    CHECK(datagram.queue({.segment = behind.segment(), .address = {}}) == 0);
    datagram.discard_pending();
    CHECK(behind.releases == 1);
  } else {
    datagram.close();
    datagram.close();
  }
  CHECK_FALSE(datagram.is_open());
  CHECK_FALSE(datagram.reading());
  CHECK(endpoint.all_released_once());
  Piece piece("dropped");
  CHECK(datagram.queue({.segment = piece.segment(), .address = {}}) == -EBADF);
  CHECK(piece.releases == 0);
  CHECK(datagram.pending() == 0);
  std::array<ReceivedDatagram, DatagramSocket::batch_max> batch;
  Loan loan;
  CHECK(datagram.receive(batch.data(), loan) == -EBADF);
  CHECK(datagram.send_now("x", 1, nullptr) == -EBADF);
  CHECK(datagram.flush() == 0);
  CHECK(datagram.start_reading() == -EBADF);
  CHECK_FALSE(datagram.blocked());
  endpoint.UdpSocket::send("still open", endpoint.other.address);
  CHECK(endpoint.other.take() == Texts{"still open"});
}

TEST_CASE("an owner may end itself in each of its calls", "[loopback]") {
  const auto endpoint = std::make_unique<UdpEndpoint>();
  endpoint->on_call = [&] { endpoint->datagram.reset(); };
  const bool reading = GENERATE(true, false);
  if (reading) {
    endpoint->other.send("x", endpoint->address);
  } else {
    endpoint->queue_to_other("x");
  }
  REQUIRE(endpoint->turn());
  CHECK(endpoint->calls == 1);
  CHECK_FALSE(endpoint->turn());
}

TEST_CASE("a datagram socket's owner is the user of its descriptor") {
  PairEndpoint endpoint;
  const int fd = endpoint.pair.ours.get();
  CHECK(endpoint.endpoint.reactor.user_of(fd) == &endpoint.endpoint);
  endpoint.endpoint.datagram->close();
  CHECK(endpoint.endpoint.reactor.user_of(fd) == nullptr);
}

TEST_CASE("a descriptor that is in the loop takes no second datagram socket", "[loopback]") {
  UdpEndpoint endpoint;
  const DatagramOps nothing;
  DatagramSocket second(nothing, nullptr, nullptr);
  CHECK(second.open(endpoint.reactor, endpoint.UdpSocket::socket.get(), 1) == -EEXIST);
  CHECK_FALSE(second.is_open());
}

}  // namespace
