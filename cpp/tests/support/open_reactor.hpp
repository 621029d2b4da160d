// A reactor that is open from the beginning.
#pragma once

#include "support/catch.hpp"
#include "zloop/reactor.hpp"

namespace zloop::test {

struct OpenReactor : Reactor {
  OpenReactor() { REQUIRE(open() == 0); }

  // Polls without blocking, and dispatches. How many events there were, or -errno.
  int turn() {
    const int count = wait(0);
    dispatch();
    return count;
  }
};

}  // namespace zloop::test
