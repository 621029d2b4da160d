// What must hold in a test or in a fuzz target, which has no Catch2 around it: the process aborts where it does not.
#pragma once

#include <cstdlib>
#include <iostream>

namespace zloop::test {

inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::cerr << "does not hold: " << what << std::endl;  // NOLINT(performance-avoid-endl): the process ends here
  std::abort();
}

}  // namespace zloop::test
