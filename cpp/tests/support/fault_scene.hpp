// What the scenes of the fault sweeps share: one turn of a reactor, the comparison with its poller, and the number of
// attempts. Linux only.
#pragma once

#include <cerrno>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/faults.hpp"
#include "zloop/reactor.hpp"

namespace zloop::test {

inline constexpr int attempts_max = 4;  // a fault occurs at most twice in a row
inline constexpr int turns_max = 200;

// Polls without blocking, and dispatches. A fault may interrupt the wait.
inline void turn(Reactor& reactor) {
  const int count = reactor.wait(0);
  if (count < 0 && count != -EINTR) FAIL_CHECK("a wait() fails: " << -count);
  reactor.dispatch();
}

// Here and above, one assertion for every call would take most of the time.
inline void check_poller(const Reactor& reactor, const std::vector<Expectation>& expectations) {
  const std::string mismatch = poller_mismatch(reactor, expectations);
  if (!mismatch.empty()) FAIL_CHECK(mismatch);
}

inline std::vector<const FaultyCall*> with_poller(const FaultyCall& kind) {
  return {
      &kind,
      &faulty_poller_add,
      &faulty_poller_modify,
      &faulty_poller_wait,
  };
}

}  // namespace zloop::test
