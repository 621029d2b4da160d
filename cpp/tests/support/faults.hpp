// Fault sweeps: a scenario runs once as it is, then once for each call of the kernel that it made and each way in which
// that call could have ended instead. And what there is to compare the engine with afterwards. For Linux.
#pragma once

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/interposer.hpp"
#include "support/sockets.hpp"
#include "zloop/poller.hpp"
#include "zloop/reactor.hpp"

namespace zloop::test {

// A kind of call, and how one of it may end.
struct FaultyCall {
  const char* name = "";
  Interposer::Call Interposer::* call = nullptr;
  std::array<int, 10> errors{};  // zero: no more
  bool can_be_cut = false;       // to do less than it could
};

inline constexpr FaultyCall faulty_receive = {
    .name = "receive",
    .call = &Interposer::receive,
    .errors = {EINTR, EAGAIN, ECONNRESET, ETIMEDOUT, ENOMEM, EBADF},
    .can_be_cut = true,
};
inline constexpr FaultyCall faulty_send = {
    .name = "send",
    .call = &Interposer::send,
    .errors = {EINTR, EAGAIN, EPIPE, ECONNRESET, ENOBUFS, ENOMEM, EBADF},
    .can_be_cut = true,
};
inline constexpr FaultyCall faulty_receive_datagram = {
    .name = "receive",
    .call = &Interposer::receive,
    .errors = {EINTR, EAGAIN, ECONNREFUSED, ENOMEM},
    .can_be_cut = true,
};
inline constexpr FaultyCall faulty_send_datagram = {
    .name = "send",
    .call = &Interposer::send,
    .errors = {EINTR, EAGAIN, ECONNREFUSED, EMSGSIZE, ENOBUFS, EPERM},
    .can_be_cut = true,
};
inline constexpr FaultyCall faulty_accept = {
    .name = "accept",
    .call = &Interposer::accept,
    .errors = {EINTR, EAGAIN, ECONNABORTED, EPROTO, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM, EBADF},
};
inline constexpr FaultyCall faulty_poller_add = {
    .name = "epoll_ctl(ADD)",
    .call = &Interposer::poller_add,
    .errors = {EEXIST, ENOMEM, ENOSPC, EPERM, EBADF},
};
inline constexpr FaultyCall faulty_poller_modify = {
    .name = "epoll_ctl(MOD)",
    .call = &Interposer::poller_modify,
    .errors = {ENOENT, EBADF, ENOMEM},
};
inline constexpr FaultyCall faulty_poller_remove = {
    .name = "epoll_ctl(DEL)",
    .call = &Interposer::poller_remove,
    .errors = {ENOENT, EBADF},
};
inline constexpr FaultyCall faulty_poller_wait = {
    .name = "epoll_wait",
    .call = &Interposer::poller_wait,
    .errors = {EINTR},
};
inline constexpr FaultyCall faulty_poller_open = {
    .name = "epoll_create1",
    .call = &Interposer::poller_open,
    .errors = {EMFILE, ENFILE, ENOMEM},
};
inline constexpr FaultyCall faulty_wakeup_open = {
    .name = "eventfd",
    .call = &Interposer::wakeup_open,
    .errors = {EMFILE, ENFILE, ENOMEM},
};
inline constexpr FaultyCall faulty_wakeup_write = {
    .name = "write to the wake-up",
    .call = &Interposer::wakeup_write,
    .errors = {EINTR, EAGAIN},
};

// What happens in one run of a scenario.
struct Injection {
  const FaultyCall* call = nullptr;  // none: all goes well
  Fault fault;

  // "call 3 of send: Broken pipe"
  [[nodiscard]] std::string describe() const;
  // Whether the engine may not let anybody feel it: nothing failed, or to try again is all that it takes.
  [[nodiscard]] bool is_harmless() const noexcept;
  // Whether by that answer of the poller the number stands for the watcher's file no more.
  [[nodiscard]] bool means_gone() const noexcept;
};

// One for each of so many calls, and each way in which it may end; of calls that move no data, also twice in a row, as
// the engine has an answer to the first.
std::vector<Injection> injections(const FaultyCall& faulty, int calls);

// Runs Scene(arguments...), which is set up without a fault, then its run(kernel, injection). It is to leave no
// descriptor open. How many calls of each kind a run makes is the run's without a fault.
template <typename Scene, typename... Arguments>
void sweep(const std::vector<const FaultyCall*>& kinds, const Arguments&... arguments) {
  constexpr int descriptors_max = 128;  // far more than a scene has
  const auto run = [&](const Injection& injection) {
    INFO(injection.describe());
    const std::vector<int> open_before = open_descriptors(descriptors_max);
    std::vector<int> counts;
    {
      Scene scene(arguments...);
      Interposer kernel;
      if (injection.call != nullptr) (kernel.*injection.call->call).fault = injection.fault;
      scene.run(kernel, injection);
      counts.reserve(kinds.size());
      for (const FaultyCall* kind : kinds) counts.push_back((kernel.*kind->call).count);
    }
    CHECK(open_descriptors(descriptors_max) == open_before);
    return counts;
  };
  const std::vector<int> counts = run(Injection{});
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    INFO(kinds[i]->name);
    REQUIRE(counts[i] > 0);  // else the scenario says nothing about that kind
    for (const Injection& injection : injections(*kinds[i], counts[i])) run(injection);
  }
}

// What an epoll has of a descriptor, as the kernel tells it.
struct PollerEntry {
  int fd;
  unsigned interest;  // without any bit but interest_once: silent
  std::uint64_t token;
};
std::vector<PollerEntry> poller_entries(int poller_fd);

// What the engine believes the poller to watch a descriptor for: all of `least`, and nothing beyond `most`.
struct Belief {
  int fd;
  unsigned least;
  unsigned most;
};

// What the poller watches for that the engine does not believe, or the other way round; empty if they agree.
std::string poller_mismatch(const Reactor& reactor, const std::vector<Belief>& beliefs);

}  // namespace zloop::test
