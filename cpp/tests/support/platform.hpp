// What the tests have to know of the system they run on; a file in support/platform/ for each says it.
#pragma once

#include <ctime>
#include <memory>
#include <vector>

#include "zloop/poller.hpp"

namespace zloop::test {

// Python's time.monotonic() is made of this clock.
extern const clockid_t monotonic_clock;

// The errors by which accept(2) tells that a connection failed before anybody looked at it.
std::vector<int> stillborn_errors();

struct PollerBackend {
  const char* name;
  std::unique_ptr<Poller> (*make)() noexcept;
};

// All that can run here.
std::vector<PollerBackend> poller_backends();

// Whether it is certain that pthread_exit() unwinds the stack.
extern const bool exit_unwinds;

// Whether one call sends several datagrams.
extern const bool sends_batches;

}  // namespace zloop::test
