// The end of a forked child: it runs neither the destructors nor the exit handlers that it has inherited.
#pragma once

#include <unistd.h>

#ifdef ZLOOP_COVERAGE
extern "C" void __gcov_dump();  // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the compiler's name
#endif

namespace zloop::test {

// Writes down which lines have run, in a build that counts them: at its end a process does that in an exit handler.
inline void keep_coverage() noexcept {
#ifdef ZLOOP_COVERAGE
  __gcov_dump();
#endif
}

[[noreturn]] inline void end_child(int status) noexcept {
  keep_coverage();
  ::_exit(status);
}

}  // namespace zloop::test
