// What the scenes of the fault sweeps share: one turn of a reactor, the comparison with its poller, and how often they
// try again. For Linux.
#pragma once

#include <cerrno>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/faults.hpp"
#include "zloop/reactor.hpp"

namespace zloop::test {

inline constexpr int patience = 4;  // attempts: a fault comes twice in a row at most
inline constexpr int turns_max = 200;

// Polls without blocking, and dispatches. A fault may interrupt the wait.
inline void turn(Reactor& reactor) {
  const int count = reactor.wait(0);
  if (count < 0 && count != -EINTR) FAIL_CHECK("a wait() fails: " << -count);
  reactor.dispatch();
}

// Here and above, an assertion for every call would take most of the time.
inline void check_poller(const Reactor& reactor, const std::vector<Belief>& beliefs) {
  const std::string mismatch = poller_mismatch(reactor, beliefs);
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
