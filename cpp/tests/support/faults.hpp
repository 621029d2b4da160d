// Fault sweeps: a scenario runs once without a fault, then once for each of its system calls and each fault that the
// call can have. Also the comparison of the engine with the kernel afterwards. Linux only.
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
#include "zloop/poller_entries.hpp"
#include "zloop/reactor.hpp"

namespace zloop::test {

// A kind of system call, and its possible faults.
struct FaultyCall {
  const char* name = "";
  Interposer::Call Interposer::* call = nullptr;
  std::array<int, 10> errors{};  // zero: end of the list
  bool can_be_cut = false;       // it can transfer less than it could
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

// The fault in one run of a scenario.
struct Injection {
  const FaultyCall* call = nullptr;  // null: no fault
  Fault fault;

  // "call 3 of send: Broken pipe"
  [[nodiscard]] std::string describe() const;
  // True if the fault must have no visible effect: no call failed, or a repetition is sufficient.
  [[nodiscard]] bool is_harmless() const noexcept;
  // True if the error, returned by the poller, means that the number no longer refers to the watcher's file.
  [[nodiscard]] bool means_gone() const noexcept;
};

// One injection for each of `calls` calls and each fault. Calls that move no data also fail twice in a row, because the
// engine handles the first failure.
std::vector<Injection> injections(const FaultyCall& faulty, int calls);

// For each fault, constructs Scene(arguments...) without it, then calls its run(kernel, injection). The scene must
// leave no descriptor open. The number of calls of each kind is that of a run without a fault.
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
    REQUIRE(counts[i] > 0);  // otherwise the scenario does not test that kind
    for (const Injection& injection : injections(*kinds[i], counts[i])) run(injection);
  }
}

// What the kernel watches for the reactor; a failure of the test if it does not say.
std::vector<PollerEntry> poller_entries(int poller_fd);

// What the engine expects the poller to watch a descriptor for: all bits of `least`, and none beyond `most`.
struct Expectation {
  int fd;
  unsigned least;
  unsigned most;
};

// Describes the differences between the poller's entries and the expectations; empty if there are none.
std::string poller_mismatch(const Reactor& reactor, const std::vector<Expectation>& expectations);

}  // namespace zloop::test
