// Every system call of a datagram socket fails, or does less than it was asked for, in each way that it has: no
// datagram is lost, doubled or out of order, but the one that the fault names.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <deque>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/fault_scene.hpp"
#include "support/faults.hpp"
#include "support/interposer.hpp"
#include "support/piece.hpp"
#include "support/sockets.hpp"
#include "zloop/datagram.hpp"
#include "zloop/reactor.hpp"
#include "zloop/sys.hpp"

namespace {

using zloop::DatagramOps;
using zloop::DatagramSocket;
using zloop::interest_none;
using zloop::interest_read;
using zloop::interest_write;
using zloop::Loan;
using zloop::Reactor;
using zloop::ReceivedDatagram;
using zloop::Route;
using zloop::test::attempts_max;
using zloop::test::check_poller;
using zloop::test::Expectation;
using zloop::test::Injection;
using zloop::test::Interposer;
using zloop::test::make_pair;
using zloop::test::Pair;
using zloop::test::Piece;
using zloop::test::put;
using zloop::test::sweep;
using zloop::test::take;
using zloop::test::turn;
using zloop::test::turns_max;
using zloop::test::with_poller;

constexpr std::size_t few = 100;  // bytes

using Texts = std::vector<std::string>;

// A datagram socket whose owner receives and sends on request, and records the results.
struct DatagramScene {
  explicit DatagramScene(Pair ends) : pair(std::move(ends)) {
    REQUIRE(reactor.open() == 0);
    REQUIRE(datagram.open(reactor, pair.ours.get(), 1000) == 0);
  }

  void start_reading() {
    insist([&] { return datagram.start_reading(); });
    CHECK(datagram.reading() == datagram.is_open());
  }

  // What cannot be is asked for again, unless the socket is lost.
  template <typename Request>
  void insist(Request request) {
    int status = -1;
    for (int i = 0; i < attempts_max && status < 0 && goes_on(); ++i) {
      status = request();
      if (status < 0) CHECK_FALSE(injected.is_harmless());
      if (status < 0) CHECK((status == -injected.fault.error || (injected.means_gone() && status == -EBADF)));
    }
    if (goes_on()) CHECK(status >= 0);
  }

  // False when the socket is lost.
  bool goes_on() {
    if (datagram.lost()) {
      CHECK(injected.means_gone());
      datagram.close();
    }
    std::vector<Expectation> expectations;
    if (datagram.is_open()) {
      const unsigned interest =
          (datagram.reading() ? interest_read : interest_none) | (datagram.blocked() ? interest_write : interest_none);
      expectations.push_back({.fd = pair.ours.get(), .least = interest, .most = interest});
    }
    check_poller(reactor, expectations);
    return datagram.is_open();
  }

  template <typename Condition>
  void turn_until(Condition condition) {
    for (int i = 0; i < turns_max && goes_on() && !condition(); ++i) turn(reactor);
    if (goes_on()) CHECK(condition());
  }

  void give(int count) {
    for (int i = 0; i < count; ++i) put(pair.theirs.get(), given.emplace_back(next_text()));
  }

  std::string next_text() { return "datagram " + std::to_string(++texts_made); }

  Piece& piece_of(std::string text) { return pieces.emplace_back(std::move(text)); }

  // Sends at once where it can, else queues; `sent` is what will arrive.
  void send(Route route, const zloop::Address& address) {
    Piece& piece = piece_of(next_text());
    const int status =
        datagram.send_now(piece.bytes.data(), piece.bytes.size(), route == Route::address ? &address : nullptr);
    if (status == 0) sent.push_back(piece.bytes);
    if (status != -EAGAIN) {
      Piece::release(&piece);
      if (status < 0) CHECK((status == -injected.fault.error || status == -EBADF));
      return;
    }
    queue(piece, route, address);
  }

  void queue(Piece& piece, Route route, const zloop::Address& address) {
    bool has_taken = false;
    insist([&] {
      const std::size_t before = datagram.pending();
      const int status = datagram.queue({.segment = piece.segment(), .route = route, .address = address});
      has_taken = status == 0;
      CHECK(datagram.pending() == before + (has_taken ? 1 : 0));
      return status;
    });
    if (has_taken) {
      sent.push_back(piece.bytes);
    } else {
      Piece::release(&piece);
    }
  }

  void flush() {
    for (;;) {
      const std::size_t in_queue = datagram.pending();
      const int status = datagram.flush();
      if (status == 0) return;
      // The one that failed is gone, and no other.
      CHECK(status == -injected.fault.error);
      CHECK(datagram.pending() < in_queue);
      sent.erase(sent.end() - static_cast<std::ptrdiff_t>(datagram.pending()) - 1);
    }
  }

  void finish() {
    datagram.close();
    CHECK(std::ranges::all_of(pieces, [](const Piece& piece) { return piece.releases == 1; }));
    CHECK(datagram.pending() == 0);
    CHECK(datagram.pending_bytes() == 0);
    check_poller(reactor, {});
  }

  Injection injected;
  Reactor reactor;
  Pair pair;
  std::deque<Piece> pieces;
  Texts given;
  Texts received;
  Texts sent;  // that are to arrive
  std::vector<int> errors;
  DatagramSocket datagram{ops, &Piece::release, this};

  static void on_readable(void* owner) noexcept {
    auto& self = *static_cast<DatagramScene*>(owner);
    std::array<ReceivedDatagram, DatagramSocket::batch_max> batch;
    Loan loan;
    const int count = self.datagram.receive(batch.data(), loan);
    if (count < 0 && count != -EAGAIN) self.errors.push_back(-count);
    for (int i = 0; i < count; ++i) {
      const ReceivedDatagram& one = batch.at(static_cast<std::size_t>(i));
      self.received.emplace_back(one.data, one.size);
    }
  }

  static void on_writable(void* owner) noexcept { static_cast<DatagramScene*>(owner)->flush(); }

  static constexpr DatagramOps ops{
      .on_readable = &DatagramScene::on_readable,
      .on_writable = &DatagramScene::on_writable,
  };

  int texts_made = 0;
};

struct ReceivingScene : DatagramScene {
  ReceivingScene() : DatagramScene(make_pair(SOCK_DGRAM)) {}

  void run(Interposer& /*kernel*/, const Injection& injection) {
    injected = injection;
    start_reading();
    // More and more are asked for at once, then fewer.
    for (const int count : {1, 2, 4, 8, 8, 3, 1, 1}) {
      give(count);
      turn_until([&] { return received.size() == given.size(); });
      datagram.stop_reading();
      goes_on();
      start_reading();
    }
    // An error of receiving costs none of them.
    CHECK(received.size() <= given.size());
    CHECK(std::ranges::equal(received, given | std::views::take(received.size())));
    if (injected.is_harmless()) CHECK(errors.empty());
    CHECK(std::ranges::all_of(errors, [&](int error) { return error == injected.fault.error; }));
    finish();
  }
};

TEST_CASE("a datagram socket that receives loses nothing by a fault") {
  sweep<ReceivingScene>(with_poller(zloop::test::faulty_receive_datagram));
}

struct SendingScene : DatagramScene {
  explicit SendingScene(Route to) : DatagramScene(ends_for(to)), route(to) {
    if (to != Route::address) return;
    sockaddr_storage bound{};
    socklen_t size = 0;
    REQUIRE(zloop::sys::local_address(pair.theirs.get(), &bound, &size) == 0);
    address = zloop::Address(bound, size);
  }

  void run(Interposer& kernel, const Injection& injection) {
    injected = injection;
    const int more = route == Route::address ? 20 : 5;  // those to an address leave many at a time
    for (int i = 0; i < 3; ++i) send(route, address);
    take_all();
    for (int i = 0; i < 2; ++i) {
      // Until the kernel is full, and some more.
      kernel.send.errors = {0, 0, EAGAIN};
      for (int j = 0; j < 3; ++j) send(route, address);
      for (int j = 0; j < more && datagram.is_open(); ++j) queue(piece_of(next_text()), route, address);
      turn_until([&] {
        take_all();
        return datagram.pending() == 0;
      });
      if (datagram.is_open()) CHECK_FALSE(datagram.blocked());
    }
    take_all();
    if (datagram.is_open()) {
      CHECK(taken == sent);
    } else {
      CHECK(taken.size() <= sent.size());
      CHECK(std::ranges::equal(taken, sent | std::views::take(taken.size())));
    }
    if (datagram.is_open()) queue(piece_of(next_text()), route, address);
    datagram.discard_pending();
    goes_on();
    finish();
  }

  static Pair ends_for(Route to) {
    if (to == Route::peer) return make_pair(SOCK_DGRAM);
    Pair ends{
        .ours = zloop::test::make_socket(AF_INET, SOCK_DGRAM),
        .theirs = zloop::test::make_socket(AF_INET, SOCK_DGRAM),
    };
    zloop::Address any;
    any.parse("127.0.0.1", 0, AF_INET);
    REQUIRE(::bind(ends.theirs.get(), any.data(), any.size()) == 0);
    return ends;
  }

  void take_all() {
    for (std::string text = take(pair.theirs.get(), few); !text.empty(); text = take(pair.theirs.get(), few)) {
      taken.push_back(std::move(text));
    }
  }

  Route route;
  zloop::Address address;
  Texts taken;
};

TEST_CASE("a datagram socket that sends loses what a fault names, and nothing else") {
  sweep<SendingScene>(with_poller(zloop::test::faulty_send_datagram), Route::peer);
}

TEST_CASE("a datagram socket that sends to an address loses what a fault names, and nothing else", "[loopback]") {
  sweep<SendingScene>(with_poller(zloop::test::faulty_send_datagram), Route::address);
}

}  // namespace
