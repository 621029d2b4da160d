// Properties of the system that the tests run on; support/platform/ has a file for each system.
#pragma once

#include <ctime>
#include <memory>
#include <vector>

#include "zloop/poller.hpp"

namespace zloop::test {

// The clock of Python's time.monotonic().
extern const clockid_t monotonic_clock;

// The errors of accept(2) for a connection that failed before it was accepted.
std::vector<int> errors_before_accept();

struct PollerBackend {
  const char* name;
  std::unique_ptr<Poller> (*make)() noexcept;
};

// All backends that can run on this system.
std::vector<PollerBackend> poller_backends();

// True if pthread_exit() certainly unwinds the stack.
extern const bool exit_unwinds;

// True if one system call sends several datagrams.
extern const bool sends_batches;

}  // namespace zloop::test
