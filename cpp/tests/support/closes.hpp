// Linux: the calls of close(2), the engine's and the tests', that found no open descriptor.
#pragma once

namespace zloop::test {

// How many there were so far in this process. Such a call does no harm by itself; but where another thread has opened
// a file meanwhile, it closes that one.
int closes_of_nothing() noexcept;

}  // namespace zloop::test
