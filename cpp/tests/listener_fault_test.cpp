// Every system call of a listener fails in each way that it has: no connection is lost, and no descriptor stays open.
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/fault_scene.hpp"
#include "support/faults.hpp"
#include "support/interposer.hpp"
#include "support/sockets.hpp"
#include "zloop/listener.hpp"
#include "zloop/reactor.hpp"
#include "zloop/sys.hpp"

namespace {

using zloop::interest_exclusive;
using zloop::interest_none;
using zloop::interest_read;
using zloop::Listener;
using zloop::ListenerOps;
using zloop::Reactor;
using zloop::test::attempts_max;
using zloop::test::check_poller;
using zloop::test::Expectation;
using zloop::test::Fd;
using zloop::test::Injection;
using zloop::test::Interposer;
using zloop::test::put;
using zloop::test::sweep;
using zloop::test::take;
using zloop::test::turn;
using zloop::test::turns_max;
using zloop::test::with_poller;

constexpr std::size_t few = 100;  // bytes

struct ListenerScene {
  explicit ListenerScene(bool shares = false) : shared(shares) {
    listener.set_shared(shared);
    const sockaddr family{.sa_family = AF_UNIX, .sa_data = {}};
    REQUIRE(::bind(listening.get(), &family, sizeof(family.sa_family)) == 0);  // the kernel finds a name
    REQUIRE(::listen(listening.get(), 100) == 0);
    REQUIRE(zloop::sys::local_address(listening.get(), &name, &name_size) == 0);
    REQUIRE(reactor.open() == 0);
    REQUIRE(listener.open(reactor, listening.get(), 3) == 0);
  }

  void run(Interposer& /*kernel*/, const Injection& injection) {
    injected = injection;
    start();
    for (const int count : {1, 4, 3}) {
      connect(count);
      for (int i = 0; i < turns_max && goes_on() && accepted.size() < clients.size(); ++i) {
        turn(reactor);
        if (is_paused) start();
      }
    }
    listener.pause();
    is_paused = true;
    goes_on();
    connect(1);
    for (int i = 0; i < attempts_max; ++i) turn(reactor);
    const bool was_lost = !listener.is_open();
    if (!was_lost) CHECK(accepted.size() + 1 == clients.size());
    listener.close();
    check_poller(reactor, {});
    // Each connection once, in order: an error of accept(2) costs none.
    for (std::size_t i = 0; i < accepted.size(); ++i) CHECK(take(accepted[i].get(), few) == std::to_string(i));
  }

  void start() {
    for (int i = 0; i < attempts_max; ++i) {
      if (!goes_on()) return;
      const int status = listener.start();
      is_paused = status < 0;
      if (status == 0) break;
      CHECK_FALSE(injected.is_harmless());
      CHECK((status == -injected.fault.error || status == -EBADF));
    }
    if (goes_on()) CHECK_FALSE(is_paused);
  }

  void connect(int count) {
    for (int i = 0; i < count; ++i) {
      const Fd& client = clients.emplace_back(zloop::test::make_socket(AF_UNIX, SOCK_STREAM));
      REQUIRE(::connect(client.get(), reinterpret_cast<const sockaddr*>(&name), name_size) == 0);
      put(client.get(), std::to_string(clients.size() - 1));
    }
  }

  bool goes_on() {
    if (listener.lost()) {
      CHECK(injected.means_gone());
      listener.close();
    }
    const unsigned interest = is_paused ? interest_none : interest_read;
    const unsigned place = is_paused || !shared ? interest_none : interest_exclusive;
    std::vector<Expectation> expectations;
    if (listener.is_open())
      expectations.push_back({.fd = listening.get(), .least = interest, .most = interest | place});
    check_poller(reactor, expectations);
    return listener.is_open();
  }

  static void on_accept(void* owner, int fd, const sockaddr_storage& /*peer*/, socklen_t /*peer_size*/) noexcept {
    static_cast<ListenerScene*>(owner)->accepted.emplace_back(fd);
  }

  static void on_error(void* owner, int error) noexcept {
    auto& self = *static_cast<ListenerScene*>(owner);
    CHECK(error == self.injected.fault.error);
    CHECK_FALSE(self.injected.is_harmless());
    CHECK_FALSE(zloop::sys::failed_before_accept(error));
    self.is_paused |= Listener::out_of_resources(error);
  }

  static constexpr ListenerOps ops{.on_accept = &ListenerScene::on_accept, .on_error = &ListenerScene::on_error};

  Injection injected;
  Fd listening = zloop::test::make_socket(AF_UNIX, SOCK_STREAM);
  sockaddr_storage name{};
  socklen_t name_size = 0;
  Reactor reactor;
  Listener listener{ops, this};
  std::vector<Fd> clients;
  std::vector<Fd> accepted;
  const bool shared;
  bool is_paused = true;
};

struct SharedListenerScene : ListenerScene {
  SharedListenerScene() : ListenerScene(true) {}
};

TEST_CASE("a listener loses no connection by a fault") {
  sweep<ListenerScene>(with_poller(zloop::test::faulty_accept));
}

TEST_CASE("a listener that shares its socket loses no connection by a fault") {
  sweep<SharedListenerScene>(with_poller(zloop::test::faulty_accept));
}

}  // namespace
